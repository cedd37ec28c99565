"""The worker's loop, in the test's own process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from kansearch.data.splits import load_split
from kansearch.specs.data import DataSpec
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records
from kansearch.training.pack import Pack
from kansearch.worker.loop import BrokenStudyError, work


@pytest.fixture
def make(make_study: Callable[..., StoredStudy]) -> Callable[..., StoredStudy]:
    digest = load_split(DataSpec(name="multi_sine", n_train=64, n_validation=32, n_test=32)).digest
    return lambda *overrides: make_study(*overrides, digest=digest)


def stop() -> Any:
    """Nobody asks this worker to stop."""
    return SimpleNamespace(requested=False, interruptible=nullcontext, sleep=time.sleep)


def test_a_worker_for_which_memory_never_suffices_ends_at_the_ceiling_of_failures(
    make: Callable[..., StoredStudy],
) -> None:
    """Not as if the budget were done; and each trial says why it failed."""

    class Full(Pack):
        def admit(self, *_: object) -> int:
            raise MemoryError("cannot allocate")

    study = make("budget.failures=5")
    with pytest.raises(BrokenStudyError, match="5 trials failed"):
        work(study, 0, stop(), size=2, open_pack=Full)
    records = read_records(study)
    assert {record.state for record in records} == {"fail"}
    assert {record.reason for record in records} == {"out of memory: MemoryError"}
