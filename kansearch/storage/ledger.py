"""Optuna's SQL storage with an exact budget and with writes of many trials in one transaction.

Optuna writes one attribute of one trial at a time; a small network trains in less time than that takes. Trials of a
pack reach their rungs together, so what is to be written of them, or the trials that take their places, are one
transaction. The budget is checked in the transaction that creates trials.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import delete, exc, func, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite

from kansearch.errors import StudyExistsError
from kansearch.storage.patience import T, patient, wait_for
from kansearch.storage.reading import read_changed_trials, read_trials
from kansearch.storage.tables import ArtifactModel, CheckpointModel

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BUDGET = "kansearch:trials"
"""The study attribute that holds how many trials may count."""

COUNTED = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
"""The states of the trials that use budget. A failed trial gives its place back."""


class BudgetSpentError(Exception):
    """A budget holds no further trial, or fewer than there are.

    Attributes:
        n_counted: How many trials count.
    """

    def __init__(self, n_counted: int) -> None:
        super().__init__(f"{n_counted} trials count already")
        self.n_counted = n_counted


@dataclass(frozen=True)
class StoredCheckpoint:
    """Of a trial, after so many epochs.

    Attributes:
        epoch: How many.
        state: Its bytes; empty where they lie in an artifact.
        artifact: Key of the artifact that holds them.
    """

    epoch: int
    state: bytes
    artifact: str | None = None


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
        checkpoint: From which another trial may go on in its place; that of a trial that ends is deleted.
    """

    trial_id: int
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    intermediate_values: Mapping[int, float] = field(default_factory=dict)
    state: TrialState | None = None
    values: Sequence[float] = ()
    checkpoint: StoredCheckpoint | None = None


LARGEST_VALUE = 2**28
"""Bytes; databases refuse values of a gigabyte."""


@patient(
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_all_studies",
    "get_all_trials",
    "get_n_trials",
    "get_trial",
    "_get_trials",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "checkpoint",
    "count_trials",
    "create_study",
    "delete_study",
    "set_budget",
    "take_waiting",
    "replace_trial",
    "write",
)
class LedgerStorage(RDBStorage):
    """An RDBStorage in which workers never create more trials than their study's budget holds.

    Optuna's own limits count before or after the creation, so N workers overshoot by up to N trials. Whatever a search
    asks of it waits for a database that is away, and may be done twice.

    Attributes:
        patience_s: How long it waits.
    """

    patience_s = 0.0

    def session(self) -> AbstractContextManager[Session]:
        """A transaction: committed at its end, or rolled back by an error."""
        return _create_scoped_session(self.scoped_session)

    def patiently(self, work: Callable[[], T]) -> T:
        """Do some work that may be done twice, and wait for a database that is away."""
        return wait_for(work, self.patience_s)

    @functools.cached_property
    def largest_value(self) -> int:
        """Bytes of the largest value that the database takes."""
        if self.engine.name != "mysql":
            return LARGEST_VALUE

        def ask() -> int:
            with self.session() as session:
                return int(session.execute(text("SELECT @@max_allowed_packet")).scalar_one())

        # Bytes that are no letters are written as two.
        return min(LARGEST_VALUE, self.patiently(ask) // 2 - 2**16)

    @staticmethod
    def _budget(session: Session, study_id: int) -> tuple[int, int]:
        """How many trials of a study may count, and how many do."""
        budget: Any = (
            session.query(models.StudyUserAttributeModel.value_json).filter_by(study_id=study_id, key=BUDGET).scalar()
        )
        if budget is None:
            return 0, 0  # somebody deleted the study
        n_counted: Any = (
            session.query(func.count(models.TrialModel.trial_id))
            .filter(models.TrialModel.study_id == study_id, models.TrialModel.state.in_(COUNTED))
            .scalar()
        )
        return int(json.loads(budget)), int(n_counted)

    @staticmethod
    def _lock_study(session: Session, study_id: int) -> None:
        """Let nobody else create trials until the transaction ends."""
        # A write takes the row's lock, or SQLite's.
        session.query(models.StudyModel).filter_by(study_id=study_id).update({"study_id": study_id})
        session.expire_all()

    def create_study(
        self,
        name: str,
        directions: Sequence[StudyDirection],
        user_attrs: Mapping[str, Any],
        system_attrs: Mapping[str, Any],
    ) -> int:
        """Create a study, whole, in one transaction; returns its id.

        Raises:
            StudyExistsError: If the name is taken.
        """
        # test_a_study_is_made_as_optuna_makes_one compares the rows.
        try:
            with self.session() as session:
                columns = [
                    models.StudyDirectionModel(objective=objective, direction=direction)
                    for objective, direction in enumerate(directions)
                ]
                study = models.StudyModel(study_id=self._new_study_id(session), study_name=name, directions=columns)
                session.add(study)
                session.flush()
                for model, attrs in (
                    (models.StudyUserAttributeModel, user_attrs),
                    (models.StudySystemAttributeModel, system_attrs),
                ):
                    session.add_all(
                        model(study_id=study.study_id, key=key, value_json=json.dumps(value))
                        for key, value in attrs.items()
                    )
                return int(study.study_id)
        except exc.IntegrityError:
            raise StudyExistsError(f'the storage already holds a study "{name}"; choose another --name') from None

    def _new_study_id(self, session: Session) -> int | None:
        """One that no study ever had, for workers remember the trials of a study by its id; None lets the server do it.

        SQLite alone gives the ids of deleted rows to new ones. The file has a number for whatever its user likes.
        """
        if self.engine.name != "sqlite":
            return None
        self._lock_study(session, 0)
        newest: Any = session.query(func.max(models.StudyModel.study_id)).scalar()
        last = int(session.execute(text("PRAGMA user_version")).scalar_one())
        study_id = max(newest or 0, last) + 1
        session.execute(text(f"PRAGMA user_version = {study_id}"))
        return study_id

    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials and their checkpoints, in one transaction; their artifacts stay.

        Optuna reads all of it before, which takes half a minute for ten thousand trials; this takes a second.

        Raises:
            KeyError: If there is no such study.
        """
        with self.session() as session:
            self._lock_study(session, study_id)
            models.StudyModel.find_or_raise_by_id(study_id, session)
            if self.engine.name == "sqlite":
                # Perhaps Optuna made it, or an older kansearch, which did not note its id.
                last = int(session.execute(text("PRAGMA user_version")).scalar_one())
                session.execute(text(f"PRAGMA user_version = {max(last, study_id)}"))
            trials = select(models.TrialModel.trial_id).filter_by(study_id=study_id)
            # Those that refer to others first.
            for table in (CheckpointModel.__table__, *reversed(models.BaseModel.metadata.sorted_tables)):
                if "study_id" in table.columns:
                    session.execute(delete(table).where(table.c.study_id == study_id))
                elif "trial_id" in table.columns:
                    session.execute(delete(table).where(table.c.trial_id.in_(trials)))

    def set_budget(self, study_id: int, n_trials: int, user_attrs: Mapping[str, Any]) -> None:
        """Let so many trials count from now on, and write these attributes of the study, in one transaction.

        Raises:
            BudgetSpentError: If more do already.
        """
        with self.session() as session:
            self._lock_study(session, study_id)
            _, n_counted = self._budget(session, study_id)
            if n_counted > n_trials:
                raise BudgetSpentError(n_counted)
            upsert = _upsert(self.engine.name, models.StudyUserAttributeModel, ("study_id", "key", "value_json"))
            attrs = {**user_attrs, BUDGET: n_trials}
            rows = [{"study_id": study_id, "key": k, "value_json": json.dumps(value)} for k, value in attrs.items()]
            session.execute(upsert, rows)

    def create_trials(
        self, study_id: int, templates: Sequence[FrozenTrial], n_seen: int, mark: str, owner: str
    ) -> list[tuple[FrozenTrial, int, int]]:
        """Create running trials, whole, in one transaction.

        Args:
            study_id: Of their study.
            templates: What they are made of.
            n_seen: How many trials the study had when they were drawn.
            mark: Key of the attribute by which two templates are known to be the same.
            owner: Key of the attribute that names whoever creates them.

        Returns:
            Template, id and number of each. Left out are the last ones where the budget does not hold all, and
            those that somebody else has drawn and created since.

        Raises:
            BudgetSpentError: If the budget holds none.
        """
        tries = itertools.count()

        def create() -> list[tuple[FrozenTrial, int, int]]:
            return self._create_trials(study_id, templates, n_seen, mark, owner if next(tries) else None)

        return self.patiently(create)

    def _create_trials(
        self, study_id: int, templates: Sequence[FrozenTrial], n_seen: int, mark: str, owner: str | None
    ) -> list[tuple[FrozenTrial, int, int]]:
        """`create_trials`; with an owner those are looked for that a first try created whose answer was lost."""
        with self.session() as session:
            self._lock_study(session, study_id)
            budget, n_counted = self._budget(session, study_id)
            since = self._created_since(session, study_id, n_seen, (mark, owner or mark))
            taken = {attrs.get(mark) for _, _, attrs in since}
            ours = [
                (template, trial_id, number)
                for trial_id, number, attrs in since
                for template in templates
                if owner and all(attrs.get(key) == template.user_attrs[key] for key in (mark, owner))
            ]
            if n_counted >= budget and not ours:
                raise BudgetSpentError(n_counted)
            new = [template for template in templates if template.user_attrs[mark] not in taken]
            new = new[: max(0, budget - n_counted)]
            created = self._insert_trials(session, study_id, new)
            return [*ours, *((template, *ids) for template, ids in zip(new, created, strict=True))]

    @staticmethod
    def _created_since(
        session: Session, study_id: int, n_seen: int, keys: Sequence[str]
    ) -> list[tuple[int, int, dict[str, Any]]]:
        """Id, number and some attributes of the trials that a study got since it had so many."""
        attribute = models.TrialUserAttributeModel
        rows = (
            session.query(models.TrialModel.trial_id, models.TrialModel.number, attribute.key, attribute.value_json)
            .join(attribute, attribute.trial_id == models.TrialModel.trial_id)
            .filter(models.TrialModel.study_id == study_id, models.TrialModel.number >= n_seen)
            .filter(attribute.key.in_(keys))
            .order_by(models.TrialModel.trial_id)
        )
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for trial_id, number, key, value in rows:
            found.setdefault((trial_id, number), {})[key] = json.loads(value)
        return [(*ids, attrs) for ids, attrs in found.items()]

    def take_waiting(self, trial_id: int, owner: str, name: str) -> bool:
        """Let a waiting trial run, in one transaction; returns whether it is ours.

        Args:
            trial_id: Of the trial.
            owner: Key of the attribute that names whoever trains it.
            name: Who that is.
        """
        with self.session() as session:
            row = session.query(models.TrialModel).filter_by(trial_id=trial_id)
            # A write takes the row's lock, or SQLite's, before anything is read.
            row.update({"trial_id": trial_id}, synchronize_session=False)
            session.expire_all()
            trial: Any = row.one_or_none()
            if trial is None:
                return False  # somebody deleted the study
            attribute = session.query(models.TrialUserAttributeModel).filter_by(trial_id=trial_id, key=owner)
            if trial.state is not TrialState.WAITING:
                # Perhaps of a first try whose answer was lost.
                value = attribute.with_entities(models.TrialUserAttributeModel.value_json).scalar()
                return bool(trial.state is TrialState.RUNNING and value == json.dumps(name))
            trial.state, trial.datetime_start = TrialState.RUNNING, _now()
            self._write_details(session, [TrialWrite(trial_id, {owner: name})])
            return True

    def _insert_trials(
        self, session: Session, study_id: int, templates: Sequence[FrozenTrial]
    ) -> list[tuple[int, int]]:
        """Running or waiting trials of a study that is locked; id and number of each."""
        n_before: Any = session.query(func.count(models.TrialModel.trial_id)).filter_by(study_id=study_id).scalar()
        rows = [
            models.TrialModel(
                study_id=study_id,
                number=n_before + place,
                state=template.state,
                datetime_start=_now() if template.state is TrialState.RUNNING else None,
            )
            for place, template in enumerate(templates)
        ]
        session.add_all(rows)
        session.flush()
        created = [(int(row.trial_id), int(row.number)) for row in rows]
        trials = [(trial_id, template) for (trial_id, _), template in zip(created, templates, strict=True)]
        # SQLite gives the numbers of rows that were deleted with their study to new ones.
        ids = [trial_id for trial_id, _ in trials]
        session.query(CheckpointModel).filter(CheckpointModel.trial_id.in_(ids)).delete(synchronize_session=False)
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": template.distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(template.distributions[name]),
            }
            for trial_id, template in trials
            for name, value in template.params.items()
        ]
        if params:
            session.execute(models.TrialParamModel.__table__.insert(), params)
        self._write_details(
            session,
            [
                TrialWrite(trial_id, template.user_attrs, template.system_attrs, template.intermediate_values)
                for trial_id, template in trials
            ],
        )
        return created

    def replace_trial(
        self,
        study_id: int,
        trial_id: int,
        user_attrs: Mapping[str, Any],
        successor: Callable[[FrozenTrial, int], FrozenTrial | None],
        *,
        keep_checkpoint: bool = True,
    ) -> bool:
        """End a running trial as failed and let a waiting one take its place and its checkpoint, in one transaction.

        Args:
            study_id: Of the study.
            trial_id: Of the running trial.
            user_attrs: To be written of it, by key.
            successor: Makes the template of the waiting one from the failed one and the epoch of the checkpoint,
                0 where there is none; None where no other shall follow. Both are certain only in the transaction.
            keep_checkpoint: Whether the checkpoint is of any use.

        Returns:
            Whether there is a waiting one; not where the trial had ended before, or was deleted.
        """
        with self.session() as session:
            self._lock_study(session, study_id)
            row = session.query(models.TrialModel).filter_by(trial_id=trial_id).with_for_update().one_or_none()
            if row is None or row.study_id != study_id or row.state.is_finished():
                return False
            checkpoint = session.query(CheckpointModel).filter_by(trial_id=trial_id)
            if not keep_checkpoint:
                checkpoint.delete()
            self._write_details(session, [TrialWrite(trial_id, user_attrs)])
            row.state = TrialState.FAIL
            row.datetime_complete = _now()
            session.flush()
            [failed] = read_trials(session, study_id, [trial_id])
            template = successor(failed, checkpoint.with_entities(CheckpointModel.epoch).scalar() or 0)
            if template is None:
                checkpoint.delete()
                return False
            # The failed trial has given its place in the budget back.
            [(new_id, _)] = self._insert_trials(session, study_id, [template])
            checkpoint.update({"trial_id": new_id})
            session.query(ArtifactModel).filter_by(trial_id=trial_id).update({"trial_id": new_id})
            return True

    def write(self, study_id: int, writes: Sequence[TrialWrite]) -> set[int]:
        """Write about running trials of a study, in one transaction.

        Returns:
            The ids of trials that had ended before, or were deleted: of these nothing was written.
        """
        if not writes:
            return set()
        ids = {write.trial_id for write in writes}
        with self.session() as session:
            of_them = session.query(models.TrialModel).filter(models.TrialModel.trial_id.in_(ids))
            # A write takes the rows' locks, or SQLite's, before anything is read.
            of_them.update({"trial_id": models.TrialModel.trial_id}, synchronize_session=False)
            session.expire_all()
            # SQLite gives the ids of deleted trials to new ones, perhaps of another study.
            running = {
                int(trial.trial_id): trial
                for trial in of_them
                if trial.study_id == study_id and not trial.state.is_finished()
            }
            alive = [write for write in writes if write.trial_id in running]
            self._write_details(session, alive)
            ended = [write for write in alive if write.state is not None]
            for write in ended:
                running[write.trial_id].state = write.state
                running[write.trial_id].datetime_complete = _now()
            if ended:
                of_ended: Any = CheckpointModel.trial_id.in_([write.trial_id for write in ended])
                session.query(CheckpointModel).filter(of_ended).delete(synchronize_session=False)
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
        checkpoints = [(w.trial_id, c.epoch, c.state, c.artifact) for w in writes if (c := w.checkpoint) is not None]
        for model, columns, rows in (
            (models.TrialValueModel, ("trial_id", "objective", "value", "value_type"), values),
            (
                models.TrialIntermediateValueModel,
                ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
                intermediate,
            ),
            (models.TrialUserAttributeModel, ("trial_id", "key", "value_json"), user),
            (models.TrialSystemAttributeModel, ("trial_id", "key", "value_json"), system),
            (CheckpointModel, ("trial_id", "epoch", "state", "artifact"), checkpoints),
        ):
            if rows:
                upsert = _upsert(self.engine.name, model, columns)
                session.execute(upsert, [dict(zip(columns, row, strict=True)) for row in rows])

    def count_trials(self, study_ids: Sequence[int], handed_back: str) -> dict[int, dict[str, int]]:
        """Trials of some studies by state, in small letters.

        `broken` counts failed ones without an attribute of a name.
        """
        counts = {study_id: {**{state.name.lower(): 0 for state in TrialState}, "broken": 0} for study_id in study_ids}
        with self.session() as session:
            trial, attribute = models.TrialModel, models.TrialUserAttributeModel
            of_studies = session.query(trial.study_id, func.count(trial.trial_id)).filter(trial.study_id.in_(study_ids))
            states = of_studies.add_columns(trial.state).group_by(trial.study_id, trial.state)
            for study_id, number, state in states:
                counts[study_id][state.name.lower()] = int(number)
            with_mark = of_studies.filter(trial.state == TrialState.FAIL).join(attribute)
            for found in counts.values():
                found["broken"] = found["fail"]
            for study_id, number in with_mark.filter(attribute.key == handed_back).group_by(trial.study_id):
                counts[study_id]["broken"] -= int(number)
        return counts

    def checkpoint(self, trial_id: int) -> StoredCheckpoint | None:
        """The latest checkpoint of a trial that has not ended."""
        with self.session() as session:
            row = session.query(CheckpointModel).filter_by(trial_id=trial_id).one_or_none()
            return None if row is None else StoredCheckpoint(int(row.epoch), bytes(row.state), row.artifact)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        older = [trial_id for trial_id in included_trial_ids if trial_id <= trial_id_greater_than]
        with self.session() as session:
            return list(read_changed_trials(session, study_id, trial_id_greater_than, older))


@functools.cache
def _upsert(dialect: str, model: Any, columns: tuple[str, ...]) -> Any:
    """The statement that inserts a row, or updates the one with the same key; made once, for that takes long."""
    keys = [name for name in columns if name in ("trial_id", "study_id", "objective", "step", "key")]
    if dialect == "mysql":
        into: Any = mysql.insert(model)
        return into.on_duplicate_key_update({name: into.inserted[name] for name in columns if name not in keys})
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect](model)
    changed = {name: insert.excluded[name] for name in columns if name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=changed)


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005 - like Optuna, in whose columns it stands


class Storage(_CachedStorage):
    """The ledger behind Optuna's cache of finished trials.

    Attributes:
        ledger: The SQL storage itself.
    """

    def __init__(self, ledger: LedgerStorage) -> None:
        super().__init__(ledger)
        self.ledger = ledger

    def close(self) -> None:
        """Give the connections back; the next use makes new ones."""
        self.ledger.remove_session()
        self.ledger.engine.dispose()
