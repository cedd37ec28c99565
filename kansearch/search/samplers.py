"""Samplers by name, and what they see of a study while they draw."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kansearch.search.history import DRAFT_ID
from kansearch.search.tpe import Seen, TPESampler
from kansearch.specs.study import RANDOM_FRACTION, SamplerSpec, StudySpec
from kansearch.storage.studies import StoredStudy, optuna_directions

TPE_DEFAULTS = {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 8}
"""Said outright, for Optuna's own defaults differ between one and several objectives."""


def make_sampler(spec: SamplerSpec, seed: int, study_seed: int, seen: Callable[[], Seen]) -> BaseSampler:
    """The sampler that a study names.

    A sampler is made anew for every candidate, with a seed of its own: so what a study draws depends on its
    seed and its trials alone, and a study that was stopped goes on as if it had not been. A quasi-random sequence
    is one for the whole study, so qmc has the study's seed; its place in the sequence stands in the storage.

    Args:
        spec: Which sampler.
        seed: Of the candidate.
        study_seed: Of the study.
        seen: Gives what TPE knows of the study.
    """
    options: dict[str, Any] = {key: value for key, value in spec.options.items() if key != RANDOM_FRACTION}
    if spec.name == "qmc":
        options["independent_sampler"] = optuna.samplers.RandomSampler(seed=seed)
        seed = study_seed
    if spec.name == "tpe":
        return TPESampler(seen(), seed=seed, **{**TPE_DEFAULTS, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _SAMPLERS[spec.name](seed=seed, **options)


_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "random": optuna.samplers.RandomSampler,
    "qmc": functools.partial(optuna.samplers.QMCSampler, warn_independent_sampling=False),
    "gp": functools.partial(optuna.samplers.GPSampler, warn_independent_sampling=False),
    "nsga2": optuna.samplers.NSGAIISampler,
    "nsga3": optuna.samplers.NSGAIIISampler,
    "cmaes": functools.partial(optuna.samplers.CmaEsSampler, warn_independent_sampling=False),
}

BLIND = (optuna.samplers.RandomSampler, TPESampler)
"""Samplers that do not look at a study through Optuna."""

SCOPE = "kansearch:scope:"
"""Prefix of the study attributes that belong to one family's sampler."""


def takes_turns(spec: StudySpec) -> bool:
    """Whether families are searched in turns, and not chosen by the sampler."""
    return spec.search.families == "balanced" and len(spec.space.families()) > 1


def rivals(spec: StudySpec, trials: Sequence[FrozenTrial], family: object) -> list[FrozenTrial]:
    """The trials that a family's sampler learns from and its pruner compares with.

    Families that share a study's epochs evenly are searched side by side, each as if it were alone; where the
    sampler chooses among them, all trials are rivals. A failed trial is nobody's: its second try counts.
    """
    lives = [trial for trial in trials if trial.state is not TrialState.FAIL]
    return [trial for trial in lives if trial.params.get("family") == family] if takes_turns(spec) else lives


class StudyView:
    """A storage that shows some of a study's trials, and a draft that has no row yet.

    A candidate may be rejected, so it must not leave a trace: what the sampler notes of the draft is kept here
    until the trial is created whole. What it notes of the study (a population, a place in a sequence) is kept
    under the name of the scope, so that families do not read each other's. Everything else goes to the real storage.
    """

    def __init__(
        self, study: StoredStudy, trials: Sequence[FrozenTrial], draft_attrs: dict[str, Any], scope: str = ""
    ) -> None:
        self._storage: BaseStorage = study.storage
        self._study = study
        self._trials = trials
        self._prefix = f"{SCOPE}{scope}:" if scope else ""
        self._draft_attrs = draft_attrs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Of the study; nobody needs to be asked."""
        del study_name
        return self._study.study_id

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Likewise."""
        del study_id
        return optuna_directions(self._study.spec)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """The visible trials; the signature is the storage's."""
        del study_id, deepcopy
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Note something of the draft, or of a real trial."""
        if trial_id != DRAFT_ID:
            self._storage.set_trial_system_attr(trial_id, key, value)
            # Trials that reach a rung together are judged by one look at the storage, and must see each other's notes.
            for trial in self._trials:
                if trial._trial_id == trial_id:
                    trial.system_attrs[key] = value
        # These are meant for workers that see a trial before its parameters; ours has both at once.
        elif not key.startswith("tpe:relative_params"):
            self._draft_attrs[key] = value

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """What was noted of the draft, or of a real trial."""
        return self._draft_attrs if trial_id == DRAFT_ID else self._storage.get_trial_system_attrs(trial_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """What was noted of the study in this scope."""
        attrs = self._storage.get_study_system_attrs(study_id)
        own = {key.removeprefix(self._prefix): v for key, v in attrs.items() if key.startswith(self._prefix)}
        return {key: v for key, v in own.items() if not key.startswith(SCOPE)}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Note something of the study in this scope."""
        self._storage.set_study_system_attr(study_id, self._prefix + key, value)
