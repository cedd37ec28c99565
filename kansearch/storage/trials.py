"""Trials in the storage: begun, written at every rung, ended, read back, and rescued from dead workers."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from kansearch.specs.trial import Curve, EpochPoint, RungResult, TrialRecord
from kansearch.storage.ledger import BudgetSpentError
from kansearch.storage.studies import StoredStudy
from kansearch.storage.url import HEARTBEAT_S

SEED = "kansearch:seed"
WORKER = "kansearch:worker"
RUNG = "kansearch:rung:"
CURVES = "kansearch:curves"
REASON = "kansearch:reason"
RETRY = "kansearch:retry"
HANDED_BACK = "kansearch:handed_back"
REJECTED = "kansearch:rejected"
PRUNED = "kansearch:pruned"

CONSTRAINT = "constraints:"
"""Prefix of the system attributes that Optuna 5's Trial.set_constraint writes."""

MAX_RETRIES = 2
"""A trial that lost its worker is tried again so many times."""


def worker_id() -> str:
    """This process, as trials remember it: host and process number."""
    return f"{socket.gethostname()}/{os.getpid()}"


class TrialLostError(Exception):
    """This process was too late: its trial was handed back, and the second try counts."""


@contextlib.contextmanager
def _still_ours() -> Iterator[None]:
    """Writes of a trial that this process trains."""
    try:
        yield
    except UpdateFinishedTrialError:
        # A worker that was paused for longer than its grace wakes up to this.
        raise TrialLostError from None


@dataclass(frozen=True)
class Candidate:
    """What a new trial is made of.

    Attributes:
        params: Suggested hyperparameters by name.
        distributions: What each was drawn from.
        seed: Of the training.
        rejected: Candidates over a limit that were drawn before it.
        system_attrs: What the sampler wants to remember of the trial.
    """

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    seed: int
    rejected: int
    system_attrs: Mapping[str, Any]


@dataclass(frozen=True)
class RunningTrial:
    """A trial that this process trains."""

    id: int
    number: int
    params: Mapping[str, Any]
    seed: int


def begin_trial(study: StoredStudy, candidate: Candidate) -> RunningTrial:
    """Create a running trial from a candidate, whole, in one transaction.

    Raises:
        BudgetSpentError: If the study's budget holds no further trial.
    """
    template = create_trial(
        state=TrialState.RUNNING,
        params=dict(candidate.params),
        distributions=dict(candidate.distributions),
        user_attrs={SEED: candidate.seed, WORKER: worker_id(), REJECTED: candidate.rejected},
        system_attrs=dict(candidate.system_attrs),
    )
    trial_id = study.storage.create_new_trial(study.study_id, template)
    number = study.storage.get_trial_number_from_id(trial_id)
    return RunningTrial(trial_id, number, candidate.params, candidate.seed)


def resume_trial(study: StoredStudy) -> RunningTrial | None:
    """Take a trial that waits for a second try; None where none waits."""
    for trial in study.storage.get_all_trials(study.study_id, deepcopy=False, states=(TrialState.WAITING,)):
        with contextlib.suppress(UpdateFinishedTrialError):
            if study.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                study.storage.set_trial_user_attr(trial._trial_id, WORKER, worker_id())
                return RunningTrial(trial._trial_id, trial.number, trial.params, trial.user_attrs[SEED])
    return None


@contextlib.contextmanager
def heartbeat(study: StoredStudy, trial: RunningTrial) -> Iterator[None]:
    """Give signs of life for a trial while it is trained."""
    over = threading.Event()
    backend = study.storage._backend  # type: ignore[attr-defined]

    def beat() -> None:
        while True:
            # A database that is away for a while must not end the training; GRACE_S is much longer than a beat.
            with contextlib.suppress(Exception):
                backend.record_heartbeat(trial.id)
            if over.wait(HEARTBEAT_S):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@_still_ours()
def write_rung(study: StoredStudy, trial: RunningTrial, result: RungResult) -> None:
    """Keep what a trial measured at a rung, and its quality as Optuna's intermediate value."""
    rung = {
        "epoch": result.epoch,
        "metrics": result.metrics,
        "points": [[p.epoch, p.train_loss, p.validation_loss] for p in result.points],
    }
    study.storage.set_trial_user_attr(trial.id, f"{RUNG}{result.rung}", rung)
    quality = result.metrics.get(study.spec.objectives[0])
    if quality is not None:
        study.storage.set_trial_intermediate_value(trial.id, result.epoch, quality)


def rung_metrics(trial: FrozenTrial, rung: int) -> Mapping[str, float] | None:
    """What a trial measured at a rung; None if it has not been there."""
    written = trial.user_attrs.get(f"{RUNG}{rung}")
    return None if written is None else written["metrics"]


@_still_ours()
def complete_trial(study: StoredStudy, trial: RunningTrial, result: RungResult) -> None:
    """End a trial with its objective values, its constraints and its learned activations.

    Raises:
        TrialLostError: Like every write of a running trial, if it was handed back in the meantime.
    """
    storage = study.storage
    for constraint in study.spec.constraints:
        # Samplers need every constraint of every complete trial, met or not.
        violation = constraint.violation(result.metrics[constraint.metric])
        storage.set_trial_system_attr(trial.id, f"{CONSTRAINT}{constraint}", violation)
    if result.curves:
        storage.set_trial_user_attr(trial.id, CURVES, [curve.model_dump(mode="json") for curve in result.curves])
    if result.reason:
        storage.set_trial_user_attr(trial.id, REASON, result.reason)
    values = [result.metrics[name] for name in study.spec.objectives]
    storage.set_trial_state_values(trial.id, TrialState.COMPLETE, values)


@_still_ours()
def prune_trial(study: StoredStudy, trial: RunningTrial, reason: str, progress: float) -> None:
    """End a trial early.

    Args:
        study: Of the trial.
        trial: The trial.
        reason: For people.
        progress: Share of its epochs that it got.
    """
    if len(study.spec.objectives) > 1:
        # TPE of Optuna 5.0 fails on a pruned trial with intermediate values in a study of several objectives,
        # unless the trial is infeasible; the violation tells it how early the trial was stopped.
        # test_tpe_survives_pruned_trials watches it.
        study.storage.set_trial_system_attr(trial.id, f"{CONSTRAINT}{PRUNED}", 1.0 - progress + 1e-9)
    study.storage.set_trial_user_attr(trial.id, REASON, reason)
    study.storage.set_trial_state_values(trial.id, TrialState.PRUNED)


@_still_ours()
def fail_trial(study: StoredStudy, trial: RunningTrial, reason: str) -> None:
    """End a trial that could not be trained; it uses no budget."""
    study.storage.set_trial_user_attr(trial.id, REASON, reason)
    study.storage.set_trial_state_values(trial.id, TrialState.FAIL)


def hand_back(study: StoredStudy, trial_id: int, reason: str) -> bool:
    """End a trial that lost its worker, and let another worker try the same again.

    The second try is a new trial with the same hyperparameters and seed. Returns whether there is one: no trial
    is tried more than MAX_RETRIES times again, and the budget is never exceeded for it.
    """
    storage = study.storage
    with contextlib.suppress(UpdateFinishedTrialError):
        storage.set_trial_user_attr(trial_id, REASON, reason)
        storage.set_trial_user_attr(trial_id, HANDED_BACK, True)
        if not storage.set_trial_state_values(trial_id, TrialState.FAIL):
            return False
        trial = storage.get_trial(trial_id)
        retry = int(trial.user_attrs.get(RETRY, 0)) + 1
        if retry > MAX_RETRIES:
            return False
        kept = {key: value for key, value in trial.user_attrs.items() if key in (SEED, REJECTED)}
        waiting = create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**kept, RETRY: retry},
            system_attrs={key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)},
        )
        with contextlib.suppress(BudgetSpentError):
            storage.create_new_trial(study.study_id, waiting)
            return True
    return False


def rescue_lost_trials(study: StoredStudy) -> int:
    """Hand back the running trials whose worker is dead; returns how many there were.

    A worker of this host is dead when its process is gone; one elsewhere when its trial gave no sign of life
    for GRACE_S seconds.
    """
    running = study.storage.get_all_trials(study.study_id, deepcopy=False, states=(TrialState.RUNNING,))
    stale = set(study.storage._backend._get_stale_trial_ids(study.study_id)) if running else set()  # type: ignore[attr-defined]
    lost = [trial._trial_id for trial in running if trial._trial_id in stale or _is_gone(trial.user_attrs.get(WORKER))]
    for trial_id in lost:
        hand_back(study, trial_id, "its worker died")
    return len(lost)


def _is_gone(worker: str | None) -> bool:
    """Whether a worker of this host no longer runs."""
    host, _, pid = (worker or "").rpartition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # A process that has ended but whose parent has not asked about it yet still has a number.
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] == "Z"
    return False


def count_states(study: StoredStudy) -> dict[str, int]:
    """Trials by state, in small letters; `broken` counts those that failed by themselves, not with their worker."""
    counts = {state.name.lower(): 0 for state in TrialState} | {"broken": 0}
    for trial in study.storage.get_all_trials(study.study_id, deepcopy=False):
        counts[trial.state.name.lower()] += 1
        if trial.state is TrialState.FAIL and not trial.user_attrs.get(HANDED_BACK):
            counts["broken"] += 1
    return counts


def read_records(study: StoredStudy) -> tuple[TrialRecord, ...]:
    """All trials of a study, in order of their numbers."""
    records = []
    for trial in study.storage.get_all_trials(study.study_id, deepcopy=False):
        record = study.finished.get(trial.number) or _record(study, trial)
        if trial.state.is_finished():
            study.finished[trial.number] = record
        records.append(record)
    return tuple(records)


def _record(study: StoredStudy, trial: FrozenTrial) -> TrialRecord:
    attrs = trial.user_attrs
    rungs = [attrs[key] for key in sorted((k for k in attrs if k.startswith(RUNG)), key=lambda k: int(k[len(RUNG) :]))]
    values = dict(zip(study.spec.objectives, trial.values or (), strict=False))
    violations = [v for key, v in trial.system_attrs.items() if key.startswith(CONSTRAINT)]
    families = study.spec.space.families()
    return TrialRecord(
        number=trial.number,
        state=trial.state.name.lower(),
        family=trial.params.get("family", families[0] if len(families) == 1 else None),
        params=trial.params,
        values=values,
        metrics=rungs[-1]["metrics"] if rungs else {},
        points=tuple(
            EpochPoint(epoch=epoch, train_loss=train, validation_loss=validation)
            for rung in rungs
            for epoch, train, validation in rung["points"]
        ),
        epochs=rungs[-1]["epoch"] if rungs else 0,
        seconds=_seconds(trial.datetime_start, trial.datetime_complete),
        feasible=all(violation <= 0 for violation in violations),
        reason=attrs.get(REASON),
        seed=attrs.get(SEED),
        worker=attrs.get(WORKER),
        curves=tuple(Curve.model_validate(curve) for curve in attrs.get(CURVES, ())),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start is not None and end is not None else None
