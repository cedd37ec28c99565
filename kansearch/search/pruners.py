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

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from kansearch.pareto import as_losses, distinct, dominance_counts, non_dominated_ranks
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


class Judge:
    """Decides who goes on of trials that reach rungs at the same time; it looks at each rung once.

    Args:
        study: Of the trials.
        everyone: All trials of the study, with what those to be judged have measured.
    """

    def __init__(self, study: StoredStudy, everyone: Sequence[FrozenTrial]) -> None:
        self._study = study
        self._everyone = everyone
        self._rungs: dict[tuple[object, int], Rung] = {}

    def decide(self, trial: RunningTrial, result: RungResult) -> Decision:
        """Decide whether a trial goes on.

        Args:
            trial: The trial.
            result: What it measured.
        """
        spec = self._study.spec
        name, family = spec.search.pruner.name, trial.params.get("family")
        if name == "none":
            return Decision.CONTINUE
        if name != "pareto":
            view: Any = StudyView(self._study, rivals(spec, self._everyone, family))
            own_trial = next(other for other in self._everyone if other.number == trial.number)
            try:
                stop = make_pruner(spec).prune(optuna.Study(spec.name, view), own_trial)
            except UpdateFinishedTrialError:
                # The pruner made a note of a trial that was handed back meanwhile; the next write about it tells.
                return Decision.CONTINUE
            return Decision.PRUNE if stop else Decision.CONTINUE
        if (family, result.rung) not in self._rungs:
            self._rungs[family, result.rung] = self._rung(family, result.rung)
        return self._rungs[family, result.rung].decide(vectors([result.metrics], spec.objectives)[0])

    def _rung(self, family: object, number: int) -> Rung:
        spec = self._study.spec
        measured = rung_metrics(rivals(spec, self._everyone, family), number)
        maximize = [direction is Direction.MAXIMIZE for direction in spec.directions]
        return Rung(vectors(measured, spec.objectives), maximize, spec.search.pruner.reduction_factor)


def vectors(measured: Iterable[Mapping[str, float]], objectives: Sequence[str]) -> list[list[float]]:
    """The objectives of trials at a rung; NaN where one has none."""
    return [[metrics.get(name, np.nan) for name in objectives] for metrics in measured]


class Rung:
    """Successive halving by Pareto order.

    Args:
        vectors: Objective vectors (D,) of the trials that reached the rung, in any order.
        maximize: Which objectives are maximised.
        reduction_factor: One in so many goes on, and always the best two.
    """

    def __init__(self, vectors: Sequence[Sequence[float]], maximize: Sequence[bool], reduction_factor: int) -> None:
        self._maximize = maximize
        self._losses = distinct(as_losses(vectors, maximize))
        self._ranks = non_dominated_ranks(self._losses)
        # Never fewer places than the rung before had with one vector less, or a better value could lose one:
        # so a young rung has two places from the start, instead of a number of trials that it never stops.
        self._places = max(2, len(self._losses) // reduction_factor)

    def decide(self, own: Sequence[float]) -> Decision:
        """What becomes of the trial with this vector."""
        mine = np.flatnonzero((self._losses == as_losses(own, self._maximize)).all(axis=1))
        # A trial that was handed back meanwhile is not there; the next write about it tells.
        stop = len(mine) and self._n_before(int(mine[0])) >= self._places
        return Decision.PRUNE if stop else Decision.CONTINUE

    def _n_before(self, mine: int) -> int:
        """How many vectors stand strictly before one in the order of the module's docstring."""
        front = np.flatnonzero(self._ranks == self._ranks[mine])
        members = self._losses[front]
        n_dominators, n_dominated = dominance_counts(members, self._losses)
        best_in_some = (members == self._losses.min(axis=0)).any(axis=1)
        places = list(zip(n_dominators.tolist(), (~best_in_some).tolist(), (-n_dominated).tolist(), strict=True))
        own = places[int(np.flatnonzero(front == mine)[0])]
        return int((self._ranks < self._ranks[mine]).sum()) + sum(place < own for place in places)


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
