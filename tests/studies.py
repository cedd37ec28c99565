"""Searching in the test's own process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

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
    (folder / "kansearch.db").write_bytes(_empty_storage())
    return f"sqlite:///{folder / 'kansearch.db'}"


@cache
def _empty_storage() -> bytes:
    with TemporaryDirectory() as folder:
        open_storage(f"sqlite:///{folder}/empty.db")
        with closing(sqlite3.connect(f"{folder}/empty.db")) as empty:
            return empty.serialize()
