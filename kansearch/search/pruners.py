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

import math
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, cast

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kansearch.pareto import Fronts, Losses, as_losses, dominance_counts
from kansearch.search.samplers import takes_turns
from kansearch.specs.metrics import Direction
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import RungResult
from kansearch.storage.known import Changes
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy, optuna_directions
from kansearch.storage.trials import rung_metrics


class Decision(Enum):
    """What becomes of a trial at a rung."""

    CONTINUE = auto()
    PRUNE = auto()


class Judge:
    """Decides who goes on of trials that reach rungs; of those that it saw before it asks only what changed.

    Args:
        study: Of the trials.

    Attributes:
        notes: What Optuna's pruners want to remember of trials, by id and key; whoever writes it takes it out.
    """

    def __init__(self, study: StoredStudy) -> None:
        self._spec = study.spec
        self._changes = Changes()
        self._rungs: dict[tuple[object, int], Rung] = {}
        # Of trials that may still fail: then they are nobody's rivals any more.
        self._measured: dict[int, dict[int, list[float]]] = defaultdict(dict)
        pruner = study.spec.search.pruner.name
        self._pruner = None if pruner in ("none", "pareto") else make_pruner(study.spec)
        self._rivals: dict[object, _Rivals] = defaultdict(lambda: _Rivals(study))
        self._takes_turns = takes_turns(study.spec)
        self.notes: dict[int, dict[str, Any]] = {}

    def look(self, trials: Sequence[StoredTrial]) -> None:
        """See what changed.

        Args:
            trials: All of the study, as they are now.
        """
        for _, trial in self._changes.since(trials):
            if self._pruner is not None:
                self._rivals_of(trial).show(trial)
            elif trial.state is TrialState.FAIL:
                for rung, vector in self._measured.pop(trial.number, {}).items():
                    self._rung(trial, rung).discard(vector)
            else:
                for rung, metrics in rung_metrics(trial).items():
                    self._measure(trial, rung, metrics)
                if trial.state.is_finished():
                    self._measured.pop(trial.number, None)

    def measured(self, trial: StoredTrial, result: RungResult) -> None:
        """See what a trial measured that is not written yet.

        Args:
            trial: As it will be then.
            result: What it measured.
        """
        if self._pruner is not None:
            self._rivals_of(trial).show(trial)
        elif trial.state is not TrialState.FAIL:
            self._measure(trial, result.rung, result.metrics)

    def decide(self, trial: StoredTrial, result: RungResult) -> Decision:
        """Decide whether a trial goes on.

        Args:
            trial: As it was `measured`.
            result: What it measured.
        """
        if self._pruner is not None:
            stop, notes = self._rivals_of(trial).judge(trial, self._pruner)
            if notes:
                self.notes[trial._trial_id] = notes
            return Decision.PRUNE if stop else Decision.CONTINUE
        if self._spec.search.pruner.name == "none":
            return Decision.CONTINUE
        return self._rung(trial, result.rung).decide(vector_of(result.metrics, self._spec.objectives))

    def _family(self, trial: StoredTrial) -> object:
        """Families that share a study's epochs evenly are searched side by side, each as if it were alone."""
        return trial.params.get("family") if self._takes_turns else None

    def _rivals_of(self, trial: StoredTrial) -> _Rivals:
        rivals = self._rivals[self._family(trial)]
        if not isinstance(self._pruner, _Hyperband):
            return rivals
        return self._rivals[self._family(trial), self._pruner.bracket(rivals.study, trial)]

    def _measure(self, trial: StoredTrial, rung: int, metrics: Mapping[str, float]) -> None:
        known = self._measured[trial.number]
        if rung not in known:
            known[rung] = vector_of(metrics, self._spec.objectives)
            self._rung(trial, rung).add(known[rung])

    def _rung(self, trial: StoredTrial, number: int) -> Rung:
        spec = self._spec
        key = self._family(trial), number
        if key not in self._rungs:
            maximize = [direction is Direction.MAXIMIZE for direction in spec.directions]
            self._rungs[key] = Rung([], maximize, spec.search.pruner.reduction_factor)
        return self._rungs[key]


class _Rivals:
    """A storage that shows a pruner of Optuna's the trials with which it compares, and keeps what it notes of them."""

    def __init__(self, study: StoredStudy) -> None:
        self._id = study.study_id
        self._directions = optuna_directions(study.spec)
        self._trials: dict[int, StoredTrial] = {}
        self._complete: dict[int, StoredTrial] = {}
        self._values: dict[int, _Values] = defaultdict(_Values)
        self._notes: dict[str, Any] = {}
        self.study = optuna.Study(study.spec.name, self)  # type: ignore[arg-type]  # stands for a storage

    def show(self, trial: StoredTrial) -> None:
        """Let the pruner see a trial as it is now; a failed one is nobody's, its second try counts."""
        if trial.state is TrialState.FAIL:
            self._trials.pop(trial.number, None)
            return
        self._trials[trial.number] = trial
        if trial.state is TrialState.COMPLETE:
            if trial.number not in self._complete:
                for step, value in trial.intermediate_values.items():
                    self._values[step].add(value)
            self._complete[trial.number] = trial

    @property
    def n_complete(self) -> int:
        """Complete trials."""
        return len(self._complete)

    def values_at(self, step: int) -> _Values:
        """What the complete trials measured at a step."""
        return self._values[step]

    def judge(self, trial: StoredTrial, pruner: BasePruner) -> tuple[bool, dict[str, Any]]:
        """Whether a trial stops, and what the pruner noted of it; whoever is judged next sees the notes, too."""
        self._notes = {}
        stop = pruner.prune(self.study, trial)
        trial.system_attrs.update(self._notes)
        return stop, self._notes

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """The rivals; this signature and the next ones are the storage's."""
        del study_id, deepcopy
        if states == (TrialState.COMPLETE,):
            return list(self._complete.values())
        return [trial for trial in self._trials.values() if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Note something of the trial that is judged."""
        del trial_id
        self._notes[key] = value

    def get_study_id_from_name(self, study_name: str) -> int:
        """That of the study."""
        del study_name
        return self._id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Those of the study."""
        del study_id
        return self._directions


class _Values:
    """Numbers, sorted as they come."""

    def __init__(self) -> None:
        self._sorted: list[float] = []
        self._n_nan = 0

    def __len__(self) -> int:
        return len(self._sorted) + self._n_nan

    def add(self, value: float) -> None:
        """Let another number in."""
        if math.isnan(value):
            self._n_nan += 1
        else:
            insort(self._sorted, value)

    def percentile(self, percent: float) -> float:
        """As `numpy.nanpercentile` has it, to the last bit; NaN of no numbers."""
        if not self._sorted:
            return math.nan
        place = (len(self._sorted) - 1) * (percent / 100)
        below = math.floor(place)
        share = place - below
        low, high = self._sorted[below], self._sorted[min(below + 1, len(self._sorted) - 1)]
        return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def vector_of(metrics: Mapping[str, float], objectives: Sequence[str]) -> list[float]:
    """The objectives of a trial at a rung; NaN where it has none."""
    return [metrics.get(name, np.nan) for name in objectives]


class Rung:
    """Successive halving by Pareto order.

    Args:
        vectors: Objective vectors (D,) of the trials that reached the rung, in any order.
        maximize: Which objectives are maximised.
        reduction_factor: One in so many goes on, and always the best two.
    """

    def __init__(self, vectors: Sequence[Sequence[float]], maximize: Sequence[bool], reduction_factor: int) -> None:
        self._maximize = maximize
        self._reduction_factor = reduction_factor
        # The same vector of several trials counts once.
        self._n_of = Counter[tuple[float, ...]]()
        self._new: list[tuple[float, ...]] = []
        self._fronts: Fronts | None = None
        for vector in vectors:
            self.add(vector)

    def add(self, vector: Sequence[float]) -> None:
        """Let the vector of another trial in."""
        losses = self._losses(vector)
        self._n_of[losses] += 1
        if self._n_of[losses] == 1:
            self._new.append(losses)

    def discard(self, vector: Sequence[float]) -> None:
        """Take the vector of a trial out."""
        losses = self._losses(vector)
        self._n_of[losses] -= 1
        if not self._n_of[losses]:
            del self._n_of[losses]
            self._fronts = None

    def decide(self, own: Sequence[float]) -> Decision:
        """What becomes of the trial with this vector."""
        losses = self._losses(own)
        # Never fewer places than the rung before had with one vector less, or a better value could lose one:
        # so a young rung has two places from the start, instead of a number of trials that it never stops.
        places = max(2, len(self._n_of) // self._reduction_factor)
        # A trial that was handed back meanwhile is not there; the next write about it tells.
        stop = losses in self._n_of and self._stands_behind(np.array(losses), places)
        return Decision.PRUNE if stop else Decision.CONTINUE

    def _losses(self, vector: Sequence[float]) -> tuple[float, ...]:
        return tuple(as_losses(vector, self._maximize)[0].tolist())

    def _stands_behind(self, own: Losses, places: int) -> bool:
        """Whether so many vectors stand strictly before one in the order of the module's docstring."""
        if len(own) == 1:
            return int((self._sorted(0).losses < own).sum()) >= places
        fronts = self._sorted(places)
        number = fronts.front_of(own)
        n_before = sum(map(len, fronts.fronts[:number]))
        if number == len(fronts.fronts) or n_before >= places:
            return True
        members = fronts.fronts[number]
        if n_before + len(members) <= places:
            return False
        losses = fronts.losses
        n_dominators, n_dominated = dominance_counts(members, losses)
        best_in_some = (members == losses.min(axis=0)).any(axis=1)
        order = list(zip(n_dominators.tolist(), (~best_in_some).tolist(), (-n_dominated).tolist(), strict=True))
        mine = order[int(np.flatnonzero((members == own).all(axis=1))[0])]
        return n_before + sum(other < mine for other in order) >= places

    def _sorted(self, places: int) -> Fronts:
        """As many fronts as hold so many vectors."""
        if self._fronts is None or len(self._new) > len(self._n_of) // 4:
            self._fronts = Fronts(np.array(list(self._n_of)))
        else:
            for losses in self._new:
                self._fronts.add(np.array(losses))
        self._new.clear()
        self._fronts.hold(places)
        return self._fronts


class _Percentile(optuna.pruners.PercentilePruner):
    """Optuna's, which sorts what all complete trials measured at every decision; here that is sorted already."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether a trial stops."""
        rivals = cast("_Rivals", study._storage)
        step = trial.last_step
        if not rivals.n_complete or rivals.n_complete < self._n_startup_trials:
            return False
        if step is None or step < self._n_warmup_steps or not self._is_due(step, trial):
            return False
        values = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        if not values:
            return True
        others = rivals.values_at(step)
        if len(others) < self._n_min_trials:
            return False
        if study.direction is StudyDirection.MAXIMIZE:
            return max(values) < others.percentile(100 - self._percentile)
        return min(values) > others.percentile(self._percentile)

    def _is_due(self, step: int, trial: FrozenTrial) -> bool:
        """Whether this is a trial's first step since the last one at which trials are to be judged."""
        since = step - (step - self._n_warmup_steps) % self._interval_steps
        return not any(since <= other < step for other in trial.intermediate_values)


class _Hyperband(optuna.pruners.HyperbandPruner):
    """Optuna's, asked with a storage that shows the trials of one bracket only.

    To tell them from all others takes Optuna longer than anything else, and it does so at every decision.
    """

    def bracket(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """To which a trial belongs."""
        if not self._pruners:
            self._try_initialization(study)
        return self._get_bracket_id(study, trial)

    def _create_bracket_study(self, study: optuna.Study, bracket_id: int) -> optuna.Study:
        del bracket_id
        return study


def make_pruner(spec: StudySpec) -> BasePruner:
    """Optuna's pruner of that name, for a study of one objective; it is asked at rungs only."""
    pruner, epochs = spec.search.pruner, spec.budget.epochs
    options = dict(pruner.options)
    rungs = {"min_resource": pruner.min_epochs, "reduction_factor": pruner.reduction_factor}
    match pruner.name:
        case "median":
            return _Percentile(50.0, **options)  # type: ignore[arg-type]
        case "percentile":
            return _Percentile(**{"percentile": 25.0, **options})  # type: ignore[arg-type]
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(**rungs, **options)  # type: ignore[arg-type]
        case "hyperband":
            # Numbers, not "auto": workers would estimate them apart from each other.
            return _Hyperband(max_resource=epochs, **rungs)
        case "patient":
            return optuna.pruners.PatientPruner(None, **{"patience": 1, **options})  # type: ignore[arg-type]
        case _:
            raise ValueError(f"{pruner.name} is no pruner of Optuna's")
