"""What a process knows of the trials of a study, so that it reads only what changed.

Of a trial that ended nothing is read again; of the others one query for all tells whether anything changed. What a
process wrote itself it knows already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import bindparam, func, select

from kansearch.storage.reading import StoredTrial, read_trials
from kansearch.storage.writes import TrialWrite

if TYPE_CHECKING:
    from sqlalchemy import Connection

_Trial, _UserAttr, _SystemAttr = models.TrialModel, models.TrialUserAttributeModel, models.TrialSystemAttributeModel

_SIGNS = (
    select(
        _Trial.trial_id,
        _Trial.number,
        _Trial.state,
        *(
            select(func.max(number)).where(trial_id == _Trial.trial_id).scalar_subquery()
            for number, trial_id in (
                (_UserAttr.trial_user_attribute_id, _UserAttr.trial_id),
                (_SystemAttr.trial_system_attribute_id, _SystemAttr.trial_id),
            )
        ),
    )
    .where((_Trial.trial_id > bindparam("newer_than")) | _Trial.trial_id.in_(bindparam("older", expanding=True)))
    # The sum keeps SQLite from looking at all trials of the study, by the index of that column; so would an order.
    .where(_Trial.study_id + 0 == bindparam("study_id"))
)
_STUDY = select(models.StudyModel.study_id).where(models.StudyModel.study_id == bindparam("study_id"))


class Sign(NamedTuple):
    """By which a trial that was read before is known to be unchanged.

    Attributes:
        number: Of the trial.
        state: Of the trial.
        newest: Row numbers of its newest attributes, the user's and the system's; None of a trial that this process
            trains, of whose attributes nobody else writes any.
    """

    number: int
    state: TrialState
    newest: tuple[int | None, int | None] | None


class KnownTrials:
    """The trials of a study as this process last saw them.

    Attributes:
        trials: In order of their numbers; this list is changed, never replaced, so that nobody copies thousands.
        newest: Id; all trials up to it are known.
        signs: Those of trials that had not ended, by id.
        ended: How many of the others, up to the newest one, ended in which state: these never change again.
    """

    def __init__(self) -> None:
        self.trials: list[StoredTrial] = []
        self.newest = -1
        self.signs: dict[int, Sign] = {}
        self.ended: Counter[TrialState] = Counter()

    def open_trials(self) -> list[StoredTrial]:
        """Those that had not ended, and perhaps some that have since, in order of their numbers."""
        return [self._trial(number) for number in sorted(sign.number for sign in self.signs.values())]

    def n_ended(self, states: Collection[TrialState]) -> int:
        """How many trials up to the newest one ended in one of these states."""
        return sum(self.ended[state] for state in states)

    def note(self, trial: StoredTrial) -> None:
        """Take note of a trial that this process began; one that cannot be placed yet is read later."""
        if trial.number == len(self.trials):
            self._put(trial, None)

    def note_write(self, trial_id: int, write: TrialWrite | None, at: datetime) -> None:
        """Take note of what this process wrote of a trial that it trains.

        Args:
            trial_id: Of the trial.
            write: What was written; None where that was refused.
            at: When.
        """
        sign = self.signs.get(trial_id)
        if sign is None:
            return
        if write is None or sign.state is not TrialState.RUNNING:
            # To be read again, whatever its sign.
            self.signs[trial_id] = sign._replace(newest=(-1, -1))
        elif sign.newest != (-1, -1):
            self._put(self._trial(sign.number).after(write, at), None)

    def _trial(self, number: int) -> StoredTrial:
        return self.trials[self._place(number)]

    def _put(self, trial: StoredTrial, newest: tuple[int | None, int | None] | None) -> None:
        if trial.state.is_finished() and trial._trial_id <= self.newest:
            self.signs.pop(trial._trial_id, None)
            self.ended[trial.state] += 1
        else:
            self.signs[trial._trial_id] = Sign(trial.number, trial.state, newest)
        place = self._place(trial.number)
        if place == len(self.trials) or self.trials[place].number != trial.number:
            self.trials.insert(place, trial)
        else:
            self.trials[place] = trial

    def _place(self, number: int) -> int:
        """Where a trial of this number is, or belongs: at its number, where none before it is missing."""
        if number < len(self.trials) and self.trials[number].number == number:
            return number
        if not self.trials or self.trials[-1].number < number:
            return len(self.trials)
        return bisect_left(self.trials, number, key=lambda trial: trial.number)

    def unread(self, connection: Connection, study_id: int) -> dict[int, Sign]:
        """The signs of the trials that had not ended and of those that are new, as they are now."""
        which = {"study_id": study_id, "newer_than": self.newest, "older": list(self.signs)}
        rows = sorted(connection.execute(_SIGNS, which), key=lambda row: row[0])
        return {trial_id: Sign(number, state, (user, system)) for trial_id, number, state, user, system in rows}

    def read(self, connection: Connection, study_id: int) -> None:
        """Read what changed.

        Raises:
            KeyError: If there is no such study.
        """
        signs = self.unread(connection, study_id)
        if not signs and connection.execute(_STUDY, {"study_id": study_id}).first() is None:
            raise KeyError(study_id)
        changed = [trial_id for trial_id, sign in signs.items() if not self._is_known(trial_id, sign)]
        found = read_trials(connection, study_id, changed) if changed else []
        self.newest = max([self.newest, *signs])
        for trial in found:
            self._put(trial, signs[trial._trial_id].newest)
        for trial_id in self.signs.keys() & signs.keys():
            # Those that this process began and ended between two looks.
            if self.signs[trial_id].state.is_finished():
                self._put(self._trial(signs[trial_id].number), None)

    def _is_known(self, trial_id: int, sign: Sign) -> bool:
        known = self.signs.get(trial_id)
        return known is not None and known.state is sign.state and known.newest in (None, sign.newest)


class Changes:
    """What became of a study's trials since somebody last looked; it costs as much as there is of it."""

    def __init__(self) -> None:
        self._n_seen = 0
        self._open: dict[int, StoredTrial] = {}

    def since(self, trials: Sequence[StoredTrial]) -> Iterator[tuple[StoredTrial | None, StoredTrial]]:
        """Trials that are new, or not as they were: as they were, None for new ones, and as they are.

        Args:
            trials: All of a study, in order of their numbers.
        """
        before = [(old, trials[number]) for number, old in self._open.items()]
        new = ((None, trial) for trial in trials[self._n_seen :])
        self._n_seen = len(trials)
        for old, trial in (*before, *new):
            if old is not trial:
                if trial.state.is_finished():
                    self._open.pop(trial.number, None)
                else:
                    self._open[trial.number] = trial
                yield old, trial
