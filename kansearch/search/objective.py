"""One trial from its first epoch to its end in the storage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from kansearch.data.splits import Split
from kansearch.search.pruners import Decision, decide
from kansearch.search.suggest import suggest, trial_spec
from kansearch.specs.trial import End
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import (
    RunningTrial,
    begin_trial,
    complete_trial,
    prune_trial,
    resume_trial,
    write_rung,
)
from kansearch.training.loop import train


def claim(study: StoredStudy, split: Split, worker: int) -> RunningTrial:
    """The next trial for a worker: one that lost its worker before, or a new one.

    Raises:
        BudgetSpentError: If the budget holds no further trial.
        UserError: If no network of the space keeps to the limits.
    """
    waiting = resume_trial(study)
    return waiting or begin_trial(study, suggest(study, split.n_inputs, split.n_outputs, worker))


def run_trial(
    study: StoredStudy,
    trial: RunningTrial,
    split: Split,
    while_training: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Train a trial, keep what it measures at each rung, and stop it where it is not among the best.

    Args:
        study: Of the trial.
        trial: Claimed by this process.
        split: Of the study's data.
        while_training: Entered whenever only the network is at work, never while the storage is.
    """
    spec = study.spec
    needed = dict.fromkeys([*spec.objectives, *(constraint.metric for constraint in spec.constraints)])
    results = train([trial_spec(spec, trial.params).model_copy(update={"seed": trial.seed})], split)
    while True:
        with while_training():
            result = next(results)
        write_rung(study, trial, result)
        missing = [name for name in needed if name not in result.metrics]
        if result.end is End.DIVERGED or missing:
            reason = f"diverged: {result.reason}" if result.reason else f"{', '.join(missing)} is no finite number"
            return prune_trial(study, trial, reason, progress=0.0, end=End.DIVERGED)
        if result.end is not None:
            return complete_trial(study, trial, result)
        if decide(study, trial, result) is Decision.PRUNE:
            return prune_trial(study, trial, f"pruned at epoch {result.epoch}", result.epoch / spec.budget.epochs)
