"""Before a study: does everything that is searched do anything?

A published KAN search tuned an L1 weight that never reached the loss, and nobody's tool noticed. So each
searched hyperparameter is changed once, all else and the seed fixed, and a short training must come out
differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kansearch.data.splits import Split
from kansearch.errors import DataError, UserError
from kansearch.models.build import saved_network, why_unbuildable
from kansearch.models.cost import cost
from kansearch.models.pretrained import NAMES, pretrained_stages
from kansearch.search.data import backbones_of
from kansearch.search.samplers import takes_turns
from kansearch.search.suggest import refusal, trial_spec
from kansearch.specs.data import ImageShape, Inputs
from kansearch.specs.space import Choice, Domain, Fixed, Range, Scalar
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import ModelSpec, TrialSpec
from kansearch.training.loop import train

EPOCHS = 10
"""Enough for schedules in shares of the epochs to differ."""

ROWS = 64
BATCH_ROWS = 1024
"""Rows to tell batch sizes apart: below the smaller one all are the same."""

N_DRAWS = 200
N_CONTEXTS = 12
"""Settings of the other hyperparameters to try before we say that one does nothing."""

ONLY_ENDS_TRIALS = ("patience",)
"""These act on when a training is over, not on its loss."""

OF_IMAGES = ("shift", "flip")
"""Hyperparameters that mean something for images alone."""

Params = dict[str, Scalar]
Losses = list[tuple[float, float]]


def search_warnings(spec: StudySpec, split: Split) -> tuple[str, ...]:
    """What the author of a study should know before it runs."""
    if not spec.space.searched():
        nothing = "space: nothing is searched, so there is one network; give a list, or low and high"
        return (*split.warnings, nothing)
    return (*split.warnings, *_sampler_warnings(spec), *_effect_warnings(spec, split))


def check_feasible(spec: StudySpec, inputs: Inputs, n_outputs: int) -> None:
    """Make sure that some network of the space, and of every family with a turn, keeps to the limits.

    Raises:
        DataError: If the weights of a backbone are not what they should be.
        UserError: Naming the family, the limit that most candidates break, and how near the best came.
    """
    for name in OF_IMAGES:
        domain = spec.space.domains.get(name)
        if domain is not None and not isinstance(inputs, ImageShape) and any(_options(domain)):
            raise UserError(f"space.{name} moves images, and these data are none; leave {name} out of the space")
    _check_backbones(spec, inputs)
    random = np.random.default_rng(spec.search.seed)
    families = spec.space.families() if takes_turns(spec) else (None,)
    for family in families:
        refusals: Counter[str] = Counter()
        smallest: int | None = None
        for index in range(N_DRAWS):
            model = trial_spec(spec, draw_params(spec, random, family, inside=index % 2 > 0)).model
            reason = refusal(spec, model, inputs, n_outputs)
            if reason is None:
                break
            refusals[reason] += 1
            if why_unbuildable(model, inputs) is None:
                n_parameters = cost(model, inputs, n_outputs).parameters
                smallest = n_parameters if smallest is None else min(smallest, n_parameters)
        else:
            reason = refusals.most_common(1)[0][0]
            if smallest is not None:
                reason = f"most break {reason}; the smallest of {N_DRAWS} drawn has {smallest:,} parameters"
            raise UserError(f"no {family or 'network'} of this space can be trained: {reason}")


def _check_backbones(spec: StudySpec, inputs: Inputs) -> None:
    """Read the weights that trials may begin with, before there is a study that knows them."""
    for name in backbones_of(spec):
        if why_unbuildable(ModelSpec(family="mlp", stem="backbone", backbone=name, depth=1), inputs) is None:
            stages = pretrained_stages(name) if name in NAMES else [saved_network(name)[0]]
            numbers = (tensor for stage in stages for tensor in stage.state_dict().values())
            if not all(tensor.isfinite().all() for tensor in numbers):
                raise DataError(f"the weights of the backbone {name} are not all numbers; name another one")


def _sampler_warnings(spec: StudySpec) -> Iterator[str]:
    sampler, pruner = spec.search.sampler.name, spec.search.pruner.name
    if sampler in ("nsga2", "nsga3") and pruner != "none":
        yield (
            f"search.sampler: {sampler} learns from complete trials only, so with pruning it draws almost at random; "
            "use tpe, or pruner: none"
        )
    if sampler == "cmaes":
        names = [n for n in spec.space.searched() if not isinstance(spec.space.domains[n], Range)]
        if names:
            yield f"search.sampler: cmaes moves numbers only; {', '.join(names)} are drawn at random"


def _effect_warnings(spec: StudySpec, split: Split) -> Iterator[str]:
    random = np.random.default_rng(spec.search.seed)
    drawn = [draw_params(spec, random, inside=index % 2 > 0) for index in range(N_DRAWS)]
    drawn = [params for params in drawn if _is_trainable(spec, split, params)]
    # Small networks first: they show an effect as well as large ones, and sooner.
    drawn.sort(key=lambda params: cost(trial_spec(spec, params).model, split.inputs, split.n_outputs).flops)
    trainings = _ShortTrainings(spec, split)
    for name in spec.space.searched():
        contexts = [params for params in drawn if name in params]
        useless = _useless_values(spec, split, name, contexts)
        if useless:
            for value, why in useless.items():
                yield f"space.{name}: {value} can never be built: {why}"
        elif not contexts:
            yield f"space.{name}: never used, for its conditions never hold"
        elif name not in ONLY_ENDS_TRIALS and not any(
            # Where the ends of a range break a limit, other values that were drawn do not.
            trainings.differ(params, name, [contexts[0][name], contexts[-1][name]])
            for params in contexts[:: max(1, len(contexts) // N_CONTEXTS)]
        ):
            yield f"space.{name}: changes nothing in the loss of this study's networks"


def _useless_values(spec: StudySpec, split: Split, name: str, contexts: Sequence[Params]) -> dict[Scalar, str]:
    """Choices of a hyperparameter that cannot be built whatever the others are, and why."""
    domain = spec.space.domains[name]
    found: dict[Scalar, str] = {}
    for value in domain.choices if isinstance(domain, Choice) else ():
        reasons = []
        for params in contexts:
            reason = why_unbuildable(trial_spec(spec, _changed(spec, params, name, value)).model, split.inputs)
            if reason is None:
                break
            reasons.append(reason)
        else:
            if reasons:
                found[value] = reasons[0]
    return found


def _changed(spec: StudySpec, params: Params, name: str, value: Scalar) -> Params:
    """Another value, which may bring hyperparameters to life that were not drawn before."""
    return {other: _options(domain)[0] for other, domain in spec.space.domains.items()} | params | {name: value}


def _is_trainable(spec: StudySpec, split: Split, params: Params) -> bool:
    return refusal(spec, trial_spec(spec, params).model, split.inputs, split.n_outputs) is None


def draw_params(spec: StudySpec, random: np.random.Generator, family: str | None = None, *, inside: bool) -> Params:
    """One setting of the space: ranges at one of their ends, or anywhere inside."""
    params: Params = {}

    def draw(name: str, domain: Domain) -> Scalar:
        if isinstance(domain, Fixed):
            return domain.value
        if name == "family" and family is not None:
            params[name] = family
            return family
        options = _options(domain)
        if inside and isinstance(domain, Range) and domain.step is None:
            options = (_anywhere(domain, random),)
        params[name] = options[int(random.integers(len(options)))]
        return params[name]

    spec.space.assign(draw)
    return params


def _anywhere(domain: Range, random: np.random.Generator) -> float:
    low, high = (np.log(domain.low), np.log(domain.high)) if domain.log else (domain.low, domain.high)
    value = random.uniform(low, high)
    value = float(np.exp(value)) if domain.log else float(value)
    return round(value) if domain.integer else min(max(value, domain.low), domain.high)


def _options(domain: Domain) -> tuple[Scalar, ...]:
    """A few values of a domain, its ends among them."""
    if isinstance(domain, Fixed):
        return (domain.value,)
    if not isinstance(domain, Range):
        return domain.choices
    low, high = domain.low, domain.high
    if domain.step is not None:
        high = low + domain.step * int((high - low) / domain.step + 1e-9)
    return tuple(dict.fromkeys((int(low), int(high)) if domain.integer else (low, high)))


@dataclass(frozen=True)
class _ShortTrainings:
    """Losses of short trainings, to see hyperparameters by; none is done twice."""

    spec: StudySpec
    split: Split
    known: dict[tuple[TrialSpec, int], Losses] = field(default_factory=dict)

    def losses(self, params: Params, name: str) -> Losses:
        """Those of the training of some hyperparameters, to see one of them by."""
        rows = BATCH_ROWS if name == "batch_size" else ROWS
        trial = trial_spec(self.spec, params)
        training = trial.training.model_copy(update={"epochs": EPOCHS, "patience": 0})
        short = trial.model_copy(update={"training": training, "rungs": (EPOCHS,), "seed": 0})
        if (short, rows) not in self.known:
            (result,) = train([short], self.split.head(rows))
            self.known[short, rows] = [(point.train_loss, point.validation_loss) for point in result.points]
        return self.known[short, rows]

    def differ(self, params: Params, name: str, alternatives: Sequence[Scalar]) -> bool:
        """Whether another value gives another loss, given the same others and the same seed."""
        before = self.losses(params, name)
        for value in (*_options(self.spec.space.domains[name]), *alternatives):
            changed = _changed(self.spec, params, name, value)
            if value == params[name] or not _is_trainable(self.spec, self.split, changed):
                continue
            if self.losses(changed, name) != before:
                return True
        return False
