"""How good the front was after each trial: the hypervolume of a study, from 0 to 1.

Shapes: D objectives. Every objective is mapped to a unit axis where 0 is the best and 1 the worst value of all
complete, feasible trials of the whole study; costs, and errors that span more than a factor of ten, are mapped
by their logarithm. The reference lies a tenth beyond the worst value of every axis, so that the ends of the
front count too. The hypervolume is the share of the box between best and reference that the front dominates:
1 means that one trial is the best in every objective. Because the box belongs to the whole study, values of two
studies cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kansearch.pareto import Losses, as_losses, distinct, hypervolume
from kansearch.specs.metrics import METRICS, Direction
from kansearch.specs.trial import TrialRecord

REFERENCE = 1.1
"""Of every unit axis."""

N_SAMPLES = 2**15
"""Points that measure a volume of three or more objectives."""

LOG_SPAN = 10.0
"""Worst value over best value from which an error lies on a logarithmic axis."""


@dataclass(frozen=True)
class Objective:
    """An objective and its axis.

    Attributes:
        name: Of the metric.
        label: For people, with its unit.
        direction: Which way it gets better.
        is_cost: A cost of the network, not a quality.
        logarithmic: Its axis is drawn and measured in logarithms.
        best: Of all complete, feasible trials; None where there are none.
        worst: Likewise.
    """

    name: str
    label: str
    direction: Direction
    is_cost: bool
    logarithmic: bool
    best: float | None
    worst: float | None

    @property
    def maximize(self) -> bool:
        """Whether larger is better."""
        return self.direction is Direction.MAXIMIZE

    def unit(self, value: float) -> float:
        """The value on the unit axis: 0 best, 1 worst."""
        assert self.best is not None
        assert self.worst is not None
        ends = np.array([self.best, self.worst, value])
        best, worst, here = np.log10(ends) if self.logarithmic else ends
        return float((here - best) / (worst - best)) if best != worst else 0.0


@dataclass(frozen=True)
class HistoryPoint:
    """The study after one more finished trial.

    Attributes:
        trial: Number of that trial.
        epochs: Spent so far, this trial's included.
        hypervolume: Of the front so far; 0 while it is empty.
        best: The best first objective so far; None while there is none.
    """

    trial: int
    epochs: int
    hypervolume: float
    best: float | None


def counts_for_front(record: TrialRecord, names: Sequence[str]) -> bool:
    """Whether a trial can be on the front: complete, feasible, and measured in every objective."""
    return record.state == "complete" and record.feasible and all(name in record.values for name in names)


def objectives_of(names: Sequence[str], records: Iterable[TrialRecord]) -> tuple[Objective, ...]:
    """The objectives of a study with the axes that its trials span."""
    able = [record for record in records if counts_for_front(record, names)]
    return tuple(_objective(name, [record.values[name] for record in able]) for name in names)


def _objective(name: str, values: Sequence[float]) -> Objective:
    metric = METRICS[name]
    maximize = metric.direction is Direction.MAXIMIZE
    best, worst = ((max if maximize else min)(values), (min if maximize else max)(values)) if values else (None, None)
    positive = all(value > 0 for value in values)
    wide = best is not None and worst is not None and not maximize and best > 0 and worst > LOG_SPAN * best
    return Objective(
        name, metric.label, metric.direction, metric.is_cost, positive and (metric.is_cost or wide), best, worst
    )


class GrowingFront:
    """A front that takes one vector after the other and knows its hypervolume.

    Vectors are unit losses (D,). One or two objectives are measured exactly; from three on the volume is the
    share of N_SAMPLES evenly spread points that are dominated, right to about 0.001, because the exact volume of
    a large front of four objectives takes minutes.
    """

    def __init__(self, n_objectives: int) -> None:
        self.members: Losses = np.empty((0, n_objectives))
        self.volume = 0.0
        self._open: Losses = _spread_points(n_objectives) * REFERENCE if n_objectives > 2 else np.empty((0, 0))

    def add(self, vector: Sequence[float]) -> None:
        """Take a vector; one that is dominated or known changes nothing."""
        new = np.asarray(vector, dtype=np.float64)
        if (self.members <= new).all(axis=1).any():
            return
        kept = self.members[~(self.members >= new).all(axis=1)]
        self.members = np.vstack([kept, new])
        n_objectives = len(new)
        if n_objectives > 2:
            self._open = self._open[~(self._open >= new).all(axis=1)]
            volume = 1.0 - len(self._open) / N_SAMPLES
        else:
            volume = hypervolume(self.members, [REFERENCE] * n_objectives) / REFERENCE**n_objectives
        # Rounding must not let it fall.
        self.volume = max(self.volume, volume)


@cache
def _spread_points(n_dimensions: int) -> NDArray[np.float64]:
    """N_SAMPLES points (N, D) that fill the unit cube evenly, always the same.

    Source: Halton (1960), the radical inverses of 1, 2, 3, ... in the first D primes.
    """
    return np.stack([_radical_inverse(base) for base in (2, 3, 5, 7)[:n_dimensions]], axis=1)


def _radical_inverse(base: int) -> NDArray[np.float64]:
    """The digits of 1, 2, 3, ... mirrored at the point."""
    left = np.arange(1, N_SAMPLES + 1)
    mirrored, place = np.zeros(N_SAMPLES), 1.0
    while left.any():
        place /= base
        mirrored += place * (left % base)
        left //= base
    return mirrored


def unit_vector(values: Mapping[str, float], objectives: Sequence[Objective]) -> list[float]:
    """Objective values as unit losses."""
    return [objective.unit(values[objective.name]) for objective in objectives]


def front_of(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The complete, feasible trials that no other one dominates, equal ones included, in their order."""
    names = [objective.name for objective in objectives]
    able = [record for record in records if counts_for_front(record, names)]
    losses = as_losses([[r.values[name] for name in names] for r in able], [o.maximize for o in objectives])
    members: Losses = np.empty((0, len(names)))
    # No vector dominates one that is lexicographically smaller. (The matrix of `pareto.dominance` would need
    # a gigabyte for 10,000 trials.)
    for vector in distinct(losses):
        if not (members <= vector).all(axis=1).any():
            members = np.vstack([members, vector])
    return [record for record, vector in zip(able, losses, strict=True) if (members == vector).all(axis=1).any()]


def front_volume(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> float | None:
    """The hypervolume of the front of some trials; None where it is empty."""
    members = front_of(records, objectives)
    front = GrowingFront(len(objectives))
    for record in members:
        front.add(unit_vector(record.values, objectives))
    return front.volume if members else None


def progress(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> tuple[HistoryPoint, ...]:
    """The study after each finished trial, in order of their numbers."""
    names = [objective.name for objective in objectives]
    first = objectives[0]
    front = GrowingFront(len(objectives))
    points = []
    epochs, best = 0, None
    for record in records:
        if record.state in ("running", "waiting"):
            continue
        epochs += record.epochs_spent
        if counts_for_front(record, names):
            front.add(unit_vector(record.values, objectives))
            value = record.values[first.name]
            best = value if best is None else (max if first.maximize else min)(best, value)
        points.append(HistoryPoint(record.number, epochs, front.volume, best))
    return tuple(points)
