"""Optuna's SQL storage with an exact budget and with writes of many trials in one transaction.

Optuna writes one attribute of one trial at a time; a small network trains in less time than that takes. Trials of a
pack reach their rungs together, so what is to be written of them, or the trials that take their places, are one
transaction. The budget is checked in the transaction that creates trials.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, Integer, LargeBinary, func
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BUDGET = "kansearch:trials"
"""The study attribute that holds how many trials may count."""

COUNTED = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
"""The states of the trials that use budget. A failed trial gives its place back."""


_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""The inserts that can update instead, by the name of their SQLAlchemy dialect."""


# Optuna's base class is typed as Any; through it Optuna makes this table with its own.
class CheckpointModel(models.BaseModel):  # type: ignore[misc]
    """The latest checkpoint of a running trial: under the number of its first life, so that the next one finds it."""

    __tablename__ = "kansearch_checkpoints"
    study_id = Column(Integer, primary_key=True)
    number = Column(Integer, primary_key=True)
    epoch = Column(Integer, nullable=False)
    state = Column(LargeBinary, nullable=False)


class BudgetSpentError(Exception):
    """Every trial of the study's budget exists already."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """Of a trial, after so many epochs."""

    epoch: int
    state: bytes


@dataclass(frozen=True)
class TrialWrite:
    """What is to be written of a running trial.

    Attributes:
        trial_id: Of the trial.
        user_attrs: By key.
        system_attrs: By key.
        intermediate_values: By step.
        state: In which the trial ends; None while it goes on.
        values: Of the objectives, with a complete trial.
        first_life: Number of the trial in its first life; None where this is it. There its checkpoint lies.
        checkpoint: From which another life of it may go on; that of a trial that ends is deleted.
    """

    trial_id: int
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    intermediate_values: Mapping[int, float] = field(default_factory=dict)
    state: TrialState | None = None
    values: Sequence[float] = ()
    first_life: int | None = None
    checkpoint: StoredCheckpoint | None = None


class LedgerStorage(RDBStorage):
    """An RDBStorage that never holds more counting trials than the study's budget, whoever creates them.

    Optuna's own limits count before or after the creation, so N workers overshoot by up to N trials.
    """

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        # The caller holds the study's row (SELECT ... FOR UPDATE) and rolls back when we raise. SQLite has no
        # row locks: the INSERT in super() takes its write lock, so the count must come after the INSERT.
        # test_optuna_still_creates_trials_through_the_hook fails when this private method moves.
        trial: models.TrialModel = super()._get_prepared_new_trial(study_id, template_trial, session)
        session.flush()
        left = self._places_left(session, study_id)
        if left is not None and left < 0:
            raise BudgetSpentError
        return trial

    @staticmethod
    def _places_left(session: Session, study_id: int) -> int | None:
        """How many more trials may count; None where the study has no budget."""
        budget = (
            session.query(models.StudyUserAttributeModel.value_json).filter_by(study_id=study_id, key=BUDGET).scalar()
        )
        if budget is None:
            return None
        counted: Any = (
            session.query(func.count(models.TrialModel.trial_id))
            .filter(models.TrialModel.study_id == study_id, models.TrialModel.state.in_(COUNTED))
            .scalar()
        )
        return int(json.loads(budget)) - int(counted)

    def create_trials(self, study_id: int, templates: Sequence[FrozenTrial]) -> list[tuple[int, int]]:
        """Create running trials, whole and with a sign of life, in one transaction.

        Args:
            study_id: Of their study.
            templates: What they are made of.

        Returns:
            Id and number of each; of the first ones only, where the budget holds no more.

        Raises:
            BudgetSpentError: If the budget holds none.
        """
        with _create_scoped_session(self.scoped_session, ignore_integrity_error=False) as session:
            # A write takes the row's lock, or SQLite's, before anything is counted.
            session.query(models.StudyModel).filter_by(study_id=study_id).update({"study_id": study_id})
            left = self._places_left(session, study_id)
            templates = templates if left is None else templates[: max(0, left)]
            if not templates:
                raise BudgetSpentError
            n_before: Any = session.query(func.count(models.TrialModel.trial_id)).filter_by(study_id=study_id).scalar()
            now = datetime.now()  # noqa: DTZ005 - like Optuna, in whose columns it stands
            rows = [
                models.TrialModel(
                    study_id=study_id, number=n_before + place, state=TrialState.RUNNING, datetime_start=now
                )
                for place in range(len(templates))
            ]
            session.add_all(rows)
            session.flush()
            created = [(int(row.trial_id), int(row.number)) for row in rows]
            params = [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": template.distributions[name].to_internal_repr(value),
                    "distribution_json": distribution_to_json(template.distributions[name]),
                }
                for (trial_id, _), template in zip(created, templates, strict=True)
                for name, value in template.params.items()
            ]
            if params:
                session.execute(models.TrialParamModel.__table__.insert(), params)
            writes = [
                TrialWrite(trial_id, template.user_attrs, template.system_attrs)
                for (trial_id, _), template in zip(created, templates, strict=True)
            ]
            self._write_details(session, writes)
            session.execute(
                models.TrialHeartbeatModel.__table__.insert(), [{"trial_id": trial_id} for trial_id, _ in created]
            )
            return created

    def write(self, writes: Sequence[TrialWrite]) -> set[int]:
        """Write about running trials, in one transaction.

        Returns:
            The ids of trials that had ended before: of these nothing was written.
        """
        if not writes:
            return set()
        ids = {write.trial_id for write in writes}
        with _create_scoped_session(self.scoped_session) as session:
            of_them = session.query(models.TrialModel).filter(models.TrialModel.trial_id.in_(ids))
            # A write takes the rows' locks, or SQLite's, before anything is read.
            of_them.update({"trial_id": models.TrialModel.trial_id}, synchronize_session=False)
            session.expire_all()
            running = {int(trial.trial_id): trial for trial in of_them if not trial.state.is_finished()}
            alive = [write for write in writes if write.trial_id in running]
            self._write_details(session, alive)
            for write in alive:
                trial = running[write.trial_id]
                number = trial.number if write.first_life is None else write.first_life
                key = {"study_id": int(trial.study_id), "number": int(number)}
                if write.checkpoint is not None:
                    session.merge(CheckpointModel(**key, epoch=write.checkpoint.epoch, state=write.checkpoint.state))
                if write.state is not None:
                    session.query(CheckpointModel).filter_by(**key).delete()
                    trial.state = write.state
                    trial.datetime_complete = datetime.now()  # noqa: DTZ005 - as above
            return ids - running.keys()

    def _write_details(self, session: Session, writes: Iterable[TrialWrite]) -> None:
        writes = list(writes)
        values = [
            (write.trial_id, objective, *models.TrialValueModel.value_to_stored_repr(value))
            for write in writes
            for objective, value in enumerate(write.values)
        ]
        intermediate = [
            (w.trial_id, step, *models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value))
            for w in writes
            for step, value in w.intermediate_values.items()
        ]
        user = [(w.trial_id, key, json.dumps(value)) for w in writes for key, value in w.user_attrs.items()]
        system = [(w.trial_id, key, json.dumps(value)) for w in writes for key, value in w.system_attrs.items()]
        for model, columns, rows in (
            (models.TrialValueModel, ("trial_id", "objective", "value", "value_type"), values),
            (
                models.TrialIntermediateValueModel,
                ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
                intermediate,
            ),
            (models.TrialUserAttributeModel, ("trial_id", "key", "value_json"), user),
            (models.TrialSystemAttributeModel, ("trial_id", "key", "value_json"), system),
        ):
            if rows:
                insert = _INSERT[self.engine.name](model)
                changed = {name: insert.excluded[name] for name in columns[2:]}
                upsert = insert.on_conflict_do_update(index_elements=columns[:2], set_=changed)
                session.execute(upsert, [dict(zip(columns, row, strict=True)) for row in rows])

    def checkpoint(self, study_id: int, number: int) -> StoredCheckpoint | None:
        """The latest checkpoint of the trial that had this number in its first life."""
        with _create_scoped_session(self.scoped_session) as session:
            row = session.query(CheckpointModel).filter_by(study_id=study_id, number=number).one_or_none()
            return None if row is None else StoredCheckpoint(int(row.epoch), bytes(row.state))

    def beat(self, trial_ids: Iterable[int]) -> None:
        """Give a sign of life for each of these trials."""
        with _create_scoped_session(self.scoped_session) as session:
            session.query(models.TrialHeartbeatModel).filter(
                models.TrialHeartbeatModel.trial_id.in_(list(trial_ids))
            ).update({"heartbeat": func.current_timestamp()}, synchronize_session=False)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change a trial's state, once: of several processes that try at the same time, one is told True."""
        # SQLite has no row locks, so super() would check a state that another process is just changing. A write
        # first takes SQLite's write lock; super() then works in the same thread-local session.
        # test_only_one_process_gets_a_waiting_trial fails without it.
        with _create_scoped_session(self.scoped_session) as session:
            session.query(models.TrialModel).filter_by(trial_id=trial_id).update({"trial_id": trial_id})
            session.expire_all()
            changed: bool = super().set_trial_state_values(trial_id, state, values)
            return changed

    def silent_trial_ids(self, study_id: int) -> set[int]:
        """Running trials that never gave a sign of life; Optuna does not count these as stale."""
        with _create_scoped_session(self.scoped_session) as session:
            running = (
                session.query(models.TrialModel.trial_id)
                .outerjoin(models.TrialHeartbeatModel)
                .filter(
                    models.TrialModel.study_id == study_id,
                    models.TrialModel.state == TrialState.RUNNING,
                    models.TrialHeartbeatModel.trial_id.is_(None),
                )
            )
            return {trial_id for (trial_id,) in running}


class Storage(_CachedStorage):
    """The ledger behind Optuna's cache of finished trials.

    Attributes:
        ledger: The SQL storage itself.
    """

    def __init__(self, ledger: LedgerStorage) -> None:
        super().__init__(ledger)
        self.ledger = ledger
