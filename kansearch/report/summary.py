"""A study in numbers: everything that the report, the terminal and the JSON file show, and no text yet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kansearch.report.comparison import Comparison, Network, beats_constant, best_of, compare, network
from kansearch.report.progress import HistoryPoint, Objective, front_of, front_volume, objectives_of, progress
from kansearch.specs.columns import Column
from kansearch.specs.constant import ConstantAnswer
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import Curve, TrialRecord

MAX_CURVES = 300
"""Learning curves that are kept; more cannot be told apart."""

MAX_POINTS = 60
"""Points of each."""

STATES = ("complete", "pruned", "fail", "running", "waiting")

Item = TypeVar("Item")


@dataclass(frozen=True)
class LearningCurve:
    """The validation loss of a trial.

    Attributes:
        trial: Its number.
        family: mlp, kan or hybrid.
        state: Of the trial.
        on_front: Whether the trial is on the front.
        epochs: Of the points.
        losses: At these epochs.
    """

    trial: int
    family: str | None
    state: str
    on_front: bool
    epochs: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Activations:
    """The learned activations of the best network that has some.

    Attributes:
        network: The most accurate KAN or hybrid of the front, or of all complete trials.
        on_front: Whether it is on the front.
        curves: Strongest first within each layer.
    """

    network: Network
    on_front: bool
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class EarlyEnd:
    """A reason for which trials ended before their last epoch.

    Attributes:
        state: In which they ended.
        reason: In words.
        trials: Their numbers.
    """

    state: str
    reason: str
    trials: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """What the trials of a study taught.

    Attributes:
        study: As it was declared.
        data: The line that describes the data, with their digest.
        versions: Of the software, by name.
        warnings: For whoever reads the report.
        columns: Of the table that was learned from, and what was done with each; () where there is none.
        records: All trials, in order of their numbers.
        objectives: With the axes that the trials span.
        front: Complete, feasible trials that no other one dominates; the cheapest first, or the best first where
            no objective is a cost.
        baseline: The best plain network in the first objective, whatever was spent on it.
        best_kan: The best KAN, likewise.
        best_hybrid: The best hybrid, likewise.
        comparison: The same at an equal budget.
        history: The study after each finished trial.
        hypervolume: Of the front; None while it is empty. `progress` defines it.
        counts: Trials by state; every state is there.
        ends: Reasons of early ends, the most frequent first.
        failures: Failed trials by number, with the reason.
        epochs_spent: On all trials, failed ones included.
        epochs_unpruned: What they would have cost had none been pruned.
        importances: Share of each hyperparameter by objective.
        learning_curves: Of all trials, or of MAX_CURVES of them; the front is always among them.
        n_curves: Trials that have a learning curve.
        activations: Of the best KAN or hybrid; None where there is none.
        constant: What one answer for all rows measures; None where it is not known.
        is_better_than_constant: Whether a network of the front beats it in a quality; None where that cannot be told.
    """

    study: StudySpec
    data: str
    versions: Mapping[str, str]
    warnings: tuple[str, ...]
    columns: tuple[Column, ...]
    records: tuple[TrialRecord, ...]
    objectives: tuple[Objective, ...]
    front: tuple[Network, ...]
    baseline: Network | None
    best_kan: Network | None
    best_hybrid: Network | None
    comparison: Comparison
    history: tuple[HistoryPoint, ...]
    hypervolume: float | None
    counts: Mapping[str, int]
    ends: tuple[EarlyEnd, ...]
    failures: Mapping[int, str]
    epochs_spent: int
    epochs_unpruned: int
    importances: Mapping[str, Mapping[str, float]]
    learning_curves: tuple[LearningCurve, ...]
    n_curves: int
    activations: Activations | None
    constant: ConstantAnswer | None
    is_better_than_constant: bool | None

    @property
    def seconds(self) -> float:
        """From start to end of each trial that has ended, all together."""
        return sum(record.seconds or 0.0 for record in self.records)

    @property
    def share_saved(self) -> float:
        """Share of the unpruned cost that pruning saved."""
        return 1 - self.epochs_spent / self.epochs_unpruned if self.epochs_unpruned else 0.0


def summarize(
    study: StudySpec,
    records: Sequence[TrialRecord],
    importances: Mapping[str, Mapping[str, float]],
    versions: Mapping[str, str],
    data: str,
    warnings: Sequence[str],
    constant: ConstantAnswer | None = None,
    columns: Sequence[Column] = (),
) -> Summary:
    """Sum up a study.

    Args:
        study: As the storage keeps it.
        records: Its trials in any order.
        importances: Share of each hyperparameter in each objective, by objective.
        versions: Of the software, by name.
        data: A line that describes the data, with their digest.
        warnings: Sentences for whoever reads the report.
        constant: What one answer for all rows measures; None where it is not known.
        columns: Of the table.
    """
    ordered = tuple(sorted(records, key=lambda record: record.number))
    objectives = objectives_of(study.objectives, ordered)
    on_front = sorted(front_of(ordered, objectives), key=lambda record: _place(record, objectives))
    numbers = {record.number for record in on_front}
    bests = {
        family: best_of([record for record in ordered if record.family == family], objectives[0])
        for family in ("mlp", "kan", "hybrid")
    }
    networks = {family: network(record, study) if record else None for family, record in bests.items()}
    counts: Counter[str] = Counter(record.state for record in ordered)
    return Summary(
        study=study,
        data=data,
        versions=dict(versions),
        warnings=tuple(warnings),
        columns=tuple(columns),
        records=ordered,
        objectives=objectives,
        front=tuple(network(record, study) for record in on_front),
        baseline=networks["mlp"],
        best_kan=networks["kan"],
        best_hybrid=networks["hybrid"],
        comparison=compare(study, ordered, objectives),
        history=progress(ordered, objectives),
        hypervolume=front_volume(on_front, objectives),
        counts={state: counts[state] for state in STATES},
        ends=_ends(ordered),
        failures={r.number: r.reason or "no reason was noted" for r in ordered if r.state == "fail"},
        epochs_spent=sum(record.epochs_spent for record in ordered),
        epochs_unpruned=sum(_unpruned(record, study.budget.epochs) for record in ordered),
        importances={name: dict(shares) for name, shares in importances.items()},
        learning_curves=_learning_curves(ordered, numbers),
        n_curves=sum(bool(record.points) for record in ordered),
        activations=_activations(ordered, numbers, objectives[0], study),
        constant=constant,
        is_better_than_constant=beats_constant(on_front, objectives, constant),
    )


def _place(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Where a trial stands in the list of the front."""
    leading = next((objective for objective in objectives if objective.is_cost), objectives[0])
    signed = {o.name: record.values[o.name] * (-1 if o.maximize else 1) for o in objectives}
    return (signed[leading.name], *signed.values(), record.number)


def _unpruned(record: TrialRecord, epochs: int) -> int:
    """Epochs of a trial that is never pruned; one that diverged or stopped by itself would have ended all the same."""
    if record.state != "pruned" or record.end is not None:
        return record.epochs_spent
    return max(epochs - record.resumed_at, record.epochs_spent)


def _ends(records: Sequence[TrialRecord]) -> tuple[EarlyEnd, ...]:
    trials = defaultdict(list)
    for record in records:
        if record.reason is not None or record.state in ("pruned", "fail"):
            trials[record.state, record.reason or "no reason was noted"].append(record.number)
    ends = (EarlyEnd(state, reason, tuple(numbers)) for (state, reason), numbers in trials.items())
    return tuple(sorted(ends, key=lambda end: (-len(end.trials), end.trials)))


def _learning_curves(records: Sequence[TrialRecord], on_front: set[int]) -> tuple[LearningCurve, ...]:
    drawn = [record for record in records if record.points]
    kept = {record.number for record in drawn if record.number in on_front}
    others = [record.number for record in drawn if record.number not in on_front]
    kept |= set(thinned(others, max(0, MAX_CURVES - len(kept))))
    return tuple(
        LearningCurve(
            record.number,
            record.family,
            record.state,
            record.number in on_front,
            tuple(point.epoch for point in points),
            tuple(point.validation_loss for point in points),
        )
        for record in drawn
        if record.number in kept
        for points in [thinned(record.points, MAX_POINTS)]
    )


def thinned(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """At most `limit` items, evenly spread, the first and the last among them."""
    if len(items) <= limit:
        return items
    return [items[position] for position in np.unique(np.linspace(0, len(items) - 1, limit).round().astype(int))]


def _activations(
    records: Sequence[TrialRecord], on_front: set[int], objective: Objective, study: StudySpec
) -> Activations | None:
    drawn = [record for record in records if record.curves]
    best = best_of([record for record in drawn if record.number in on_front], objective) or best_of(drawn, objective)
    if best is None:
        return None
    curves = sorted(best.curves, key=lambda curve: (curve.layer, -curve.amplitude))
    return Activations(network(best, study), best.number in on_front, tuple(curves))
