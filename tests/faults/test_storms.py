"""Storms: many workers on one database, of which one after the other is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from .crew import run_storm

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_a_storm_loses_nothing(database_url: str, tmp_path: Path) -> None:
    """8 workers, 150 trials, one worker killed every 0.5 s: the budget is exact, and all invariants hold."""
    happened = run_storm(tmp_path, database_url, workers=8, trials=150, kill_every_s=0.5)
    assert happened["killed"] >= 5
