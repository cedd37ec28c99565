"""Trials read from Optuna's tables: a few plain queries for all of them, instead of an object for each attribute."""

from __future__ import annotations

import copy
import functools
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam, select

from kansearch.garbage import many_objects
from kansearch.storage.writes import TrialWrite

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session


RUNG = "kansearch:rung:"
"""Prefix of the attributes that hold what a trial measured at its rungs."""


class StoredTrial(FrozenTrial):
    """A trial as it was read: what samplers ask again and again of one that has ended is worked out once."""

    @functools.cached_property
    def constraints(self) -> dict[str, float]:
        """By name, as Optuna has them."""
        return super().constraints

    @functools.cached_property
    def internal_params(self) -> dict[str, float]:
        """Suggested hyperparameters as the numbers that stand for them."""
        return {name: self.distributions[name].to_internal_repr(value) for name, value in self.params.items()}

    @functools.cached_property
    def epochs(self) -> int:
        """Of its training up to the last rung."""
        return max((rung["epoch"] for key, rung in self.user_attrs.items() if key.startswith(RUNG)), default=0)

    def __copy__(self) -> StoredTrial:
        """Another that shares what it holds; `copy` asks every object of Python's how it is put together."""
        trial = StoredTrial.__new__(StoredTrial)
        vars(trial).update(vars(self))
        return trial

    def after(self, write: TrialWrite, at: datetime) -> StoredTrial:
        """The trial as it is after something was written of it, at some time."""
        trial = copy.copy(self)
        for name in ("constraints", "epochs"):
            vars(trial).pop(name, None)
        trial._user_attrs = {**self._user_attrs, **write.user_attrs}
        trial._system_attrs = {**self._system_attrs, **write.system_attrs}
        trial.intermediate_values = {**self.intermediate_values, **write.intermediate_values}
        if write.state is not None:
            trial.state, trial._values, trial.datetime_complete = write.state, list(write.values) or None, at
        return trial


def template(
    state: TrialState,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
    intermediate_values: Mapping[int, float] | None = None,
) -> StoredTrial:
    """Of a trial that does not exist yet."""
    return StoredTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs=dict(user_attrs),
        # A sampler's notes, as they are read.
        system_attrs=json.loads(json.dumps(dict(system_attrs))),
        intermediate_values=dict(intermediate_values or {}),
    )


_Trial, _Value, _Step = models.TrialModel, models.TrialValueModel, models.TrialIntermediateValueModel
_UserAttr, _SystemAttr = models.TrialUserAttributeModel, models.TrialSystemAttributeModel

FEW = 100
"""Trials that are named one by one where their details are read; of more, all of the study between the first and the
last are, for long lists are slow."""


class _Details:
    """Statements that read what a table holds of trials.

    Attributes:
        of_few: Of those in a list, `trial_ids`.
        of_many: Of those of a study, `study_id`, from `first` to `last`.
    """

    def __init__(self, model: Any, order: str, *columns: str) -> None:
        # Of the table, not of the model: rows are read in half the time.
        table, trial = model.__table__.c, _Trial.__table__.c
        rows = select(table.trial_id, *(table[name] for name in columns)).order_by(table[order])
        if "key" in columns:
            rows = rows.where(table.key.not_in(bindparam("without", expanding=True)))
        self.of_few = rows.where(table.trial_id.in_(bindparam("trial_ids", expanding=True)))
        self.of_many = rows.where(
            table.trial_id.in_(
                select(trial.trial_id)
                .where(trial.trial_id.between(bindparam("first"), bindparam("last")))
                .where(trial.study_id + 0 == bindparam("study_id"))
            )
        )


# Made once: to put a statement together takes longer than to run it.
_IDS = (
    select(_Trial.trial_id)
    .where((_Trial.trial_id > bindparam("newer_than")) | _Trial.trial_id.in_(bindparam("older", expanding=True)))
    # The sum keeps SQLite from looking at all trials of the study, by the index of that column; so would an order.
    .where(_Trial.study_id + 0 == bindparam("study_id"))
)
_TRIALS = _Details(_Trial, "trial_id", "number", "state", "datetime_start", "datetime_complete")
_PARAMS = _Details(models.TrialParamModel, "param_id", "param_name", "param_value", "distribution_json")
_VALUES = _Details(_Value, "objective", "value", "value_type")
_STEPS = _Details(_Step, "step", "step", "intermediate_value", "intermediate_value_type")
_USER_ATTRS = _Details(_UserAttr, "trial_user_attribute_id", "key", "value_json")
_SYSTEM_ATTRS = _Details(_SystemAttr, "trial_system_attribute_id", "key", "value_json")


def read_changed_trials(session: Session, study_id: int, newer_than: int, older: Collection[int]) -> list[StoredTrial]:
    """Trials of a study in order of their ids: all with a larger one than `newer_than`, and these older ones.

    Raises:
        KeyError: If there is no such study.
    """
    which = {"study_id": study_id, "newer_than": newer_than, "older": list(older)}
    ids = sorted(session.scalars(_IDS, which))
    if not ids:
        models.StudyModel.find_or_raise_by_id(study_id, session)
    return read_trials(session.connection(), study_id, ids)


def read_trials(
    connection: Connection, study_id: int, ids: Sequence[int], without: Sequence[str] = ()
) -> list[StoredTrial]:
    """The trials of a study with these ids, in their order.

    Args:
        connection: Of the database.
        study_id: Of the study.
        ids: Of the trials, smallest first.
        without: Keys of attributes that are left out; then the intermediate values are, too.
    """
    with many_objects():
        return _read_trials(connection, study_id, ids, without)


def _read_trials(
    connection: Connection, study_id: int, ids: Sequence[int], without: Sequence[str]
) -> list[StoredTrial]:
    which: dict[str, Any] = {"trial_ids": list(ids)}
    if len(ids) > FEW:
        which = {"study_id": study_id, "first": ids[0], "last": ids[-1]}

    def details(of: _Details) -> dict[int, list[Any]]:
        by_trial = defaultdict(list)
        values = {**which, "without": list(without)} if of in (_USER_ATTRS, _SYSTEM_ATTRS) else which
        for trial_id, *columns in connection.execute(of.of_many if len(ids) > FEW else of.of_few, values):
            by_trial[trial_id].append(columns)
        return by_trial

    rows = details(_TRIALS)
    params, values, steps = details(_PARAMS), details(_VALUES), {} if without else details(_STEPS)
    user_attrs, system_attrs = details(_USER_ATTRS), details(_SYSTEM_ATTRS)
    trials = []
    for trial_id in ids:
        [[number, state, start, complete]] = rows[trial_id]
        distributions = {name: _distribution(text) for name, _, text in params[trial_id]}
        trials.append(
            StoredTrial(
                number=number,
                state=state,
                value=None,
                values=[_Value.stored_repr_to_value(*stored) for stored in values[trial_id]] or None,
                datetime_start=start,
                datetime_complete=complete,
                params={name: distributions[name].to_external_repr(value) for name, value, _ in params[trial_id]},
                distributions=distributions,
                user_attrs={key: json.loads(text) for key, text in user_attrs[trial_id]},
                system_attrs={key: json.loads(text) for key, text in system_attrs[trial_id]},
                intermediate_values={
                    at: _Step.stored_repr_to_intermediate_value(*stored) for at, *stored in steps.get(trial_id, ())
                },
                trial_id=trial_id,
            )
        )
    return trials


@functools.cache
def _distribution(text: str) -> BaseDistribution:
    """What a hyperparameter is drawn from; the trials of a study have the same few."""
    return json_to_distribution(text)
