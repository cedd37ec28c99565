"""Optuna's SQL storage with an exact budget: the check stands in the transaction that creates a trial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optuna.storages import RDBStorage
from optuna.storages._rdb import models
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
