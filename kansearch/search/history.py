"""What a study's trials tell those who draw the next ones: a table, of which only what changed is written anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import compress, count
from operator import is_not
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kansearch.specs.space import Domain, Fixed, Range
from kansearch.specs.study import StudySpec
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy, optuna_directions
from kansearch.storage.trials import DEATHS

Places = NDArray[np.int64]
"""Of trials in a History, lowest first."""

Numbers = NDArray[np.float64]

ABSENT = math.inf
"""Stands where a trial does not have a hyperparameter; those of a space are finite."""

DRAFT_ID = -1
"""Stands for the trial that does not exist yet while its hyperparameters are drawn."""


class History:
    """The trials of a study as a table: a row for each, in order of their numbers, and for those drawn since.

    A trial that has ended never changes, so its row is kept as long as the storage shows the same object. All of it
    follows from the trials: what is kept saves time and decides nothing.

    Attributes:
        distributions: What the hyperparameters of the space are drawn from, by name, in the order of their columns.
        directions: Of the objectives.
        kinds: Sets of hyperparameters that occur, and the numbers that stand for them.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.distributions = {
            name: to_distribution(domain)
            for name, domain in spec.space.domains.items()
            if not isinstance(domain, Fixed)
        }
        self.directions = optuna_directions(spec)
        self.kinds: dict[frozenset[str], int] = {}
        self._signs = [-1.0 if direction is StudyDirection.MAXIMIZE else 1.0 for direction in self.directions]
        self._families = {name: number for number, name in enumerate(spec.space.families())}
        self._ended: list[StoredTrial | None] = []
        self._n = 0
        self._columns: dict[str, NDArray[Any]] = {
            "id": np.zeros(64, np.int64),
            "state": np.zeros(64, np.int8),
            "is_second_try": np.zeros(64, np.bool_),
            "family": np.zeros(64, np.int64),
            "kind": np.zeros(64, np.int64),
            "epochs": np.zeros(64, np.int64),
            "violation": np.zeros(64),
            "losses": np.zeros((64, len(self.directions))),
            "last_rung": np.zeros((64, 2)),
            "params": np.zeros((64, len(self.distributions))),
        }

    def look(self, trials: Sequence[StoredTrial]) -> None:
        """See the trials as they are now; what was drawn since the last look is forgotten."""
        self._n = len(trials)
        del self._ended[self._n :]
        self._ended.extend([None] * (self._n - len(self._ended)))
        self._make_room()
        # Thousands of trials are compared in C.
        for place in compress(count(), map(is_not, self._ended, trials)):
            trial = trials[place]
            self._ended[place] = trial if trial.state.is_finished() else None
            self._write(place, trial)

    def add(self, draft: StoredTrial) -> None:
        """Add a trial that is drawn and will be created, as if it ran already."""
        self._n += 1
        self._make_room()
        self._write(self._n - 1, draft)

    def __getitem__(self, column: str) -> NDArray[Any]:
        """What a column says of each trial.

        `epochs` are those that it got so far, at least one; `violation` is that of all constraints. Of `losses`, its
        objectives, and of `last_rung`, its epoch and the first objective there, smaller ones are better. `params` are
        the numbers that stand for its hyperparameters.
        """
        return self._columns[column][: self._n]

    @property
    def n_drawn(self) -> int:
        """How many were drawn. Second tries were not: a study that was stopped draws what it would have drawn."""
        return int(np.count_nonzero(~self["is_second_try"]))

    def family_epochs(self) -> dict[str, int]:
        """Epochs that each family of the space got so far.

        A trial that has only begun counts as one epoch, so that workers spread over the families.
        """
        counts = (self["state"] != TrialState.FAIL) & (self["family"] >= 0)
        sums = np.bincount(self["family"][counts], self["epochs"][counts], minlength=len(self._families))
        return {name: int(sums[number]) for name, number in self._families.items()}

    def rivals(self, family: str | None) -> NDArray[np.bool_]:
        """Which trials a family learns from: its own, or all where it is None; failed ones are nobody's."""
        lives: NDArray[np.bool_] = self["state"] != TrialState.FAIL
        return lives if family is None else lives & (self["family"] == self._families[family])

    def has(self, params: Mapping[str, Any]) -> bool:
        """Whether there is a trial with these hyperparameters that did not fail."""
        same = (self["params"] == self._numbers(params)).all(axis=1)
        return bool((same & self.rivals(None)).any())

    def _make_room(self) -> None:
        for name, column in self._columns.items():
            if self._n > len(column):
                self._columns[name] = np.concatenate([column, np.zeros((self._n, *column.shape[1:]), column.dtype)])

    def _write(self, place: int, trial: StoredTrial) -> None:
        columns = self._columns
        if columns["id"][place] != trial._trial_id or trial._trial_id == DRAFT_ID:
            # All that a trial has from its first moment on.
            columns["id"][place] = trial._trial_id
            columns["is_second_try"][place] = DEATHS in trial.user_attrs
            columns["family"][place] = self._families.get(trial.params.get("family", ""), -1)
            columns["kind"][place] = self.kinds.setdefault(frozenset(trial.params), len(self.kinds))
            columns["params"][place] = self._numbers(trial.params)
        columns["state"][place] = trial.state
        columns["epochs"][place] = trial.epochs or 1
        if trial.state.is_finished():
            columns["violation"][place] = sum(value for value in trial.constraints.values() if value > 0)
            columns["losses"][place] = np.multiply(trial.values, self._signs) if trial.values else math.nan
            columns["last_rung"][place] = self._last_rung(trial)

    def _numbers(self, params: Mapping[str, Any]) -> list[float]:
        """What stands for hyperparameters."""
        return [
            distribution.to_internal_repr(params[name]) if name in params else ABSENT
            for name, distribution in self.distributions.items()
        ]

    def _last_rung(self, trial: FrozenTrial) -> tuple[float, float]:
        if not trial.intermediate_values:
            return 1.0, 0.0
        epoch, value = max(trial.intermediate_values.items())
        return -epoch, math.inf if math.isnan(value) else value * self._signs[0]


_histories: WeakKeyDictionary[StoredStudy, History] = WeakKeyDictionary()


def history_of(study: StoredStudy, trials: Sequence[StoredTrial]) -> History:
    """The history of a study that has these trials."""
    history = _histories.get(study)
    if history is None:
        history = _histories[study] = History(study.spec)
    history.look(trials)
    return history


def to_distribution(domain: Domain) -> BaseDistribution:
    """Optuna's distribution for a domain of several values."""
    if isinstance(domain, Range) and domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    if isinstance(domain, Range):
        return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    assert not isinstance(domain, Fixed)
    return CategoricalDistribution(domain.choices)
