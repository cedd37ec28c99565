"""Optuna's SQL storage with an exact budget and with writes of many trials in one transaction.

Optuna writes one attribute of one trial at a time; a small network trains in less time than that takes. Trials of a
pack reach their rungs together, so what is to be written of them, or the trials that take their places, are one
transaction. The budget is checked in the transaction that creates trials.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam, delete, exc, func, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite

from kansearch.errors import StudyExistsError
from kansearch.storage.known import KnownTrials
from kansearch.storage.patience import T, patient, wait_for
from kansearch.storage.reading import StoredTrial, read_changed_trials, read_trials
from kansearch.storage.statements import last_writes, run_many
from kansearch.storage.tables import ArtifactModel, CheckpointModel
from kansearch.storage.writes import StoredCheckpoint, TrialWrite

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
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
    "read_known",
    "study_attribute",
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

    @functools.cached_property
    def reader(self) -> Engine:
        """For single statements that read: on PostgreSQL they need no transaction, whose begin and end are messages."""
        if self.engine.name != "postgresql":
            return self.engine
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def round_trip_s(self) -> float:
        """Seconds in which the database answers at best; 0 of a file."""
        if self.engine.name == "sqlite":
            return 0.0

        def ask() -> float:
            with self.reader.connect() as connection:
                connection.execute(_NOTHING)  # whatever a new connection has to say
                times = [time.perf_counter()]
                # On a busy machine most answers wait for other work; the quickest one did not.
                while len(times) <= 3 or (len(times) <= 30 and times[-1] - times[0] < 0.2):
                    connection.execute(_NOTHING)
                    times.append(time.perf_counter())
            return min(after - before for before, after in itertools.pairwise(times))

        return self.patiently(ask)

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

    def _lock(self, connection: Connection) -> None:
        """Begin a transaction that will write; on SQLite, where one at a time may, it waits for the others here."""
        if self.engine.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _lock_study(self, connection: Connection, study_id: int) -> None:
        """Let nobody else create trials until the transaction ends; the first that it does."""
        self._lock(connection)
        if self.engine.name != "sqlite":
            connection.execute(_LOCK_STUDY, {"study_id": study_id})

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
        self._lock(session.connection())
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
            self._lock_study(session.connection(), study_id)
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

    def set_budget(self, study_id: int, n_trials: int | None, user_attrs: Mapping[str, Any]) -> None:
        """Let so many trials count from now on, and write these attributes of the study, in one transaction.

        Args:
            study_id: Of the study.
            n_trials: As many as do already where it is None.
            user_attrs: By name.

        Raises:
            BudgetSpentError: If more do already.
            KeyError: If there is no such study.
        """
        with self.session() as session:
            self._lock_study(session.connection(), study_id)
            models.StudyModel.find_or_raise_by_id(study_id, session)
            _, n_counted = self._budget(session, study_id)
            if n_trials is not None and n_counted > n_trials:
                raise BudgetSpentError(n_counted)
            upsert = _upsert(self.engine.name, models.StudyUserAttributeModel, ("study_id", "key", "value_json"))
            attrs = {**user_attrs, BUDGET: n_counted if n_trials is None else n_trials}
            rows = [{"study_id": study_id, "key": k, "value_json": json.dumps(value)} for k, value in attrs.items()]
            session.execute(upsert, rows)

    def create_trials(
        self,
        study_id: int,
        templates: Sequence[StoredTrial],
        n_seen: int,
        known: KnownTrials,
        mark: str,
        owner: str,
    ) -> list[StoredTrial]:
        """Create running trials, whole, in one transaction.

        Args:
            study_id: Of their study.
            templates: What they are made of.
            n_seen: How many trials the study had when they were drawn.
            known: What is known of the study's trials, so that only what is new must be read.
            mark: Key of the attribute by which two templates are known to be the same.
            owner: Key of the attribute that names whoever creates them.

        Returns:
            The trials. Left out are the last ones where the budget does not hold all, and those that somebody else has
            drawn and created since.

        Raises:
            BudgetSpentError: If the budget holds none.
        """
        tries = itertools.count()

        def create() -> list[StoredTrial]:
            return self._create_trials(study_id, templates, n_seen, known, mark, owner if next(tries) else None)

        return self.patiently(create)

    def _create_trials(
        self,
        study_id: int,
        templates: Sequence[StoredTrial],
        n_seen: int,
        known: KnownTrials,
        mark: str,
        owner: str | None,
    ) -> list[StoredTrial]:
        """`create_trials`; with an owner those are looked for that a first try created whose answer was lost."""
        with self.engine.begin() as connection:
            self._lock_study(connection, study_id)
            budget = connection.execute(_STUDY_ATTRIBUTE, {"study_id": study_id, "key": BUDGET}).scalar()
            # Whoever ended before the last look has not changed since, so there is little to be read here.
            signs = known.unread(connection, study_id)
            n_before, n_counted = known.ended.total() + len(signs), known.n_ended(COUNTED)
            n_counted += sum(sign.state in COUNTED for sign in signs.values())
            n_left = 0 if budget is None else int(json.loads(budget)) - n_counted
            numbers = {trial_id: sign.number for trial_id, sign in signs.items() if sign.number >= n_seen}
            since = self._attributes(connection, numbers, (mark, owner or mark))
            taken = {attrs.get(mark) for attrs in since.values()}
            taken |= {known.trials[number].user_attrs.get(mark) for number in range(n_seen, len(known.trials))}
            ours = [
                _placed(template, trial_id, numbers[trial_id])
                for trial_id, attrs in since.items()
                for template in templates
                if owner and all(attrs.get(key) == template.user_attrs[key] for key in (mark, owner))
            ]
            if n_left <= 0 and not ours:
                raise BudgetSpentError(n_counted)
            new = [template for template in templates if template.user_attrs[mark] not in taken]
            newest = max([known.newest, *signs])
            new = new[: max(0, n_left)]
            trials = self._insert_trials(connection, study_id, new, n_before, newest)
            with last_writes(connection):
                self._write_new(connection, trials, new)
            return ours + trials

    @staticmethod
    def _attributes(
        connection: Connection, trial_ids: Collection[int], keys: Sequence[str]
    ) -> dict[int, dict[str, Any]]:
        """Some attributes of some trials."""
        found: dict[int, dict[str, Any]] = defaultdict(dict)
        if trial_ids:
            which = {"trial_ids": list(trial_ids), "keys": list(keys)}
            for trial_id, key, value in connection.execute(_ATTRIBUTES, which):
                found[trial_id][key] = json.loads(value)
        return found

    def take_waiting(self, trial_id: int, owner: str, name: str) -> bool:
        """Let a waiting trial run, in one transaction; returns whether it is ours.

        Args:
            trial_id: Of the trial.
            owner: Key of the attribute that names whoever trains it.
            name: Who that is.
        """
        with self.session() as session:
            self._lock(session.connection())
            row = session.query(models.TrialModel).filter_by(trial_id=trial_id)
            trial: Any = row.with_for_update(key_share=True).one_or_none()
            if trial is None:
                return False  # somebody deleted the study
            attribute = session.query(models.TrialUserAttributeModel).filter_by(trial_id=trial_id, key=owner)
            if trial.state is not TrialState.WAITING:
                # Perhaps of a first try whose answer was lost.
                value = attribute.with_entities(models.TrialUserAttributeModel.value_json).scalar()
                return bool(trial.state is TrialState.RUNNING and value == json.dumps(name))
            trial.state, trial.datetime_start = TrialState.RUNNING, datetime.now()  # noqa: DTZ005 - Optuna's setter
            self._write_details(session.connection(), [TrialWrite(trial_id, {owner: name})])
            return True

    def _insert_trials(
        self, connection: Connection, study_id: int, templates: Sequence[StoredTrial], n_before: int, newest: int
    ) -> list[StoredTrial]:
        """The rows of running or waiting trials of a study that is locked.

        It has `n_before` trials, and none beyond the newest id. `_write_new` writes what else the trials have.
        """
        if not templates:
            return []
        now = self.now()
        starts = [now if template.state is TrialState.RUNNING else None for template in templates]
        columns = ("study_id", "number", "state", "datetime_start")
        numbered = list(enumerate(zip(templates, starts, strict=True), n_before))
        rows = [(study_id, number, template.state, start) for number, (template, start) in numbered]
        run_many(connection, _INSERT_TRIAL, columns, rows)
        created = connection.execute(_CREATED, {"study_id": study_id, "newest": newest, "n_before": n_before})
        return [
            _placed(template, trial_id, number, start)
            for (number, (template, start)), trial_id in zip(numbered, created.scalars(), strict=True)
        ]

    def _write_new(
        self, connection: Connection, trials: Sequence[StoredTrial], templates: Sequence[StoredTrial]
    ) -> None:
        """What new trials have beside their rows."""
        if not trials:
            return
        # SQLite gives the numbers of rows that were deleted with their study to new ones.
        run_many(connection, _DROP_CHECKPOINT, ("id",), [(trial._trial_id,) for trial in trials])
        params = [
            (trial._trial_id, name, value, _distribution_json(trial.distributions[name]))
            for trial, template in zip(trials, templates, strict=True)
            for name, value in template.internal_params.items()
        ]
        if params:
            columns = ("trial_id", "param_name", "param_value", "distribution_json")
            run_many(connection, _INSERT_PARAM, columns, params)
        self._write_details(
            connection,
            [TrialWrite(t._trial_id, t._user_attrs, t._system_attrs, t.intermediate_values) for t in trials],
        )

    def replace_trial(
        self,
        study_id: int,
        trial_id: int,
        user_attrs: Mapping[str, Any],
        successor: Callable[[StoredTrial, int], StoredTrial | None],
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
            self._lock_study(session.connection(), study_id)
            connection = session.connection()
            if not self._running(connection, study_id, [trial_id]):
                return False
            checkpoint = session.query(CheckpointModel).filter_by(trial_id=trial_id)
            if not keep_checkpoint:
                checkpoint.delete()
            self._write_details(connection, [TrialWrite(trial_id, user_attrs)])
            run_many(connection, _END, ("id", "to", "at"), [(trial_id, TrialState.FAIL, self.now())])
            [failed] = read_trials(connection, study_id, [trial_id])
            template = successor(failed, checkpoint.with_entities(CheckpointModel.epoch).scalar() or 0)
            if template is None:
                checkpoint.delete()
                return False
            # The failed trial has given its place in the budget back.
            n_before: Any = session.query(func.count(models.TrialModel.trial_id)).filter_by(study_id=study_id).scalar()
            [new] = self._insert_trials(connection, study_id, [template], n_before, trial_id)
            self._write_new(connection, [new], [template])
            checkpoint.update({"trial_id": new._trial_id})
            session.query(ArtifactModel).filter_by(trial_id=trial_id).update({"trial_id": new._trial_id})
            return True

    def write(self, study_id: int, writes: Sequence[TrialWrite], at: datetime | None = None) -> set[int]:
        """Write about running trials of a study, in one transaction.

        Args:
            study_id: Of the study.
            writes: What is to be written; several may be about one trial.
            at: When those end that do; None means now.

        Returns:
            The ids of trials that had ended before, or were deleted: of these nothing was written.
        """
        if not writes:
            return set()
        ids = {write.trial_id for write in writes}
        with self.engine.begin() as connection:
            self._lock(connection)
            running = self._running(connection, study_id, ids)
            alive = [write for write in writes if write.trial_id in running]
            ended = [write for write in alive if write.state is not None]
            with last_writes(connection):
                self._write_details(connection, alive)
                if ended:
                    at = at or self.now()
                    run_many(connection, _END, ("id", "to", "at"), [(w.trial_id, w.state, at) for w in ended])
                    run_many(connection, _DROP_CHECKPOINT, ("id",), [(w.trial_id,) for w in ended])
            return ids - running

    @staticmethod
    def _running(connection: Connection, study_id: int, trial_ids: Collection[int]) -> set[int]:
        """Those of some trials of a study that have not ended, and will not before the transaction ends."""
        # SQLite gives the ids of deleted trials to new ones, perhaps of another study.
        return set(connection.execute(_RUNNING, {"study_id": study_id, "trial_ids": list(trial_ids)}).scalars())

    def now(self) -> datetime:
        """As Optuna's columns have it, and exactly as the database gives it back."""
        now = datetime.now(UTC).replace(tzinfo=None)
        return now.replace(microsecond=0) if self.engine.name == "mysql" else now

    def _write_details(self, connection: Connection, writes: Sequence[TrialWrite]) -> None:
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
                run_many(connection, upsert, columns, rows)

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

    def study_attribute(self, study_id: int, key: str) -> Any:
        """A user attribute of a study; None where it has none of that name.

        Raises:
            KeyError: If there is no such study.
        """
        with self.reader.connect() as connection:
            stored = connection.execute(_STUDY_ATTRIBUTE, {"study_id": study_id, "key": key}).scalar()
        if stored is None:
            with self.session() as session:
                models.StudyModel.find_or_raise_by_id(study_id, session)
            return None
        return json.loads(stored)

    def read_known(self, study_id: int, known: KnownTrials) -> None:
        """Bring what is known of a study's trials up to date.

        Raises:
            KeyError: If there is no such study.
        """
        with self.reader.connect() as connection:
            known.read(connection, study_id)

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


@functools.cache
def _distribution_json(distribution: BaseDistribution) -> str:
    """What a hyperparameter is drawn from, as Optuna writes it; the trials of a study have the same few."""
    return distribution_to_json(distribution)


def _placed(template: StoredTrial, trial_id: int, number: int, start: datetime | None = None) -> StoredTrial:
    """A trial that a template became; its hyperparameters are as they are read."""
    trial = copy.copy(template)
    trial._trial_id, trial._number, trial._datetime_start = trial_id, number, start
    internal = template.internal_params
    trial._params = {name: template.distributions[name].to_external_repr(value) for name, value in internal.items()}
    return trial


# Made once, and of the tables: to put a statement together takes longer than to run it.
_NOTHING = select(1)
_TRIAL: Any = models.TrialModel.__table__
_CHECKPOINT: Any = CheckpointModel.__table__
_INSERT_TRIAL = _TRIAL.insert()
_INSERT_PARAM: Any = models.TrialParamModel.__table__.insert()
_LOCK_STUDY = (
    select(models.StudyModel.study_id)
    .where(models.StudyModel.study_id == bindparam("study_id"))
    .with_for_update(key_share=True)
)
_STUDY_ATTRIBUTE = (
    select(models.StudyUserAttributeModel.value_json)
    .where(models.StudyUserAttributeModel.study_id == bindparam("study_id"))
    .where(models.StudyUserAttributeModel.key == bindparam("key"))
)
_ATTRIBUTES = select(
    models.TrialUserAttributeModel.trial_id,
    models.TrialUserAttributeModel.key,
    models.TrialUserAttributeModel.value_json,
).where(
    models.TrialUserAttributeModel.trial_id.in_(bindparam("trial_ids", expanding=True)),
    models.TrialUserAttributeModel.key.in_(bindparam("keys", expanding=True)),
)
# The sum keeps SQLite from looking at all trials of the study, by the index of that column.
_CREATED = (
    select(_TRIAL.c.trial_id)
    .where(_TRIAL.c.trial_id > bindparam("newest"), _TRIAL.c.study_id + 0 == bindparam("study_id"))
    .where(_TRIAL.c.number >= bindparam("n_before"))
    .order_by(_TRIAL.c.number)
)
_RUNNING = (
    select(_TRIAL.c.trial_id)
    .where(_TRIAL.c.trial_id.in_(bindparam("trial_ids", expanding=True)))
    .where(_TRIAL.c.study_id + 0 == bindparam("study_id"))
    .where(_TRIAL.c.state.in_((TrialState.RUNNING, TrialState.WAITING)))
    .with_for_update(key_share=True)
)
_END = (
    _TRIAL.update()
    .where(_TRIAL.c.trial_id == bindparam("id"))
    .values(state=bindparam("to"), datetime_complete=bindparam("at"))
)
_DROP_CHECKPOINT = delete(_CHECKPOINT).where(_CHECKPOINT.c.trial_id == bindparam("id"))


class Storage(_CachedStorage):
    """The ledger behind a memory of the trials of its studies.

    Attributes:
        ledger: The SQL storage itself.
    """

    def __init__(self, ledger: LedgerStorage) -> None:
        super().__init__(ledger)
        self.ledger = ledger
        self._known: dict[int, KnownTrials] = defaultdict(KnownTrials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials of a study, in order of their numbers; the signature is Optuna's."""
        with self._lock:
            known = self._known[study_id]
            self.ledger.read_known(study_id, known)
            open_only = states is not None and not any(state.is_finished() and state in states for state in TrialState)
            trials: list[FrozenTrial] = [*(known.open_trials() if open_only else known.trials)]
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def look(self, study_id: int) -> Sequence[StoredTrial]:
        """The trials of a study, as `known_trials`, after what changed was read."""
        with self._lock:
            self.ledger.read_known(study_id, self._known[study_id])
        return self.known_trials(study_id)

    def known_trials(self, study_id: int) -> Sequence[StoredTrial]:
        """The trials of a study as this process last saw them, or wrote them itself, in order of their numbers.

        No copy: whatever this process reads and writes later changes it.
        """
        with self._lock:
            return self._known[study_id].trials

    def create_trials(
        self, study_id: int, templates: Sequence[StoredTrial], n_seen: int, mark: str, owner: str
    ) -> list[StoredTrial]:
        """As the ledger's, which says it all."""
        with self._lock:
            known = self._known[study_id]
            created = self.ledger.create_trials(study_id, templates, n_seen, known, mark, owner)
            for trial in created:
                if trial.datetime_start is not None:  # else of a first try, of which not all is known here
                    known.note(trial)
            return created

    def write(self, study_id: int, writes: Sequence[TrialWrite]) -> set[int]:
        """As the ledger's, about trials that nobody but this process trains."""
        at = self.ledger.now()
        lost = self.ledger.write(study_id, writes, at)
        with self._lock:
            for write in writes:
                self._known[study_id].note_write(write.trial_id, None if write.trial_id in lost else write, at)
        return lost

    def delete_study(self, study_id: int) -> None:
        """Delete a study with its trials."""
        super().delete_study(study_id)
        self._known.pop(study_id, None)

    def close(self) -> None:
        """Give the connections back; the next use makes new ones."""
        self.ledger.remove_session()
        self.ledger.engine.dispose()
