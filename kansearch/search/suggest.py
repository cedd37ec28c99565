"""Candidates: drawn by the study's sampler, refused untrained where they break a limit."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from kansearch.errors import UserError
from kansearch.models.build import build, why_unbuildable
from kansearch.models.cost import cost, latency_ms
from kansearch.models.shapes import n_numbers
from kansearch.search.history import DRAFT_ID, History
from kansearch.search.listing import is_finite, listed
from kansearch.search.samplers import BLIND, StudyView, make_sampler, rivals, takes_turns
from kansearch.search.tpe import Seen
from kansearch.specs.data import Inputs
from kansearch.specs.space import Domain, Fixed, Range, Scalar
from kansearch.specs.study import SamplerSpec, StudySpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import Candidate

MAX_REFUSALS = 20
"""Candidates over a limit that a sampler may propose in a row before the next are drawn at random: it learns nothing
from refusals, and one that models the study would propose the same optimum again."""

RANDOM = SamplerSpec(name="random")

FEW_REPEATS, MAX_REPEATS = 20, 2000
"""Networks that were trained already and that a sampler may propose in a row, before one of the others is taken from
a list; and, where the space is too large for a list, at random, before it seems that there are no others."""

MAX_DRAWS = 2000
"""Draws before we say that no network keeps to the limits."""


class SpaceSpentError(Exception):
    """All networks of a space that keep to the limits were trained; the message says so."""


def suggest(
    study: StoredStudy,
    trials: Sequence[StoredTrial],
    inputs: Inputs,
    n_outputs: int,
    worker: int,
    n_candidates: int = 1,
) -> list[Candidate]:
    """Draw candidates that can be built and keep to every limit known before training.

    Candidates that do not are drawn again at once: they use no budget, leave no trace in the storage, and
    teach the sampler nothing (counting them as bad would teach it that shallow is good). In a space of finitely many
    networks none is trained twice: the same seed gives the same result. Each of several candidates is drawn as if those
    before it were running already.

    Args:
        study: Of the candidates.
        trials: Those that it has so far.
        inputs: Of the networks.
        n_outputs: Of the networks.
        worker: Number of this worker; workers draw from different random streams.
        n_candidates: How many, at most: fewer where the space holds no more.

    Raises:
        SpaceSpentError: If there is none that was not trained.
        UserError: If no candidate of MAX_DRAWS keeps to the limits.
    """
    known = _known.get(study)
    if known is None:
        known = _known[study] = _Known(study.spec)
    history = known.history
    history.look(trials)
    looks: dict[str | None, _Look] = {}
    candidates: list[Candidate] = []
    while len(candidates) < n_candidates and (open_families := known.open_families()):
        family = next_family(study.spec, open_families)
        if family not in looks:
            looks[family] = _Look(study, known, trials, family)
        draft = _draw(study, looks[family], inputs, n_outputs, (worker, history.n_drawn))
        if draft is None:
            known.spent.add(family)
            continue
        looks[family].add(draft)
        candidates.append(draft.candidate())
    if not candidates:
        raise SpaceSpentError(known.why_spent)
    return candidates


class _Known:
    """What is remembered of a study, so that a look costs as much as changed.

    Args:
        spec: Of the study.

    Attributes:
        history: Of its trials.
        spent: Families of which there is no other network; None stands for all.
        is_finite: Whether its space holds finitely many networks.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.history = History(spec)
        self.spent: set[str | None] = set()
        self.is_finite = is_finite(spec.space)
        self._spec = spec
        self._seen: dict[str | None, Seen] = {}

    def open_families(self) -> dict[str, int]:
        """Epochs that each family got of which there may be other networks."""
        return (
            {} if None in self.spent else {f: n for f, n in self.history.family_epochs.items() if f not in self.spent}
        )

    @functools.cached_property
    def others(self) -> list[dict[str, Scalar]] | None:
        """The networks of the space that were perhaps not tried, in random order; None where they are too many to list.

        Whoever finds that one was tried, or refuses it, takes it out.
        """
        found = listed(self._spec.space)
        if found is not None:
            np.random.default_rng(self._spec.search.seed).shuffle(found)
        return found

    @property
    def why_spent(self) -> str:
        """Why there is no other candidate, in a sentence."""
        if self.others is None:
            return f"space: {MAX_REPEATS:,} draws in a row were of networks that were trained already"
        limits = " that keeps to the limits" if self._spec.constraints else ""
        return f"space: every network{limits} was trained"

    def seen(self, family: str | None) -> Seen:
        """What TPE sees of a family's trials."""
        if family not in self._seen:
            self._seen[family] = Seen(self.history, family)
        self._seen[family].look()
        return self._seen[family]


_known: WeakKeyDictionary[StoredStudy, _Known] = WeakKeyDictionary()


class _Look:
    """What a family's sampler sees of a study at one look: its rivals, and what was drawn since."""

    def __init__(self, study: StoredStudy, known: _Known, trials: Sequence[StoredTrial], family: str | None) -> None:
        self.history = known.history
        self.family = family
        self.known = known
        self._study = study
        self._at_the_look = trials
        self._drafts: list[_Draft] = []

    def add(self, draft: _Draft) -> None:
        """Count a draft as a trial that runs."""
        self.history.add(draft.params)
        self._drafts.append(draft)

    @functools.cached_property
    def seen(self) -> Seen:
        """The same as TPE sees it."""
        return self.known.seen(self.family)

    @functools.cached_property
    def _rivals(self) -> list[FrozenTrial]:
        return rivals(self._study.spec, self._at_the_look, self.family)

    @property
    def trials(self) -> list[FrozenTrial]:
        return [*self._rivals, *(draft.frozen for draft in self._drafts)]


def _draw(study: StoredStudy, look: _Look, inputs: Inputs, n_outputs: int, stream: tuple[int, int]) -> _Draft | None:
    """A draft that keeps to the limits and was not tried, if there is one.

    The stream of random numbers is the study's of that name.
    """
    spec = study.spec
    seed = int(np.random.SeedSequence([spec.search.seed, *stream]).generate_state(1)[0])
    sampler_spec = spec.search.sampler
    if np.random.default_rng(seed).random() < sampler_spec.random_fraction:
        sampler_spec = RANDOM

    def sampler_of(of: SamplerSpec, its_seed: int) -> BaseSampler:
        return make_sampler(of, its_seed, spec.search.seed, lambda: look.seen)

    sampler = sampler_of(sampler_spec, seed)
    refusals: dict[str, int] = {}
    n_rejected = n_repeats = 0
    while n_rejected < MAX_DRAWS:
        draft = _Draft(study, sampler, look, n_rejected)
        if look.known.is_finite and look.history.has(draft.params):
            n_repeats += 1
            if n_repeats == FEW_REPEATS:
                if look.known.others is not None:
                    return _other(study, sampler, look, inputs, n_outputs, n_rejected)
                sampler = sampler_of(RANDOM, seed + 1)
            if n_repeats == MAX_REPEATS:
                return None
            continue
        reason = refusal(spec, draft.trial.model, inputs, n_outputs)
        if reason is None:
            return draft
        n_rejected += 1
        refusals[reason] = refusals.get(reason, 0) + 1
        if n_rejected == MAX_REFUSALS:
            sampler = sampler_of(RANDOM, seed)
    if look.known.others is not None and (draft_of_list := _other(study, sampler, look, inputs, n_outputs, n_rejected)):
        return draft_of_list
    if look.known.others is not None and (n_repeats or look.history.n_trials):
        return None
    commonest = max(refusals, key=lambda text: refusals[text])
    raise UserError(f"no network of the space keeps to the limits: of {MAX_DRAWS} candidates most broke: {commonest}")


def _other(
    study: StoredStudy, sampler: BaseSampler, look: _Look, inputs: Inputs, n_outputs: int, n_rejected: int
) -> _Draft | None:
    """A draft from the list of networks that were perhaps not tried, if there is one of the family."""
    others = look.known.others
    assert others is not None
    for params in tuple(others):
        if look.family not in (None, params.get("family")):
            continue
        if not look.history.has(params):
            draft = _Draft(study, sampler, look, n_rejected, params)
            if refusal(study.spec, draft.trial.model, inputs, n_outputs) is None:
                return draft
        others.remove(params)
    return None


def next_family(spec: StudySpec, spent: Mapping[str, int]) -> str | None:
    """The family whose turn it is: the one with the fewest epochs so far; None where the sampler chooses."""
    return min(spent, key=lambda name: spent[name]) if takes_turns(spec) else None


def trial_spec(spec: StudySpec, params: Mapping[str, Any], seed: int | None = None) -> TrialSpec:
    """The trial that suggested hyperparameters stand for; without a seed the same ones always get the same one."""

    def given(name: str, domain: Domain) -> Scalar:
        return domain.value if isinstance(domain, Fixed) else params[name]

    return _trial_spec(spec, spec.space.assign(given), seed)


def _trial_spec(spec: StudySpec, values: Mapping[str, Scalar], seed: int | None = None) -> TrialSpec:
    """The trial of these hyperparameters, those of one value among them."""
    return TrialSpec(
        model=ModelSpec(**_those_of(_OF_MODELS, values)),
        training=TrainingSpec(epochs=spec.budget.epochs, **_those_of(_OF_TRAININGS, values)),
        rungs=spec.rungs,
        seed=_seed(spec, values) if seed is None else seed,
    )


def _seed(spec: StudySpec, values: Mapping[str, Scalar]) -> int:
    # Files by their names: the same study in another folder has the same seeds.
    named = {k: Path(str(value)).name if k == "backbone" else value for k, value in values.items()}
    digest = hashlib.sha256(json.dumps([spec.search.seed, sorted(named.items())]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


_OF_MODELS, _OF_TRAININGS = frozenset(ModelSpec.model_fields), frozenset(TrainingSpec.model_fields)


def _those_of(names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def refusal(spec: StudySpec, model: ModelSpec, inputs: Inputs, n_outputs: int) -> str | None:
    """Why a network is not worth training; None where it is."""
    reason = why_unbuildable(model, inputs)
    if reason is not None:
        return reason
    closed_form = cost(model, inputs, n_outputs)
    known: dict[str, float] = {"parameters": closed_form.parameters, "flops": closed_form.flops}
    for constraint in spec.constraints:
        if constraint.metric in known and constraint.violation(known[constraint.metric]) > 0:
            return str(constraint)
    # A network over another limit is not even built.
    for constraint in spec.constraints:
        if constraint.metric == "latency_ms":
            measured = latency_ms(build(model, inputs, n_outputs), n_numbers(inputs))
            if constraint.violation(measured) > 0:
                return str(constraint)
    return None


class _Draft:
    """Hyperparameters being drawn for a trial that does not exist yet; mirrors optuna.Trial's suggesting."""

    def __init__(
        self,
        study: StoredStudy,
        sampler: BaseSampler,
        look: _Look,
        n_rejected: int,
        given: Mapping[str, Scalar] | None = None,
    ) -> None:
        self._n_rejected = n_rejected
        self._stored = study
        self._spec = study.spec
        self._look = look
        self._family = look.family
        self._sampler = sampler
        self._number = look.history.n_trials
        self._distributions = look.history.distributions
        self._noted: dict[str, Any] = {}
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self.trial = _trial_spec(self._spec, self._draw_all() if given is None else self._take(given))

    def candidate(self) -> Candidate:
        """What was drawn."""
        return Candidate(self.params, self.distributions, self.trial.seed, self._n_rejected, self._noted)

    @functools.cached_property
    def frozen(self) -> FrozenTrial:
        """The draft as samplers see it that look at a study through Optuna."""
        return FrozenTrial(
            trial_id=DRAFT_ID,
            number=self._number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now().astimezone(),
            datetime_complete=None,
            params=self.params,
            distributions=self.distributions,
            user_attrs={},
            system_attrs=self._noted,
            intermediate_values={},
        )

    def _of_optuna(self) -> tuple[optuna.Study, FrozenTrial]:
        """The study and the draft as the sampler asks for them; a blind one never looks at them, and both cost time."""
        if isinstance(self._sampler, BLIND):
            return cast("tuple[optuna.Study, FrozenTrial]", (None, None))
        view = StudyView(self._stored, self._look.trials, self._noted, scope=self._family or "")
        return optuna.Study(self._spec.name, view, sampler=self._sampler), self.frozen  # type: ignore[arg-type]  # stands for a storage

    def _draw_all(self) -> dict[str, Scalar]:
        """Draw every hyperparameter that exists; the family only where it has no turn."""
        seen = self._of_optuna()
        self._sampler.before_trial(*seen)
        relative_space = self._sampler.infer_relative_search_space(*seen)
        if self._family is not None:
            relative_space.pop("family", None)
        relative = self._sampler.sample_relative(*seen, relative_space)

        def draw(name: str, domain: Domain) -> Scalar:
            if isinstance(domain, Fixed):
                return domain.value
            distribution = self._distributions[name]
            if name == "family" and self._family is not None:
                value: Scalar = self._family
            elif name in relative and (relative_space[name] is distribution or relative_space[name] == distribution):
                value = relative[name]
            elif distribution.single():
                value = distribution.to_external_repr(distribution.to_internal_repr(_first_value(domain)))
            else:
                value = self._sampler.sample_independent(*seen, name, distribution)
            self.params[name] = value
            self.distributions[name] = distribution
            return value

        return self._spec.space.assign(draw)

    def _take(self, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Take the hyperparameters that are given."""
        self.params = dict(given)
        self.distributions = {name: self._distributions[name] for name in given}

        def value(name: str, domain: Domain) -> Scalar:
            return domain.value if isinstance(domain, Fixed) else given[name]

        return self._spec.space.assign(value)


def _first_value(domain: Domain) -> Scalar:
    if isinstance(domain, Range):
        return domain.low
    assert not isinstance(domain, Fixed)
    return domain.choices[0]
