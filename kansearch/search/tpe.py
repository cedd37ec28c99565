"""Optuna's TPE sampler, made quick for studies of thousands of trials.

A sampler is made anew for every candidate, so it can remember nothing itself: what it could know of trials that have
ended is remembered with them. And of the many trials that are not among the good ones it looks at MAX_ABOVE. Up to
there it draws what Optuna's draws; test_our_tpe_draws_what_optunas_draws watches the private methods that it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe import _truncnorm
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr, ndtr

from kansearch.storage.reading import StoredTrial

# Optuna's compute number by number in Python: two thirds of a draw in a space with whole numbers.
_truncnorm._log_ndtr, _truncnorm._ndtr = log_ndtr, ndtr


MAX_ABOVE = 500
"""Trials from which the density of all but the good ones is estimated; more of them make it slower, not better."""


class TPESampler(optuna.samplers.TPESampler):
    """Optuna's, for trials that are StoredTrials of one space."""

    def __init__(self, *, group: bool, **options: Any) -> None:
        super().__init__(group=group, **options)
        if group:
            self._group_decomposed_search_space = _Groups()  # type: ignore[assignment]

    def _build_parzen_estimator(
        self,
        study: optuna.Study,
        search_space: dict[str, BaseDistribution],
        trials: list[FrozenTrial],
        handle_below: bool,
    ) -> _ParzenEstimator:
        if not handle_below and len(trials) > MAX_ABOVE:
            # Evenly over the whole study; all that run, for they keep others from drawing the same.
            running = [trial for trial in trials if trial.state is TrialState.RUNNING]
            ended = [trial for trial in trials if trial.state is not TrialState.RUNNING]
            kept = np.linspace(0, len(ended) - 1, max(0, MAX_ABOVE - len(running))).round().astype(int)
            trials = [*(ended[place] for place in kept), *running]
        return super()._build_parzen_estimator(study, search_space, trials, handle_below)

    def _get_internal_repr(
        self,
        trials: Sequence[StoredTrial],  # type: ignore[override]
        search_space: dict[str, BaseDistribution],
        study: optuna.Study,  # noqa: ARG002 - the signature is Optuna's
    ) -> dict[str, NDArray[Any]]:
        # Ours have all their hyperparameters from the first moment on, so there is nothing to be read from elsewhere.
        known = [trial.internal_params for trial in trials if search_space.keys() <= trial.params.keys()]
        return {name: np.asarray([params[name] for params in known]) for name in search_space}


class _Groups:
    """The hyperparameters that occur together; one trial of each kind tells."""

    def calculate(self, study: optuna.Study, use_cache: bool = False) -> _SearchSpaceGroup:
        trials = study._get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED), use_cache=use_cache)
        kinds = {tuple(trial.params): trial for trial in trials}
        group = _SearchSpaceGroup()
        for trial in kinds.values():
            group.add_distributions(trial.distributions)
        return group
