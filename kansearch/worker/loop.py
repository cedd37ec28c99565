"""The worker's loop: claim a trial, train it, until the budget is spent or somebody asks us to stop."""

from __future__ import annotations

import contextlib
import time
import traceback

import torch

from kansearch.data.splits import Split, load_split
from kansearch.errors import DataError, KansearchError
from kansearch.search.objective import claim, run_trial
from kansearch.storage.ledger import BudgetSpentError
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import (
    RunningTrial,
    TrialLostError,
    count_states,
    fail_trial,
    hand_back,
    heartbeat,
    rescue_lost_trials,
)
from kansearch.worker.signals import StopRequestedError, StopSignals

WAIT_S = 0.5
"""Between two looks at the trials of others, when the budget is claimed but not yet done."""


class BrokenStudyError(KansearchError):
    """So many trials failed that going on would only waste time."""

    exit_code = 2


def work(study: StoredStudy, number: int, stop: StopSignals) -> None:
    """Train trials of a study until its budget is done.

    Args:
        study: Of the trials.
        number: Of this worker; it decides its stream of random draws.
        stop: Who may ask us to end before that.

    Raises:
        BrokenStudyError: If the study's ceiling of failures is reached.
        DataError: If the data changed since the study began.
    """
    # One thread: these networks are small, and pools of threads on shared cores were seen to fight each other.
    torch.set_num_threads(1)
    split = load_split(study.spec.data)
    if split.digest != study.data_digest:
        raise DataError(f'the data of study "{study.spec.name}" changed since it began; its trials would not compare')
    while not stop.requested:
        rescue_lost_trials(study)
        _refuse_broken(study)
        try:
            trial = claim(study, split, number)
        except BudgetSpentError:
            # A trial of another worker may still be lost and come back, so the last one to leave is the last to finish.
            if not count_states(study)["running"] or stop.requested:
                return
            time.sleep(WAIT_S)
        else:
            _train(study, trial, split, stop)


def _train(study: StoredStudy, trial: RunningTrial, split: Split, stop: StopSignals) -> None:
    # Whatever we wanted to write of a trial that was handed back meanwhile, its second try counts.
    with contextlib.suppress(TrialLostError):
        _train_or_fail(study, trial, split, stop)


def _train_or_fail(study: StoredStudy, trial: RunningTrial, split: Split, stop: StopSignals) -> None:
    try:
        with heartbeat(study, trial):
            run_trial(study, trial, split, stop.interruptible)
    except StopRequestedError:
        hand_back(study, trial.id, "its worker was asked to stop", died=False)
    except TrialLostError:
        raise
    except MemoryError:
        fail_trial(study, trial, "out of memory")
    except (RuntimeError, ValueError, ArithmeticError) as error:
        # A trial that breaks is a result with a reason; the study's ceiling of failures bounds them.
        traceback.print_exc()
        fail_trial(study, trial, f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}")


def _refuse_broken(study: StoredStudy) -> None:
    failures = study.spec.budget.failures
    if count_states(study)["broken"] >= failures:
        raise BrokenStudyError(
            f'study "{study.spec.name}" stopped: {failures} trials failed (budget.failures); '
            f"`kansearch status {study.spec.name}` shows why"
        )
