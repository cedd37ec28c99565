"""Who goes on at a rung.

For several objectives Optuna has no pruner, so the decision is ours: asynchronous successive halving on the
Pareto order of what the trials of a rung measured there. Trials are ordered by

1. their non-dominated rank, lowest first,
2. how many peers dominate them, fewest first,
3. whether they are the best in some objective: the ends of a front before its middle,
4. how many peers they dominate, most first.

A trial stops when at least one in `reduction_factor` of the rung, and at least two, stand strictly before it.
Schmucker et al. (2021, arXiv:2106.12639) break ties of the first step by an epsilon-net instead, but then a better
value can move a trial back in the farthest-point order and so turn a continue into a stop. All four steps here ask
only who is better than whom: a better value never moves a trial back or a peer forward, and scale, unit,
direction and order of the objectives do not matter, nor do trials that measured exactly the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from kansearch.pareto import Losses, as_losses, dominance, non_dominated_ranks
from kansearch.search.samplers import StudyView, rivals
from kansearch.specs.metrics import Direction
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import RungResult
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import RunningTrial, rung_metrics


class Decision(Enum):
    """What becomes of a trial at a rung."""

    CONTINUE = auto()
    PRUNE = auto()


def decide(study: StoredStudy, everyone: Sequence[FrozenTrial], trial: RunningTrial, result: RungResult) -> Decision:
    """Decide at a rung whether a trial goes on.

    Args:
        study: Of the trial.
        everyone: All trials of the study, with what this one measured.
        trial: The trial.
        result: What it measured.
    """
    spec = study.spec
    pruner = spec.search.pruner
    if pruner.name == "none":
        return Decision.CONTINUE
    trials = rivals(spec, everyone, trial.params.get("family"))
    if pruner.name != "pareto":
        view: Any = StudyView(study.storage, trials)
        own_trial = next(other for other in everyone if other.number == trial.number)
        try:
            stop = make_pruner(spec).prune(optuna.Study(spec.name, view), own_trial)
        except UpdateFinishedTrialError:
            # The pruner made a note of a trial that was handed back meanwhile; the next write about it tells.
            return Decision.CONTINUE
        return Decision.PRUNE if stop else Decision.CONTINUE
    peers = [
        vector(spec, metrics)
        for peer in trials
        if peer.number != trial.number and (metrics := rung_metrics(peer, result.rung)) is not None
    ]
    own = vector(spec, result.metrics)
    return decide_by_rank(own, peers, [d is Direction.MAXIMIZE for d in spec.directions], pruner.reduction_factor)


def vector(spec: StudySpec, metrics: Mapping[str, float]) -> list[float]:
    """The objectives of a trial at a rung; NaN where it has none."""
    return [metrics.get(name, np.nan) for name in spec.objectives]


def decide_by_rank(
    own: Sequence[float], peers: Sequence[Sequence[float]], maximize: Sequence[bool], reduction_factor: int
) -> Decision:
    """Successive halving by Pareto order.

    Args:
        own: Objective vector (D,) of the trial at the rung.
        peers: Vectors of the other trials that reached it, in any order.
        maximize: Which objectives are maximised.
        reduction_factor: One in so many goes on, and always the best two.
    """
    losses = as_losses([own, *peers], maximize)
    unique = np.unique(losses, axis=0)
    mine = int(np.flatnonzero((unique == losses[0]).all(axis=1))[0])
    # Never fewer places than the rung before had with one vector less, or a better value could lose one:
    # so a young rung has two places from the start, instead of a number of trials that it never stops.
    places = max(2, len(unique) // reduction_factor)
    return Decision.PRUNE if n_before(mine, unique) >= places else Decision.CONTINUE


def n_before(mine: int, losses: Losses) -> int:
    """How many vectors stand strictly before one in the order of the module's docstring.

    Args:
        mine: Row of that vector.
        losses: Different vectors (N, D), smaller is better.
    """
    dominates = dominance(losses)
    best_in_some = (losses == losses.min(axis=0)).any(axis=1)
    keys = zip(
        non_dominated_ranks(dominates).tolist(),
        dominates.sum(axis=0).tolist(),
        (~best_in_some).tolist(),
        (-dominates.sum(axis=1)).tolist(),
        strict=True,
    )
    places = list(keys)
    return sum(place < places[mine] for place in places)


def make_pruner(spec: StudySpec) -> BasePruner:
    """Optuna's pruner of that name, for a study of one objective; it is asked at rungs only."""
    pruner, epochs = spec.search.pruner, spec.budget.epochs
    options = dict(pruner.options)
    rungs = {"min_resource": pruner.min_epochs, "reduction_factor": pruner.reduction_factor}
    match pruner.name:
        case "median":
            return optuna.pruners.MedianPruner(**options)  # type: ignore[arg-type]
        case "percentile":
            return optuna.pruners.PercentilePruner(**{"percentile": 25.0, **options})  # type: ignore[arg-type]
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(**rungs, **options)  # type: ignore[arg-type]
        case "hyperband":
            # Numbers, not "auto": workers would estimate them apart from each other.
            return optuna.pruners.HyperbandPruner(max_resource=epochs, **rungs)
        case "patient":
            return optuna.pruners.PatientPruner(None, **{"patience": 1, **options})  # type: ignore[arg-type]
        case _:
            raise ValueError(f"{pruner.name} is no pruner of Optuna's")
