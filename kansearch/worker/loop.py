"""The worker's loop: fill a pack with trials, train it, until the budget is spent or somebody asks us to stop."""

from __future__ import annotations

import contextlib
import time
import traceback

import torch
from optuna.trial import TrialState

from kansearch.errors import DataError, KansearchError
from kansearch.search.data import load_study_split
from kansearch.search.objective import BROKEN, StudyPack, describe
from kansearch.search.pack_size import pack_size
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import Heartbeat, count_states, hand_back, rescue_lost_trials
from kansearch.training.pack import CPU
from kansearch.worker.signals import StopRequestedError, StopSignals

WAIT_S = 0.5
"""Between two looks at the trials of others, when the budget is claimed but not yet done."""

LOOK_S = 2.0
"""Between two looks for trials that lost their worker, while there are trials of our own."""


class BrokenStudyError(KansearchError):
    """So many trials failed that going on would only waste time."""

    exit_code = 2


def work(
    study: StoredStudy, number: int, stop: StopSignals, size: int | None = None, device: torch.device = CPU
) -> None:
    """Train trials of a study until its budget is done.

    Args:
        study: Of the trials.
        number: Of this worker; it decides its stream of random draws.
        stop: Who may ask us to end before that.
        size: Trials that are trained together; None lets the networks of the space decide.
        device: On which they are trained.

    Raises:
        BrokenStudyError: If the study's ceiling of failures is reached.
        DataError: If the data changed since the study began.
        UserError: If no network of the space keeps to the limits.
    """
    # One thread: these networks are small, and pools of threads on shared cores were seen to fight each other.
    torch.set_num_threads(1)
    split = load_study_split(study.spec)
    if split.digest != study.data_digest:
        raise DataError(f'the data of study "{study.spec.name}" changed since it began; its trials would not compare')
    pack = StudyPack(study, split, number, size or pack_size(study.spec, split, device), device)
    next_look = 0.0
    try:
        with Heartbeat(study) as heartbeat:
            while not stop.requested:
                if time.monotonic() >= next_look or not pack.trials:
                    rescue_lost_trials(study, ours=heartbeat.trial_ids)
                    _refuse_broken(study)
                    next_look = time.monotonic() + LOOK_S
                pack.fill()
                heartbeat.trial_ids = frozenset(trial.id for trial in pack.trials)
                if pack.trials:
                    _advance(pack, stop)
                elif study.trials(TrialState.RUNNING, TrialState.WAITING):
                    # A trial of another worker may still be lost and come back: the last to leave finishes last.
                    time.sleep(WAIT_S)
                elif pack.budget_left <= 0:
                    return
                # Else all that began here failed; the ceiling of failures ends that.
    finally:
        for trial in pack.trials:
            why = "its worker was asked to stop" if stop.requested else "its worker gave up"
            hand_back(study, trial.id, why, died=False)


def _advance(pack: StudyPack, stop: StopSignals) -> None:
    # Whoever asks us to stop finds the trials in the pack, from which they are handed back.
    with contextlib.suppress(StopRequestedError):
        try:
            pack.advance(stop.interruptible)
        except BROKEN as error:
            traceback.print_exc()
            pack.fail(describe(error))


def _refuse_broken(study: StoredStudy) -> None:
    failures = study.spec.budget.failures
    if count_states(study)["broken"] >= failures:
        raise BrokenStudyError(
            f'study "{study.spec.name}" stopped: {failures} trials failed (budget.failures); '
            f"`kansearch status {study.spec.name}` shows why"
        )
