"""Trials in the storage: begun, written at every rung, ended, read back, and rescued from dead workers."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import select

from kansearch.errors import StorageError
from kansearch.garbage import many_objects
from kansearch.specs.trial import Curve, End, EpochPoint, RungResult, TrialRecord
from kansearch.storage.artifacts import ArtifactError, artifacts_at, fetch, keep_apart, sweep
from kansearch.storage.reading import RUNG, StoredTrial, read_trials, template
from kansearch.storage.studies import HANDED_BACK, StoredStudy
from kansearch.storage.workers import worker_name
from kansearch.storage.writes import StoredCheckpoint, TrialWrite

_logger = logging.getLogger(__name__)

SEED = "kansearch:seed"
WORKER = "kansearch:worker"
CURVES = "kansearch:curves"
REASON = "kansearch:reason"
END = "kansearch:end"
DEATHS = "kansearch:deaths"
"""On a second try only: how many workers the trial has outlived."""

RESUMED_AT = "kansearch:resumed_at"
"""On a second try only: the epoch of the checkpoint from which it goes on."""

REJECTED = "kansearch:rejected"
PRUNED = "kansearch:pruned"

CONSTRAINT = "constraints:"
"""Prefix of the system attributes that Optuna 5's Trial.set_constraint writes."""

COMPLETED_RUNG = "completed_rung_"
"""Prefix of what Optuna's successive halving and Hyperband note of a trial."""

MAX_DEATHS = 2
"""A trial that outlived so many workers is not tried again after the next one."""


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
    """A trial that this process trains.

    Attributes:
        id: In the storage.
        number: In its study.
        params: Suggested hyperparameters by name.
        seed: Of the training.
        checkpoint: Where it was when it lost a worker; None where it begins.
    """

    id: int
    number: int
    params: Mapping[str, Any]
    seed: int
    checkpoint: StoredCheckpoint | None = None


def begin_trials(study: StoredStudy, candidates: Sequence[Candidate], n_seen: int) -> list[RunningTrial]:
    """Create running trials from candidates, whole, in one transaction.

    Args:
        study: Of the trials.
        candidates: To be trained. The last ones are left out where not all have a place, and so are those that
            another worker has drawn and begun since: two with the same number draw the same.
        n_seen: How many trials the study had when they were drawn.

    Raises:
        BudgetSpentError: If the study's budget holds no further trial.
    """
    templates = [
        template(
            TrialState.RUNNING,
            candidate.params,
            candidate.distributions,
            {SEED: candidate.seed, WORKER: worker_name(), REJECTED: candidate.rejected},
            candidate.system_attrs,
        )
        for candidate in candidates
    ]
    # A seed is made of the hyperparameters.
    created = study.storage.create_trials(study.study_id, templates, n_seen, mark=SEED, owner=WORKER)
    return [RunningTrial(trial._trial_id, trial.number, trial.params, trial.user_attrs[SEED]) for trial in created]


def resume_trial(study: StoredStudy) -> RunningTrial | None:
    """Take a trial that waits for a second try; None where none waits.

    Raises:
        StorageError: If its checkpoint cannot be reached; then it waits again.
    """
    ledger = study.storage.ledger
    for trial in study.trials(TrialState.WAITING):
        if ledger.take_waiting(trial._trial_id, WORKER, worker_name()):
            checkpoint = _fetch_checkpoint(study, trial._trial_id)
            return RunningTrial(trial._trial_id, trial.number, trial.params, trial.user_attrs[SEED], checkpoint)
    return None


def _fetch_checkpoint(study: StoredStudy, trial_id: int) -> StoredCheckpoint | None:
    ledger = study.storage.ledger
    try:
        return fetch(ledger, ledger.checkpoint(trial_id))
    except ArtifactError as error:
        hand_back(study, trial_id, "its checkpoint could not be reached", died=False)
        raise StorageError(f"artifacts {study.artifacts} cannot be reached: {error}") from None


def write(study: StoredStudy, writes: Sequence[TrialWrite]) -> set[int]:
    """Write about trials that this process trains, in one transaction.

    Large checkpoints go where the study keeps its artifacts; one for which there is no room is left out.

    Returns:
        The ids of trials that were handed back in the meantime, for this process was paused for longer than its
        grace, or that were deleted: of these nothing was written, and a second try counts.
    """
    ledger = study.storage.ledger
    if study.artifacts is None:
        return study.storage.write(study.study_id, [_without_huge_checkpoint(w, ledger.largest_value) for w in writes])
    kept = keep_apart(ledger, study.artifacts, writes)
    lost = study.storage.write(study.study_id, kept)
    # Whoever took a lost trial over may have swept already.
    for w in kept:
        if w.trial_id in lost and w.checkpoint is not None and w.checkpoint.artifact is not None:
            with contextlib.suppress(ArtifactError):
                artifacts_at(study.artifacts).remove(w.checkpoint.artifact)
    if changed := {w.trial_id for w in writes if w.state is not None or w.checkpoint is not None}:
        sweep(ledger, changed)
    return lost


def _without_huge_checkpoint(write: TrialWrite, n_bytes: int) -> TrialWrite:
    if write.checkpoint is None or len(write.checkpoint.state) <= n_bytes:
        return write
    _warn_once(f"checkpoints above {n_bytes:,} bytes do not fit into the storage and are left out; use --artifacts")
    return replace(write, checkpoint=None)


@functools.cache
def _warn_once(words: str) -> None:
    _logger.warning(words)


def checkpoint_write(trial: RunningTrial, epoch: int, state: bytes) -> TrialWrite:
    """Where a trial is that goes on after a rung."""
    return TrialWrite(trial.id, checkpoint=StoredCheckpoint(epoch, state))


def rung_write(study: StoredStudy, trial: RunningTrial, result: RungResult) -> TrialWrite:
    """What a trial measured at a rung, and its quality as Optuna's intermediate value."""
    rung = {
        "epoch": result.epoch,
        "metrics": result.metrics,
        "points": [[p.epoch, p.train_loss, p.validation_loss] for p in result.points],
    }
    quality = result.metrics.get(study.spec.objectives[0])
    return TrialWrite(
        trial.id,
        user_attrs={f"{RUNG}{result.rung}": rung},
        intermediate_values={} if quality is None else {result.epoch: quality},
    )


def rung_metrics(trial: StoredTrial) -> dict[int, Mapping[str, float]]:
    """What a trial measured at its rungs, by their indices."""
    attrs = trial.user_attrs
    return {int(key.removeprefix(RUNG)): attrs[key]["metrics"] for key in attrs if key.startswith(RUNG)}


def complete_write(study: StoredStudy, trial: RunningTrial, result: RungResult) -> TrialWrite:
    """The end of a trial with its objective values, its constraints and its learned activations."""
    # Samplers need every constraint of every complete trial, met or not.
    # In units of the bound, so that no constraint outweighs the others, nor a pruned trial's.
    violations = {
        f"{CONSTRAINT}{constraint}": constraint.violation(result.metrics[constraint.metric])
        / max(abs(constraint.bound), 1e-12)
        for constraint in study.spec.constraints
    }
    attrs: dict[str, Any] = {END: result.end}
    if result.curves:
        attrs[CURVES] = [curve.model_dump(mode="json") for curve in result.curves]
    if result.reason:
        attrs[REASON] = result.reason
    values = [result.metrics[name] for name in study.spec.objectives]
    return TrialWrite(trial.id, attrs, violations, state=TrialState.COMPLETE, values=values)


def prune_write(
    study: StoredStudy, trial: RunningTrial, reason: str, progress: float, end: End | None = None
) -> TrialWrite:
    """The early end of a trial.

    Args:
        study: Of the trial.
        trial: The trial.
        reason: For people.
        progress: Share of its epochs that it got; 0 for one that could not be worse.
        end: Where its training was over by itself; None where a pruner stopped it.
    """
    violations = {}
    if len(study.spec.objectives) > 1 or end is not None:
        # TPE of Optuna 5.0 fails on a pruned trial with intermediate values in a study of several objectives,
        # unless the trial is infeasible; the violation tells it how early the trial was stopped. With one objective
        # it keeps a trial that diverged late from passing for a good one.
        # test_tpe_survives_pruned_trials watches it.
        violations[f"{CONSTRAINT}{PRUNED}"] = 1.0 - progress + 1e-9
    attrs = {REASON: reason} if end is None else {REASON: reason, END: end}
    return TrialWrite(trial.id, attrs, violations, state=TrialState.PRUNED)


def fail_write(trial: RunningTrial, reason: str) -> TrialWrite:
    """The end of a trial that broke; it gives its place in the budget back."""
    return TrialWrite(trial.id, {REASON: reason}, state=TrialState.FAIL)


def hand_back(study: StoredStudy, trial_id: int, reason: str, *, died: bool, from_start: bool = False) -> bool:
    """End a trial that lost its worker, and let another worker try the same again.

    The second try is a new trial with the same hyperparameters and seed, and with the rungs up to the checkpoint, from
    which it goes on. No trial may see more than MAX_DEATHS of its workers, and the budget is never exceeded.

    Args:
        study: Of the trial.
        trial_id: Of the trial.
        reason: For people.
        died: Whether the worker did; being asked to stop is no death.
        from_start: Whether the second try begins again, for the checkpoint is of no use.

    Returns:
        Whether there is a second try.
    """

    def second_try(trial: StoredTrial, epoch: int) -> StoredTrial | None:
        deaths = int(trial.user_attrs.get(DEATHS, 0)) + died
        if deaths > MAX_DEATHS:
            return None
        kept = {
            key: value
            for key, value in trial.user_attrs.items()
            if key in (SEED, REJECTED) or (key.startswith(RUNG) and value["epoch"] <= epoch)
        }
        return template(
            TrialState.WAITING,
            trial.params,
            trial.distributions,
            {**kept, DEATHS: deaths, RESUMED_AT: epoch},
            # Verdicts on the failed trial are none on its second try; what its sampler noted stays.
            {k: v for k, v in trial.system_attrs.items() if not k.startswith((CONSTRAINT, COMPLETED_RUNG))},
            {step: v for step, v in trial.intermediate_values.items() if step <= epoch},
        )

    attrs = {REASON: reason, HANDED_BACK: True}
    ledger = study.storage.ledger
    return ledger.replace_trial(study.study_id, trial_id, attrs, second_try, keep_checkpoint=not from_start)


def rescue_lost_trials(study: StoredStudy, ours: Collection[int] = ()) -> int:
    """Hand back the running trials whose worker is dead; returns how many there were.

    Args:
        study: Of the trials.
        ours: Ids of trials that this process trains: alive, even if it was paused and its signs are late. Any other
            that carries its name it took and could not begin.
    """
    others = [trial for trial in study.trials(TrialState.RUNNING) if trial._trial_id not in ours]
    if not others:
        return 0
    workers = {trial._trial_id: str(trial.user_attrs.get(WORKER)) for trial in others}
    dead = study.watch.lost(study.storage.ledger, set(workers.values()) - {worker_name()})
    lost = [(trial_id, worker) for trial_id, worker in workers.items() if worker in {*dead, worker_name()}]
    for trial_id, worker in lost:
        died = worker in dead
        hand_back(study, trial_id, "its worker died" if died else "its worker could not begin it", died=died)
    return len(lost)


def read_records(study: StoredStudy) -> tuple[TrialRecord, ...]:
    """All trials of a study, in order of their numbers."""
    records = []
    with many_objects():
        for trial in study.trials():
            record = study.finished.get(trial.number) or _record(study, trial)
            if trial.state.is_finished():
                study.finished[trial.number] = record
            records.append(record)
    return tuple(records)


def read_outline(study: StoredStudy) -> tuple[TrialRecord, ...]:
    """All trials of a study without their curves, seeds and workers, in a third of the time."""
    ledger = study.storage.ledger

    def read() -> list[StoredTrial]:
        with ledger.session() as session:
            ids = session.scalars(select(models.TrialModel.trial_id).filter_by(study_id=study.study_id))
            return read_trials(
                session.connection(), study.study_id, sorted(ids), without=(CURVES, SEED, WORKER, REJECTED)
            )

    with many_objects():
        return tuple(_record(study, trial, with_points=False) for trial in ledger.patiently(read))


def _record(study: StoredStudy, trial: StoredTrial, *, with_points: bool = True) -> TrialRecord:
    attrs = trial.user_attrs
    rungs = [attrs[key] for key in sorted((k for k in attrs if k.startswith(RUNG)), key=lambda k: int(k[len(RUNG) :]))]
    values = dict(zip(study.spec.objectives, trial.values or (), strict=False))
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
            for rung in (rungs if with_points else ())
            for epoch, train, validation in rung["points"]
        ),
        epochs=trial.epochs,
        resumed_at=attrs.get(RESUMED_AT, 0),
        handed_back=HANDED_BACK in attrs,
        seconds=_seconds(trial.datetime_start, trial.datetime_complete),
        feasible=all(violation <= 0 for violation in trial.constraints.values()),
        reason=attrs.get(REASON),
        end=attrs.get(END),
        seed=attrs.get(SEED),
        worker=attrs.get(WORKER),
        curves=tuple(Curve.model_validate(curve) for curve in attrs.get(CURVES, ())),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start is not None and end is not None else None
