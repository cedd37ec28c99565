"""Plain networks, KANs and hybrids held against each other at an equal budget of epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kansearch.report.architecture import describe_architecture
from kansearch.report.progress import Objective, counts_for_front, front_volume
from kansearch.specs.constant import ConstantAnswer
from kansearch.specs.metrics import METRICS, Direction
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import TrialRecord

MIN_ACCURACIES = 10
"""Different accuracies from which their smallest distance is taken for one validation example."""

NEGLIGIBLE = 0.01
"""Errors that differ by no larger share count as equal."""


@dataclass(frozen=True)
class Network:
    """A network that was trained to its end.

    Attributes:
        trial: Number of its trial.
        family: mlp, kan or hybrid.
        architecture: In one line.
        values: Objective values by name.
        metrics: All that was measured, by name.
        params: Suggested hyperparameters by name.
        epochs: It was trained for.
        seed: Of its training.
    """

    trial: int
    family: str | None
    architecture: str
    values: Mapping[str, float]
    metrics: Mapping[str, float]
    params: Mapping[str, Any]
    epochs: int
    seed: int | None

    def measured(self, name: str) -> float | None:
        """An objective value or another metric."""
        return self.values.get(name, self.metrics.get(name))


@dataclass(frozen=True)
class Against:
    """A family's best network held against the best plain network.

    Attributes:
        gain: How much better it is in the first objective; negative where it is worse.
        relative_gain: The gain as a share of the plain network's error (1 - r2 for r2); None for metrics from 0 to 1,
            such as accuracy, and where that error is 0.
        examples: The gain in validation examples, about; None where it cannot be told.
        equal: No difference larger than one validation example, or than NEGLIGIBLE of the error.
        parameter_ratio: The plain network's parameters over its own; above 1 where it is smaller.
        smallest_match: The family's network with the fewest parameters that is as good as the plain one, equal
            in that sense included.
        match_ratio: The plain network's parameters over those of `smallest_match`.
    """

    gain: float
    relative_gain: float | None
    examples: int | None
    equal: bool
    parameter_ratio: float | None
    smallest_match: Network | None
    match_ratio: float | None


@dataclass(frozen=True)
class FamilyResult:
    """What a family got and what became of it.

    Attributes:
        family: mlp, kan or hybrid.
        trials: That count: all but failed and waiting ones.
        epochs: Spent on them.
        compared_trials: The first of them, in order of their numbers, whose epochs fit in the equal budget.
        compared_epochs: Spent on those.
        best: The best of those in the first objective; None where none is complete and feasible.
        hypervolume: Of the front of those, on the axes of the whole study; None where it is empty.
        against: Held against the best plain network; None for plain networks, and where one of both is missing.
    """

    family: str
    trials: int
    epochs: int
    compared_trials: int
    compared_epochs: int
    best: Network | None
    hypervolume: float | None
    against: Against | None


@dataclass(frozen=True)
class Comparison:
    """All families at an equal budget.

    Attributes:
        fair_epochs: The epochs of the family that got the fewest; None where fewer than two got any.
        left_out: Trials of the others that do not fit in them.
        families: In the order plain, KAN, hybrid; those of the study's space.
    """

    fair_epochs: int | None
    left_out: int
    families: tuple[FamilyResult, ...]

    def of(self, family: str) -> FamilyResult | None:
        """The result of a family; None where the study has no such family."""
        return next((result for result in self.families if result.family == family), None)


def network(record: TrialRecord, study: StudySpec) -> Network:
    """A complete trial as a network."""
    return Network(
        record.number,
        record.family,
        describe_architecture(record.params, study),
        dict(record.values),
        dict(record.metrics),
        dict(record.params),
        record.epochs,
        record.seed,
    )


def best_of(records: Sequence[TrialRecord], objective: Objective) -> TrialRecord | None:
    """The best complete, feasible trial in an objective; of equal ones the one with fewest parameters."""
    return min(
        (record for record in records if counts_for_front(record, [objective.name])),
        key=lambda record: (
            record.values[objective.name] * (-1 if objective.maximize else 1),
            record.metrics.get("parameters", np.inf),
            record.number,
        ),
        default=None,
    )


def compare(study: StudySpec, records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Comparison:
    """Compare the families of a study.

    Args:
        study: The study.
        records: Its trials, in order of their numbers.
        objectives: Its objectives.
    """
    families = [family for family in ("mlp", "kan", "hybrid") if family in study.space.families()]
    of_family = {
        family: [r for r in records if r.family == family and r.state not in ("fail", "waiting")] for family in families
    }
    epochs = {family: sum(record.epochs for record in mine) for family, mine in of_family.items()}
    spent = [total for total in epochs.values() if total]
    fair = min(spent) if len(spent) > 1 else None
    compared = {family: _first(mine, fair) for family, mine in of_family.items()}
    bests = {family: best_of(mine, objectives[0]) for family, mine in compared.items()}
    plain = bests.get("mlp")
    # Where rows count differently no distance is that of one example.
    is_plain = objectives[0].name == "accuracy" and study.data.weight is None
    step = accuracy_step(records) if is_plain else None
    results = []
    for family in families:
        best, mine = bests[family], compared[family]
        against = None
        if family != "mlp" and best is not None and plain is not None:
            against = _against(study, objectives[0], mine, best, plain, step)
        results.append(
            FamilyResult(
                family=family,
                trials=len(of_family[family]),
                epochs=epochs[family],
                compared_trials=len(mine),
                compared_epochs=sum(record.epochs for record in mine),
                best=network(best, study) if best else None,
                hypervolume=front_volume(mine, objectives),
                against=against,
            )
        )
    left_out = sum(len(of_family[family]) - len(compared[family]) for family in families)
    return Comparison(fair, left_out, tuple(results))


def _first(records: Sequence[TrialRecord], epochs: int | None) -> list[TrialRecord]:
    """The first trials whose epochs together do not exceed a budget; None is no limit."""
    if epochs is None:
        return list(records)
    so_far = np.cumsum([record.epochs for record in records])
    return [record for record, total in zip(records, so_far, strict=True) if total <= epochs]


def _against(
    study: StudySpec,
    objective: Objective,
    records: Sequence[TrialRecord],
    best: TrialRecord,
    plain: TrialRecord,
    step: float | None,
) -> Against:
    name, sign = objective.name, 1 if objective.maximize else -1
    bar = plain.values[name]
    gain = sign * (best.values[name] - bar)
    error = _error(name, bar)
    relative = gain / error if error > 0 and not METRICS[name].is_share else None
    margin = (step or 0.0) if name == "accuracy" else NEGLIGIBLE * max(error, 0.0)
    # A thousandth more, for values that were rounded on their way through the storage.
    slack = 1.001 * margin
    sizes = {r.number: r.metrics["parameters"] for r in (*records, plain) if r.metrics.get("parameters")}
    matches = [
        record
        for record in records
        if counts_for_front(record, [name]) and sign * (record.values[name] - bar) >= -slack and record.number in sizes
    ]
    smallest = min(matches, key=lambda record: (sizes[record.number], record.number), default=None)

    def ratio(other: TrialRecord | None) -> float | None:
        if other is None or other.number not in sizes or plain.number not in sizes:
            return None
        return sizes[plain.number] / sizes[other.number]

    return Against(
        gain=gain,
        relative_gain=relative,
        examples=round(gain / step) if step else None,
        equal=abs(gain) <= slack,
        parameter_ratio=ratio(best),
        smallest_match=network(smallest, study) if smallest else None,
        match_ratio=ratio(smallest),
    )


def _error(name: str, value: float) -> float:
    """What is left to be gained in a quality."""
    return 1 - value if METRICS[name].direction is Direction.MAXIMIZE else value


def beats_constant(
    front: Sequence[TrialRecord], objectives: Sequence[Objective], constant: ConstantAnswer | None
) -> bool | None:
    """Whether a trial of the front is better in a quality than one answer for all rows, and not only about as good.

    About as good is a difference of one validation example for accuracy, and of NEGLIGIBLE of the error for others.
    None where the front is empty, or the constant answer not known.
    """
    known = {} if constant is None else constant.metrics
    bars = [(o, known[o.name]) for o in objectives if not o.is_cost and o.name in known]
    if not front or constant is None or not bars:
        return None
    for objective, bar in bars:
        margin = 1 / constant.n_validation if objective.name == "accuracy" else NEGLIGIBLE * _error(objective.name, bar)
        gains = (record.values[objective.name] - bar for record in front)
        # A thousandth more, as above.
        if any(gain * (1 if objective.maximize else -1) > 1.001 * max(margin, 0.0) for gain in gains):
            return True
    return False


def accuracy_step(records: Sequence[TrialRecord]) -> float | None:
    """The accuracy that one validation example is worth: the smallest distance of two accuracies of a study.

    None where fewer than MIN_ACCURACIES different ones were measured, which could hide the true step.
    """
    seen = {record.metrics.get("accuracy", record.values.get("accuracy")) for record in records}
    # Closer than a millionth is the same one.
    distinct = np.unique(np.round([value for value in seen if value is not None], 6))
    return float(np.diff(distinct).min()) if len(distinct) >= MIN_ACCURACIES else None
