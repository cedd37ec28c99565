"""Searching in the test's own process."""

from __future__ import annotations

from kansearch.data.splits import Split, load_split
from kansearch.search.objective import StudyPack
from kansearch.storage.studies import StoredStudy


def search(study: StoredStudy, split: Split | None = None, size: int = 1) -> StoredStudy:
    """Spend a study's budget."""
    pack = StudyPack(study, split or load_split(study.spec.data), size=size)
    pack.fill()
    while pack.trials:
        pack.advance()
        pack.fill()
    return study
