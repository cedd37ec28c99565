"""Candidates: drawn by the study's sampler, refused untrained where they break a limit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from kansearch.errors import UserError
from kansearch.models.build import build, why_unbuildable
from kansearch.models.cost import cost, latency_ms
from kansearch.models.shapes import n_numbers
from kansearch.search.samplers import DRAFT_ID, StudyView, make_sampler, rivals, seen_by_sampler, takes_turns
from kansearch.specs.data import Inputs
from kansearch.specs.space import Domain, Fixed, Range, Scalar
from kansearch.specs.study import SamplerSpec, StudySpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import DEATHS, Candidate

MAX_REFUSALS = 20
"""Candidates over a limit that a sampler may propose in a row before the next are drawn at random: it learns nothing
from refusals, and one that models the study would propose the same optimum again."""

RANDOM = SamplerSpec(name="random")

FEW_REPEATS, MAX_REPEATS = 20, 200
"""Networks that were trained already and that a sampler may propose in a row, before the next are drawn at random; and
before one of them is trained again, for it seems that there are no others."""

MAX_DRAWS = 2000
"""Draws before we say that no network keeps to the limits."""


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
    networks none is trained twice before it is hard to find another one: the same seed gives the same result. Each of
    several candidates is drawn as if those before it were running already.

    Args:
        study: Of the candidates.
        trials: Those that it has so far.
        inputs: Of the networks.
        n_outputs: Of the networks.
        worker: Number of this worker; workers draw from different random streams.
        n_candidates: How many.

    Raises:
        UserError: If no candidate of MAX_DRAWS keeps to the limits.
    """
    spec = study.spec
    # Second tries do not count, or a study that was stopped would draw others than one that was not.
    n_drawn = sum(DEATHS not in trial.user_attrs for trial in trials)
    spent = family_epochs(spec, trials)
    visible: dict[str | None, list[FrozenTrial]] = {}
    tried = (
        {_key(trial.params) for trial in trials if trial.state is not TrialState.FAIL} if _is_finite(spec) else set()
    )
    candidates = []
    for place in range(n_candidates):
        family = next_family(spec, spent)
        if family not in visible:
            visible[family] = seen_by_sampler(spec, rivals(spec, trials, family))
        draft = _draw(study, visible[family], family, inputs, n_outputs, (worker, n_drawn + place), tried)
        tried.add(_key(draft.params))
        visible[family].append(draft.frozen)
        if family is not None:
            spent[family] += 1
        candidates.append(draft.candidate())
    return candidates


def _draw(
    study: StoredStudy,
    visible: Sequence[FrozenTrial],
    family: str | None,
    inputs: Inputs,
    n_outputs: int,
    stream: tuple[int, int],
    tried: Collection[Params],
) -> _Draft:
    """A draft that keeps to the limits and was not tried; the stream of random numbers is the study's of that name."""
    spec = study.spec
    seed = int(np.random.SeedSequence([spec.search.seed, *stream]).generate_state(1)[0])
    sampler_spec = spec.search.sampler
    if np.random.default_rng(seed).random() < sampler_spec.random_fraction:
        sampler_spec = RANDOM
    sampler = make_sampler(sampler_spec, seed, spec.search.seed)
    refusals: dict[str, int] = {}
    n_rejected = n_repeats = 0
    while n_rejected < MAX_DRAWS:
        draft = _Draft(study, sampler, visible, family, n_rejected)
        draft.draw_all()
        if n_repeats < MAX_REPEATS and _key(draft.params) in tried:
            n_repeats += 1
            if n_repeats == FEW_REPEATS:
                sampler = make_sampler(RANDOM, seed + 1, spec.search.seed)
            continue
        reason = refusal(spec, trial_spec(spec, draft.params).model, inputs, n_outputs)
        if reason is None:
            return draft
        n_rejected += 1
        refusals[reason] = refusals.get(reason, 0) + 1
        if n_rejected == MAX_REFUSALS:
            sampler = make_sampler(RANDOM, seed, spec.search.seed)
    commonest = max(refusals, key=lambda text: refusals[text])
    raise UserError(f"no network of the space keeps to the limits: of {MAX_DRAWS} candidates most broke: {commonest}")


Params = frozenset[tuple[str, Any]]


def _key(params: Mapping[str, Any]) -> Params:
    return frozenset(params.items())


def _is_finite(spec: StudySpec) -> bool:
    """Whether a space has finitely many networks; those of a range of floats never repeat."""
    return not any(
        isinstance(domain, Range) and not domain.integer and domain.step is None and domain.low < domain.high
        for domain in spec.space.domains.values()
    )


def family_epochs(spec: StudySpec, trials: Sequence[StoredTrial]) -> dict[str, int]:
    """Epochs that each family of the space got so far."""
    spent = dict.fromkeys(spec.space.families(), 0)
    for trial in trials:
        name = trial.params.get("family")
        if name in spent and trial.state is not TrialState.FAIL:
            # A trial that has only begun counts as one epoch, so that workers spread over the families.
            spent[name] += trial.epochs or 1
    return spent


def next_family(spec: StudySpec, spent: Mapping[str, int]) -> str | None:
    """The family whose turn it is: the one with the fewest epochs so far; None where the sampler chooses."""
    return min(spent, key=lambda name: spent[name]) if takes_turns(spec) else None


def trial_spec(spec: StudySpec, params: Mapping[str, Any]) -> TrialSpec:
    """The trial that suggested hyperparameters stand for; the same ones always get the same training seed."""

    def given(name: str, domain: Domain) -> Scalar:
        return domain.value if isinstance(domain, Fixed) else params[name]

    values = spec.space.assign(given)
    # Files by their names: the same study in another folder has the same seeds.
    named = {k: Path(str(value)).name if k == "backbone" else value for k, value in values.items()}
    digest = hashlib.sha256(json.dumps([spec.search.seed, sorted(named.items())]).encode()).digest()
    return TrialSpec(
        model=ModelSpec(**{k: v for k, v in values.items() if k in ModelSpec.model_fields}),
        training=TrainingSpec(
            epochs=spec.budget.epochs, **{k: v for k, v in values.items() if k in TrainingSpec.model_fields}
        ),
        rungs=spec.rungs,
        seed=int.from_bytes(digest[:8], "big") >> 1,
    )


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
        sampler: optuna.samplers.BaseSampler,
        visible: Sequence[FrozenTrial],
        family: str | None,
        n_rejected: int,
    ) -> None:
        self.n_rejected = n_rejected
        self.spec = study.spec
        self.family = family
        self.sampler = sampler
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self.view = StudyView(study.storage, visible, scope=family or "")
        self.study = optuna.Study(study.spec.name, self.view, sampler=sampler)  # type: ignore[arg-type]  # stands for a storage
        self.frozen = StoredTrial(
            trial_id=DRAFT_ID,
            number=visible[-1].number + 1 if visible else 0,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now().astimezone(),
            datetime_complete=None,
            params=self.params,
            distributions=self.distributions,
            user_attrs={},
            system_attrs=self.view.draft_attrs,
            intermediate_values={},
        )

    def candidate(self) -> Candidate:
        """What was drawn."""
        seed = trial_spec(self.spec, self.params).seed
        return Candidate(self.params, self.distributions, seed, self.n_rejected, self.view.draft_attrs)

    def draw_all(self) -> None:
        """Draw every hyperparameter that exists; the family only where it has no turn."""
        self.sampler.before_trial(self.study, self.frozen)
        relative_space = self.sampler.infer_relative_search_space(self.study, self.frozen)
        if self.family is not None:
            relative_space.pop("family", None)
        relative = self.sampler.sample_relative(self.study, self.frozen, relative_space)

        def draw(name: str, domain: Domain) -> Scalar:
            if isinstance(domain, Fixed):
                return domain.value
            distribution = to_distribution(domain)
            if name == "family" and self.family is not None:
                value: Scalar = self.family
            elif name in relative and relative_space.get(name) == distribution:
                value = relative[name]
            elif distribution.single():
                value = distribution.to_external_repr(distribution.to_internal_repr(_first_value(domain)))
            else:
                value = self.sampler.sample_independent(self.study, self.frozen, name, distribution)
            self.params[name] = value
            self.distributions[name] = distribution
            return value

        self.spec.space.assign(draw)


def to_distribution(domain: Domain) -> BaseDistribution:
    """Optuna's distribution for a domain of several values."""
    if isinstance(domain, Range) and domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    if isinstance(domain, Range):
        return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    assert not isinstance(domain, Fixed)
    return CategoricalDistribution(domain.choices)


def _first_value(domain: Domain) -> Scalar:
    if isinstance(domain, Range):
        return domain.low
    assert not isinstance(domain, Fixed)
    return domain.choices[0]
