"""Optuna's TPE sampler, made quick for studies of thousands of trials.

A sampler is made anew for every candidate, so it can remember nothing itself: what it could know of trials that have
ended is remembered with them. And of the many trials that are not among the good ones it is shown MAX_ABOVE. Up to
there it draws what Optuna's draws; test_our_tpe_draws_what_optunas_draws watches the private methods that it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe import _truncnorm
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr, ndtr

from kansearch.storage.reading import StoredTrial

# Optuna's compute number by number in Python: two thirds of a draw in a space with whole numbers.
_truncnorm._log_ndtr, _truncnorm._ndtr = log_ndtr, ndtr

MAX_ABOVE = 500
"""Trials from which the density of all but the good ones is estimated; more of them make it slower, not better."""


def representatives(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The good ones of some trials, all that run, and of the others MAX_ABOVE, evenly over the study.

    From them TPE takes the same ones for good as from all trials.
    """
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    n_good = (default_gamma_multiobjective if len(directions) > 1 else default_gamma)(len(ended))
    if len(ended) <= n_good + MAX_ABOVE:
        return list(trials)
    study: Any = SimpleNamespace(directions=directions, direction=directions[0])
    good, others = _split_trials(study, ended, n_good)
    kept = [others[place] for place in np.linspace(0, len(others) - 1, MAX_ABOVE).round().astype(int)]
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    return sorted([*good, *kept, *running], key=lambda trial: trial.number)


def _n_good(n_seen: int) -> int:
    """How many of the trials that TPE sees of a study with several objectives are the good ones.

    A tenth, as Optuna has it; where the others are MAX_ABOVE representatives, the rest.
    """
    return max(default_gamma_multiobjective(n_seen), n_seen - MAX_ABOVE)


class TPESampler(optuna.samplers.TPESampler):
    """Optuna's, for trials that are StoredTrials of one space."""

    def __init__(self, *, group: bool, **options: Any) -> None:
        super().__init__(group=group, **options)
        if group:
            self._group_decomposed_search_space = _Groups()  # type: ignore[assignment]  # all that is asked of it

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if len(study.directions) > 1:
            self._gamma = _n_good
        return super()._sample(study, trial, search_space)

    def _get_internal_repr(
        self,
        trials: Sequence[StoredTrial],  # type: ignore[override]  # what our view shows
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
