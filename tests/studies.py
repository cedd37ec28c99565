"""Searching in the test's own process."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from kansearch.data.splits import Split, load_split
from kansearch.search.objective import StudyPack
from kansearch.storage.studies import StoredStudy
from kansearch.storage.url import open_storage


def search(study: StoredStudy, split: Split | None = None, size: int = 1) -> StoredStudy:
    """Spend a study's budget."""
    pack = StudyPack(study, split or load_split(study.spec.data), size=size)
    pack.fill()
    while pack.trials:
        pack.advance()
        pack.fill()
    return study


def copied_storage(folder: Path) -> str:
    """An empty storage in a folder, in a moment: its tables were made once for all tests of a process."""
    with closing(sqlite3.connect(_empty_storage())) as empty, closing(sqlite3.connect(folder / "kansearch.db")) as own:
        empty.backup(own)
    return f"sqlite:///{folder / 'kansearch.db'}"


@cache
def _empty_storage() -> str:
    path = f"{tempfile.mkdtemp()}/empty.db"
    open_storage(f"sqlite:///{path}")
    return path
