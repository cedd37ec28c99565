"""A study: data, objectives, budget, search and space; what a study file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, SkipValidation, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kansearch.specs.base import Number, Spec, Whole
from kansearch.specs.data import DataSpec
from kansearch.specs.launch import LaunchSpec
from kansearch.specs.metrics import DEFAULT_QUALITY, METRICS, Direction, Metric
from kansearch.specs.space import Space

StudyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]


@dataclass(frozen=True)
class Option:
    """An argument of a sampler or a pruner.

    Attributes:
        type: int, float, bool or str.
        low: The lowest number that is allowed.
        high: The highest one.
        allowed: The texts that are allowed.
    """

    type: type
    low: float = 0
    high: float = 1_000_000
    allowed: tuple[str, ...] = ()


_COUNT = Option(int)
_SHARE = Option(float, high=1)
_FLAG = Option(bool)
_GENETIC = {
    "population_size": Option(int, low=2),
    "mutation_prob": _SHARE,
    "crossover_prob": _SHARE,
    "swapping_prob": _SHARE,
}

RANDOM_FRACTION = "random_fraction"
"""Our own option of the samplers that model the study: the share of their candidates drawn at random all the same."""

SAMPLER_OPTIONS: dict[str, dict[str, Option]] = {
    "tpe": {
        "n_startup_trials": _COUNT,
        "n_ei_candidates": Option(int, low=1),
        "multivariate": _FLAG,
        "group": _FLAG,
        "constant_liar": _FLAG,
        RANDOM_FRACTION: _SHARE,
    },
    "random": {},
    "qmc": {"qmc_type": Option(str, allowed=("sobol", "halton")), "scramble": _FLAG},
    "gp": {"n_startup_trials": _COUNT, "deterministic_objective": _FLAG, RANDOM_FRACTION: _SHARE},
    "nsga2": _GENETIC,
    "nsga3": _GENETIC,
    "cmaes": {"n_startup_trials": _COUNT, "sigma0": Option(float, low=1e-6)},
}
"""The arguments of the samplers that a study may set: Optuna's, and our RANDOM_FRACTION."""

PRUNER_OPTIONS: dict[str, dict[str, Option]] = {
    "pareto": {},
    "none": {},
    "median": {"n_startup_trials": _COUNT, "n_min_trials": Option(int, low=1)},
    "percentile": {
        "percentile": Option(float, high=100),
        "n_startup_trials": _COUNT,
        "n_min_trials": Option(int, low=1),
    },
    "successive_halving": {"min_early_stopping_rate": Option(int, high=100)},
    "hyperband": {},
    "patient": {"patience": _COUNT, "min_delta": Option(float)},
}
"""The arguments of the pruners, beside the rungs that all of them share."""


class Budget(Spec):
    """What a study may spend.

    Attributes:
        trials: Trials that count: complete, pruned, running and waiting ones. Failed trials and
            candidates over a limit do not.
        epochs: Of one trial that is never pruned.
        failures: So many failed trials end the study as broken.
    """

    trials: Annotated[Whole, Field(ge=1, le=1_000_000)] = 100
    epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 27
    failures: Annotated[Whole, Field(ge=1, le=1_000_000)] = 20


class _Named(Spec):
    """A name with options of its own."""

    @model_validator(mode="before")
    @classmethod
    def _options_beside_the_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "options" not in value:
            own = {key: item for key, item in value.items() if key in cls.model_fields}
            return {**own, "options": {key: item for key, item in value.items() if key not in own}}
        return value


class SamplerSpec(_Named):
    """Which sampler proposes candidates, with its arguments."""

    name: Literal["tpe", "random", "qmc", "gp", "nsga2", "nsga3", "cmaes"] = "tpe"
    options: SkipValidation[dict[str, bool | int | float | str]] = Field(default={})

    @model_validator(mode="after")
    def _known_options(self) -> Self:
        _check_options(self.name, self.options, SAMPLER_OPTIONS[self.name])
        if self.options.get("multivariate") is False and self.options.get("group", True):
            raise PydanticCustomError(
                "group_needs", "needs multivariate: true; write group: false beside it", {"at": "group"}
            )
        return self

    @property
    def random_fraction(self) -> float:
        """Share of the candidates that are drawn at random all the same; 0 where the sampler does not model the study.

        Source: BOHB (Falkner et al. 2018, arXiv:1807.01774, section 3.2): a sampler that learns from short trainings
        drifts to the networks that learn quickly.
        """
        default = 0.25 if RANDOM_FRACTION in SAMPLER_OPTIONS[self.name] else 0.0
        return float(self.options.get(RANDOM_FRACTION, default))


class PrunerSpec(_Named):
    """Which pruner stops trials early, and at which rungs.

    Attributes:
        min_epochs: The first rung.
        reduction_factor: From one rung to the next, and the share that survives: one in so many.
    """

    name: Literal["pareto", "none", "median", "percentile", "successive_halving", "hyperband", "patient"] = "pareto"
    min_epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 1
    reduction_factor: Annotated[Whole, Field(ge=2, le=100)] = 3
    options: SkipValidation[dict[str, bool | int | float | str]] = Field(default={})

    @model_validator(mode="after")
    def _known_options(self) -> Self:
        _check_options(self.name, self.options, PRUNER_OPTIONS[self.name])
        return self


def _check_options(owner: str, given: Mapping[str, object], known: Mapping[str, Option]) -> None:
    if not isinstance(given, dict):
        raise PydanticCustomError("options", "must have keys of its own", {"at": "options"})
    for key, value in given.items():
        if key not in known:
            raise PydanticCustomError(
                "unknown_option", "unknown key", {"given": key, "allowed": list(known), "at": key}
            )
        option = known[key]
        fits = isinstance(value, option.type) or (option.type is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and option.type is not bool) or value != value:  # noqa: PLR0124 - NaN
            names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
            raise PydanticCustomError(
                "option_type",
                "is {value}; {owner} needs {kind} here",
                {"value": _shown(value), "owner": owner, "kind": names[option.type], "at": key},
            )
        if isinstance(value, (int, float)) and not option.low <= value <= option.high:
            raise PydanticCustomError(
                "option_range",
                "is {value}; must be from {low} to {high}",
                {"value": _shown(value), "low": f"{option.low:g}", "high": f"{option.high:,.0f}", "at": key},
            )
        if option.allowed and value not in option.allowed:
            raise PydanticCustomError(
                "unknown_name", "is {given}", {"given": str(value), "allowed": list(option.allowed), "at": key}
            )


class SearchSpec(Spec):
    """How the space is searched.

    Attributes:
        families: `balanced` gives every family of the space the same epochs and a sampler of its own,
            so that families can be compared; `free` lets the sampler choose among them.
        seed: Of everything random in the study but the split of the data.
    """

    sampler: SamplerSpec = SamplerSpec()
    pruner: PrunerSpec = PrunerSpec()
    families: Literal["balanced", "free"] = "balanced"
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0


class Constraint(Spec):
    """A bound on a metric, written `parameters <= 10000` or `accuracy >= 0.9`."""

    metric: str
    sign: Literal["<=", ">="]
    bound: Number

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if isinstance(value, (dict, Constraint)):
            return value
        words = str(value).replace("<=", " <= ").replace(">=", " >= ").split()
        if len(words) != 3 or words[1] not in ("<=", ">="):
            raise PydanticCustomError(
                "constraint", "is {value}; write it as NAME <= NUMBER or NAME >= NUMBER", {"value": _shown(value)}
            )
        try:
            bound = float(words[2].replace("_", ""))
        except ValueError:
            raise PydanticCustomError(
                "constraint_bound", "compares with {bound}, which is no number", {"bound": repr(words[2])}
            ) from None
        return {"metric": words[0], "sign": words[1], "bound": bound}

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known_metric(name)

    def violation(self, value: float) -> float:
        """How far a value lies on the wrong side of the bound; at most 0 where it is met."""
        return value - self.bound if self.sign == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:.12g}"


def _shown(value: object) -> str:
    """A value as a study file has it, never more than a few words."""
    return "empty" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)[:60]


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise PydanticCustomError("unknown_name", "is {given}", {"given": name, "allowed": list(METRICS)})
    return name


class StudySpec(Spec):
    """A whole study, as its file declares it and the storage keeps it.

    Attributes:
        name: In the storage and in reports; a file without one is named after itself.
        objectives: Metric names; the first is the quality whose curve is drawn. Left out: the task's
            usual quality and the number of parameters.
        storage: URL of the database that `optimize` and `submit` keep it in; no part of the study itself.
        artifacts: Folder or s3://BUCKET/PREFIX for its large checkpoints; no part of the study itself.
        launch: Where its workers run and what they get there; no part of the study itself.
    """

    name: StudyName
    data: DataSpec
    objectives: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = Budget()
    search: SearchSpec = SearchSpec()
    space: Space
    storage: Annotated[str | None, Field(exclude=True, repr=False)] = None
    artifacts: Annotated[str | None, Field(exclude=True)] = None
    launch: Annotated[LaunchSpec | None, Field(exclude=True)] = None

    @field_validator("objectives", mode="before")
    @classmethod
    def _one_objective(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for position, name in enumerate(names):
            if name not in METRICS:
                raise PydanticCustomError(
                    "unknown_name", "is {given}", {"given": name, "allowed": list(METRICS), "at": position}
                )
            if name in names[:position]:
                raise PydanticCustomError("twice", "{name} stands here twice", {"name": name, "at": position})
        if names and METRICS[names[0]].is_cost:
            raise PydanticCustomError(
                "quality_first",
                "the first objective is {name}, a cost; name a quality first: {allowed}",
                {"name": names[0], "allowed": ", ".join(m.name for m in METRICS.values() if not m.is_cost), "at": 0},
            )
        return names

    @model_validator(mode="after")
    def _whole(self) -> Self:
        task = self.data.resolved_task
        if not self.objectives:
            object.__setattr__(self, "objectives", (DEFAULT_QUALITY[task], "parameters"))
        used = [(("objectives", at), name) for at, name in enumerate(self.objectives)]
        used += [(("constraints", at), constraint.metric) for at, constraint in enumerate(self.constraints)]
        for place, name in used:
            if task not in METRICS[name].tasks:
                allowed = [m.name for m in METRICS.values() if task in m.tasks]
                raise PydanticCustomError(
                    "wrong_task",
                    "{name} does not exist for {task}; allowed: {allowed}",
                    {"name": name, "task": task.value, "allowed": ", ".join(allowed), "at": place},
                )
        pruner = self.search.pruner
        if len(self.objectives) > 1 and pruner.name not in ("pareto", "none"):
            raise PydanticCustomError(
                "pruner_for_one",
                "is {name}, which knows one objective only; with {n} objectives: pareto or none",
                {"name": pruner.name, "n": len(self.objectives), "at": "search.pruner.name"},
            )
        if len(self.objectives) > 1 and self.search.sampler.name == "cmaes":
            raise PydanticCustomError(
                "sampler_for_one",
                "is cmaes, which knows one objective only; this study has {n}",
                {"n": len(self.objectives), "at": "search.sampler.name"},
            )
        if pruner.min_epochs > self.budget.epochs:
            raise PydanticCustomError(
                "first_rung",
                "is {first}, after the last epoch ({last}, budget.epochs)",
                {"first": pruner.min_epochs, "last": self.budget.epochs, "at": "search.pruner.min_epochs"},
            )
        return self

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The objectives as metrics."""
        return tuple(METRICS[name] for name in self.objectives)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Which way each objective gets better."""
        return tuple(metric.direction for metric in self.metrics)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which a trial is judged."""
        pruner = self.search.pruner
        return rung_epochs(pruner.min_epochs, self.budget.epochs, pruner.reduction_factor)

    def differences(self, other: StudySpec) -> tuple[tuple[str, object, object], ...]:
        """What differs from another study, budget of trials aside: (path, here, there)."""
        exclude: dict[str, set[str]] = {"budget": {"trials", "failures"}}
        here = dict(_flat(self.model_dump(mode="json", exclude=exclude)))
        there = dict(_flat(other.model_dump(mode="json", exclude=exclude)))
        paths = [*here, *(path for path in there if path not in here)]
        return tuple((p, here.get(p), there.get(p)) for p in paths if here.get(p) != there.get(p))


def _flat(value: object, path: str = "") -> list[tuple[str, object]]:
    """Leaves of nested mappings by their path; a list is a leaf."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _flat(item, f"{path}.{key}" if path else str(key))]
    return [(path.replace("space.domains.", "space."), value)]


def rung_epochs(min_epochs: int, max_epochs: int, reduction_factor: int) -> tuple[int, ...]:
    """The epochs after which a trial is judged against its peers.

    Grows by `reduction_factor` (eta in the paper) and always ends at `max_epochs`.

    >>> rung_epochs(min_epochs=3, max_epochs=100, reduction_factor=3)
    (3, 9, 27, 81, 100)

    Raises:
        ValueError: If min_epochs < 1 or reduction_factor < 2; the message holds the value.

    Source: Li et al. (2020), arXiv:1810.05934, algorithm 2.
    """
    if min_epochs < 1:
        raise ValueError(f"min_epochs is {min_epochs}; must be at least 1")
    if reduction_factor < 2:
        raise ValueError(f"reduction_factor is {reduction_factor}; must be at least 2")
    rungs = []
    epoch = min_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= reduction_factor
    return (*rungs, max_epochs)
