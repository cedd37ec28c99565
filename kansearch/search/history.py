"""What a study's trials tell those who draw the next ones, kept from look to look."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from kansearch.specs.space import Domain, Fixed, Range
from kansearch.specs.study import StudySpec
from kansearch.storage.known import Changes
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import optuna_directions
from kansearch.storage.trials import DEATHS

Places = NDArray[np.int64]
"""Of trials in a History: their numbers, lowest first."""

Numbers = NDArray[np.float64]

ABSENT = math.inf
"""Stands where a trial does not have a hyperparameter; those of a space are finite."""

DRAFT_ID = -1
"""Stands for the trial that does not exist yet while its hyperparameters are drawn."""


class _Row(NamedTuple):
    """What counts of a trial, as it stands.

    Attributes:
        place: Of the trial, its number.
        state: Of the trial.
        family: Of its network; None where the space has but one.
        epochs: That it got so far, at least one.
        is_second_try: Of a trial that lost its worker.
        network: By which one with the same hyperparameters is known.
    """

    place: int
    state: TrialState
    family: str | None
    epochs: int
    is_second_try: bool
    network: bytes


class History:
    """The trials of a study as those see them who draw the next ones, and what was drawn since.

    A look costs as much as changed since the last one, however many trials there are. All of it follows from the
    trials: what is kept saves time and decides nothing.

    Attributes:
        distributions: What the hyperparameters of the space are drawn from, by name, in the order of their columns.
        directions: Of the objectives.
        params: The numbers that stand for the hyperparameters of each trial, by its number; ABSENT for those that it
            does not have. There is room for more trials than there are.
        n_drawn: How many were drawn. Second tries were not: a study that was stopped draws what it would have drawn.
        family_epochs: Epochs that each family of the space got so far. A trial that has only begun counts as one
            epoch, so that workers spread over the families. Failed trials do not count.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.distributions = {
            name: to_distribution(domain)
            for name, domain in spec.space.domains.items()
            if not isinstance(domain, Fixed)
        }
        self.directions = optuna_directions(spec)
        self.params = np.zeros((64, len(self.distributions)))
        self.n_drawn = 0
        self.family_epochs = dict.fromkeys(spec.space.families(), 0)
        self._changes = Changes()
        self._rows: list[_Row] = []
        self._n_drafts = 0
        self._networks: Counter[bytes] = Counter()
        self._ended: dict[str | None, list[StoredTrial]] = defaultdict(list)
        self._running: dict[str | None, set[int]] = defaultdict(set)

    def look(self, trials: Sequence[StoredTrial]) -> None:
        """See the trials as they are now; what was drawn since the last look is forgotten."""
        for _ in range(self._n_drafts):
            self._count(self._rows.pop(), -1)
        self._n_drafts = 0
        for _, trial in self._changes.since(trials):
            self._see(trial)

    def add(self, params: Mapping[str, Any]) -> None:
        """Add a trial of these hyperparameters, which were drawn and will be created, as if it ran already."""
        self._begin(params, TrialState.RUNNING)
        self._n_drafts += 1

    @property
    def n_trials(self) -> int:
        """How many there are, with those that were drawn since the last look."""
        return len(self._rows)

    def ended(self, family: str | None) -> Sequence[StoredTrial]:
        """The complete and the pruned trials of a family, or of all where it is None, in the order in which they ended.

        Later ones are appended.
        """
        return self._ended[family]

    def running(self, family: str | None) -> list[int]:
        """The places of those that run, or were drawn since the last look; lowest first."""
        return sorted(self._running[family])

    def has(self, params: Mapping[str, Any]) -> bool:
        """Whether there is a trial with these hyperparameters that did not fail."""
        return self._networks[self._numbers(params).tobytes()] > 0

    def _see(self, trial: StoredTrial) -> None:
        place = trial.number
        if place == len(self._rows):
            self._begin(trial.params, trial.state, trial.epochs or 1, is_second_try=DEATHS in trial.user_attrs)
        else:
            before = self._rows[place]
            self._count(before, -1)
            self._rows[place] = before._replace(state=trial.state, epochs=trial.epochs or 1)
            self._count(self._rows[place], 1)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            for family in {None, self._rows[place].family}:
                self._ended[family].append(trial)

    def _begin(
        self, params: Mapping[str, Any], state: TrialState, epochs: int = 1, *, is_second_try: bool = False
    ) -> None:
        """Let a trial count that is new here."""
        place, numbers = len(self._rows), self._numbers(params)
        if place == len(self.params):
            self.params = np.concatenate([self.params, np.zeros_like(self.params)])
        self.params[place] = numbers
        row = _Row(place, state, params.get("family"), epochs, is_second_try, numbers.tobytes())
        self._rows.append(row)
        self._count(row, 1)

    def _count(self, row: _Row, sign: int) -> None:
        """Let a trial count, or no more."""
        self.n_drawn += sign * (not row.is_second_try)
        if row.state is TrialState.FAIL:
            return
        self._networks[row.network] += sign
        if row.family in self.family_epochs:
            self.family_epochs[row.family] += sign * row.epochs
        if row.state is TrialState.RUNNING:
            for family in {None, row.family}:
                (self._running[family].add if sign > 0 else self._running[family].discard)(row.place)

    def _numbers(self, params: Mapping[str, Any]) -> Numbers:
        """What stands for hyperparameters."""
        return np.array(
            [
                distribution.to_internal_repr(params[name]) if name in params else ABSENT
                for name, distribution in self.distributions.items()
            ]
        )


def to_distribution(domain: Domain) -> BaseDistribution:
    """Optuna's distribution for a domain of several values."""
    if isinstance(domain, Range) and domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    if isinstance(domain, Range):
        return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    assert not isinstance(domain, Fixed)
    return CategoricalDistribution(domain.choices)
