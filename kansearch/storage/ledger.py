"""Optuna's SQL storage with an exact budget: the check stands in the transaction that creates a trial."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BUDGET = "kansearch:trials"
"""The study attribute that holds how many trials may count."""

COUNTED = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
"""The states of the trials that use budget. A failed trial gives its place back."""


class BudgetSpentError(Exception):
    """Every trial of the study's budget exists already."""


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
        budget = (
            session.query(models.StudyUserAttributeModel.value_json).filter_by(study_id=study_id, key=BUDGET).scalar()
        )
        if budget is not None:
            counted: Any = (
                session.query(func.count(models.TrialModel.trial_id))
                .filter(models.TrialModel.study_id == study_id, models.TrialModel.state.in_(COUNTED))
                .scalar()
            )
            if counted > json.loads(budget):
                raise BudgetSpentError
        return trial

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
