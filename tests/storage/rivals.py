"""Processes that do the same thing at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from optuna.distributions import FloatDistribution

from kansearch.storage.ledger import BudgetSpentError
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.trials import Candidate, begin_trials, rescue_lost_trials, resume_trial
from kansearch.storage.url import open_storage
from tests.commands import FORKS, PATIENCE_S

_together: Any = None


def at_once(n: int, act: Callable[[str], Any], url: str) -> list[Any]:
    """What so many processes find that each do something to a storage."""
    with ProcessPoolExecutor(n, FORKS, _meet, (FORKS.Barrier(n, timeout=PATIENCE_S),)) as processes:
        return list(processes.map(act, [url] * n))


def open_it(url: str) -> bool:
    """Make its tables, if nobody has."""
    _together.wait()
    open_storage(url).close()
    return True


def claim_all(url: str) -> int:
    """Begin trials of the small study until there are no more; returns how many."""
    draw = Candidate({"x": 0.5}, {"x": FloatDistribution(0, 1)}, seed=0, rejected=0, system_attrs={})
    n = 0
    with _small(url) as study:
        try:
            while True:
                n += len(begin_trials(study, [draw] * 3, n_seen=len(study.trials())))
        except BudgetSpentError:
            return n


def resume_one(url: str) -> bool:
    """Take a trial that waits; returns whether there was one."""
    with _small(url) as study:
        return resume_trial(study) is not None


def rescue(url: str) -> int:
    """Hand back trials of the dead; returns how many."""
    with _small(url) as study:
        return rescue_lost_trials(study)


@contextmanager
def _small(url: str) -> Iterator[StoredStudy]:
    study = load_study(open_storage(url), "small")
    study.storage.get_all_trials(study.study_id)
    _together.wait()
    yield study
    study.storage.close()


def _meet(barrier: Any) -> None:
    global _together  # noqa: PLW0603 - of this process
    _together = barrier
