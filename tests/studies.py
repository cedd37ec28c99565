"""Searching in the test's own process, and looking at what others search."""

from __future__ import annotations

import functools
from pathlib import Path

from kansearch.data.splits import Split, load_split
from kansearch.search.objective import StudyPack
from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage


def search(study: StoredStudy, split: Split | None = None, size: int = 1) -> StoredStudy:
    """Spend a study's budget."""
    pack = StudyPack(study, split or load_split(study.spec.data), size=size)
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
