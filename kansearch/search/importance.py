"""Which hyperparameters decided the outcome."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping

import optuna
from optuna.trial import FrozenTrial, TrialState

from kansearch.specs.metrics import METRICS, Direction, Metric
from kansearch.storage.studies import StoredStudy

MIN_TRIALS = 8
"""Complete trials below which an importance would be noise."""


def importances(study: StoredStudy) -> Mapping[str, Mapping[str, float]]:
    """Share of each searched hyperparameter in each objective's outcome, largest first.

    Over complete trials; empty where there are too few. Costs that follow from the architecture alone are left
    out: their importances would only restate a formula.

    Source: PED-ANOVA, Watanabe et al. (2023), arXiv:2304.10255, as Optuna computes it.
    """
    own = optuna.Study(study.spec.name, study.storage)
    complete = own.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < MIN_TRIALS:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    with warnings.catch_warnings():
        # It says that it takes small values for good ones, which _loss sees to, and that a hyperparameter which not
        # every trial has is judged by those that have it, as it should be.
        warnings.simplefilter("ignore", UserWarning)
        return _shares(study, own, evaluator)


def _shares(
    study: StoredStudy, own: optuna.Study, evaluator: optuna.importance.BaseImportanceEvaluator
) -> Mapping[str, Mapping[str, float]]:
    return {
        name: {
            parameter: float(share)
            for parameter, share in optuna.importance.get_param_importances(
                own, evaluator=evaluator, target=functools.partial(_loss, index, METRICS[name])
            ).items()
        }
        for index, name in enumerate(study.spec.objectives)
        if not METRICS[name].known_before_training
    }


def _loss(index: int, metric: Metric, trial: FrozenTrial) -> float:
    """An objective so that smaller is better: PED-ANOVA asks what sets the smallest values apart."""
    return float(trial.values[index]) * (-1 if metric.direction is Direction.MAXIMIZE else 1)
