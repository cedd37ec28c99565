"""Storms: many workers on one database, of which one after the other is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from .crew import run_storm

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_a_storm_loses_nothing(database_url: str, tmp_path: Path) -> None:
    """16 workers, 500 trials, one worker killed every 2 s: the budget is exact, and all invariants hold."""
    happened = run_storm(tmp_path, database_url)
    assert happened["killed"] >= 5
