"""Searching in the test's own process, and looking at what others search."""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from kansearch.data.splits import Split, load_split
from kansearch.search.study_pack import OpenPack, StudyPack
from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from kansearch.training.pack import Pack


def search(study: StoredStudy, split: Split | None = None, size: int = 1, open_pack: OpenPack = Pack) -> StoredStudy:
    """Spend a study's budget."""
    pack = StudyPack(study, split or load_split(study.spec.data), size=size, open_pack=open_pack)
    pack.fill()
    while pack.trials:
        pack.advance()
        pack.fill()
    return study


def records_in(folder: Path, name: str = "small") -> tuple[TrialRecord, ...]:
    """Of a study that a command makes in a folder; none while it does not exist."""
    if not (folder / "kansearch.db").exists():
        return ()
    try:
        return read_records(_study_in(folder, name))
    except Exception:  # noqa: BLE001 - its tables are being made
        return ()


@functools.cache  # for whoever looks again and again
def _study_in(folder: Path, name: str) -> StoredStudy:
    return load_study(open_storage(f"sqlite:///{folder / 'kansearch.db'}"), name)


def copied_storage(folder: Path) -> str:
    """An empty storage in a folder, in a moment: its tables were made once for all tests of a process."""
    (folder / "kansearch.db").write_bytes(_empty_storage())
    return f"sqlite:///{folder / 'kansearch.db'}"


@functools.cache
def _empty_storage() -> bytes:
    with TemporaryDirectory() as folder:
        open_storage(f"sqlite:///{folder}/empty.db")
        with closing(sqlite3.connect(f"{folder}/empty.db")) as empty:
            return empty.serialize()
