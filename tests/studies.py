"""Searching in the test's own process."""

from __future__ import annotations

from kansearch.data.splits import Split, load_split
from kansearch.search.objective import claim, run_trial
from kansearch.storage.ledger import BudgetSpentError
from kansearch.storage.studies import StoredStudy


def search(study: StoredStudy, split: Split | None = None) -> StoredStudy:
    """Spend a study's budget."""
    split = split or load_split(study.spec.data)
    try:
        while True:
            run_trial(study, claim(study, split, worker=0), split)
    except BudgetSpentError:
        return study
