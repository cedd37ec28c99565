"""What tests of the search share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import copied_storage


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """A storage of the test's own."""
    return copied_storage(tmp_path)
