"""The worker's loop: fill a pack with trials, train it, until the budget is spent or somebody asks us to stop."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from kansearch.data.splits import Split
from kansearch.errors import KansearchError
from kansearch.search.data import load_known_split
from kansearch.search.pack_size import pack_size
from kansearch.search.study_pack import BROKEN, OpenPack, StudyPack, describe
from kansearch.storage.artifacts import artifacts_at, sweep
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import rescue_lost_trials
from kansearch.storage.workers import Presence
from kansearch.training.pack import CPU, Pack
from kansearch.training.speed import what_trains
from kansearch.worker.signals import StopRequestedError, StopSignals

WAIT_S = 0.5
"""Between two looks at the trials of others, when the budget is claimed but not yet done."""

LOOK_S = 2.0
"""Between two looks at what others do, while there are trials of our own."""


class BrokenStudyError(KansearchError):
    """So many trials failed that going on would only waste time."""

    exit_code = 2


def work(
    study: StoredStudy,
    number: int,
    stop: StopSignals,
    size: int | None = None,
    device: torch.device = CPU,
    open_pack: OpenPack | None = None,
    idle_s: float | None = None,
    data: Path | None = None,
) -> None:
    """Train trials of a study until its budget is done, or it is stopped.

    Args:
        study: Of the trials.
        number: Of this worker; it decides its stream of random draws.
        stop: Who may ask us to end before that.
        size: Trials that are trained together; None lets the networks of the space decide.
        device: On which they are trained.
        open_pack: Makes the pack that trains them; None makes one on that device.
        idle_s: Seconds without a trial after which it leaves; None for however long it takes.
        data: Where they lie, if elsewhere than the study says.

    Raises:
        BrokenStudyError: If the study's ceiling of failures is reached.
        DataError: If the data are nowhere, or changed since the study began.
        UserError: If no network of the space keeps to the limits.
    """
    with Presence(study.storage.ledger, what_trains(device)) as presence:
        serve(study, number, stop, presence, size, device, open_pack=open_pack, idle_s=idle_s, data=data)


def serve(
    study: StoredStudy,
    number: int,
    stop: StopSignals,
    presence: Presence,
    size: int | None = None,
    device: torch.device = CPU,
    is_over: Callable[[], bool] = lambda: False,
    open_pack: OpenPack | None = None,
    idle_s: float | None = None,
    data: Path | None = None,
) -> None:
    """Train trials of a study until its budget is done, or it is stopped, or it is time for another one.

    Args:
        study: Of the trials.
        number: Of this worker; it decides its stream of random draws.
        stop: Who may ask us to end before that.
        presence: Of this worker.
        size: Trials that are trained together; None lets the networks of the space decide.
        device: On which they are trained.
        is_over: Asked now and then: whether this worker is to leave the study.
        open_pack: Makes the pack that trains them; None makes one on that device.
        idle_s: As for `work`.
        data: Likewise.

    Raises:
        KansearchError: As `work`.
    """
    # One thread: these networks are small, and pools of threads on shared cores were seen to fight each other.
    torch.set_num_threads(1)
    # First of all, so that standing workers do not all begin to load the same data.
    presence.serve(study.study_id)
    pack: StudyPack | None = None
    next_look, why = 0.0, "its worker gave up"
    busy_at = time.monotonic()
    try:
        split = _load_split(study, data)
        n_together = size or pack_size(study.spec, split, device, study.storage.ledger.round_trip_s())
        pack = StudyPack(study, split, number, n_together, open_pack or partial(Pack, device=device))
        while not stop.requested:
            if time.monotonic() >= next_look:
                if study.is_stopped or is_over():
                    why = "its worker left the study"
                    return
                rescue_lost_trials(study, ours={trial.id for trial in pack.trials})
                refuse_broken(study)
                next_look = time.monotonic() + LOOK_S
            pack.fill()
            presence.trials = tuple(trial.number for trial in pack.trials)
            if pack.trials:
                _advance(pack, stop, next_look)
                presence.n_ended, presence.n_epochs = pack.n_ended, pack.n_epochs
                busy_at = time.monotonic()
            elif idle_s is not None and time.monotonic() - busy_at >= idle_s:
                return
            elif study.n_under_way:
                # A trial of another worker may still be lost and come back: the last to leave finishes last.
                stop.sleep(WAIT_S)
            elif pack.budget_left <= 0:
                return
            # Else all that began here failed; the ceiling of failures ends that.
        why = "its worker was asked to stop"
    finally:
        if pack is not None:
            pack.hand_back(why)
        presence.serve(None)


def _load_split(study: StoredStudy, data: Path | None) -> Split:
    """The data of a study, if they and its places are as they should be."""
    split = load_known_split(study, data)
    if study.artifacts is not None:
        artifacts_at(study.artifacts).check()
    sweep(study.storage.ledger)
    return split


def refuse_broken(study: StoredStudy) -> None:
    """Make sure that a study is worth going on.

    Raises:
        BrokenStudyError: If its ceiling of failures is reached.
    """
    failures = study.failures
    if study.counts()["broken"] >= failures:
        raise BrokenStudyError(
            f'study "{study.spec.name}" stopped: {failures} trials failed (budget.failures); '
            f"`kansearch status {study.spec.name}` shows why"
        )


def _advance(pack: StudyPack, stop: StopSignals, until: float) -> None:
    # Whoever asks us to stop finds the trials in the pack, from which they are handed back.
    with contextlib.suppress(StopRequestedError):
        try:
            pack.advance(stop.interruptible, lambda: stop.requested or time.monotonic() >= until)
        except BROKEN as error:
            traceback.print_exc()
            pack.fail(describe(error))
