"""The search space: which hyperparameters are searched, over what, and when each one exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

from kansearch.specs.base import Spec
from kansearch.specs.trial import ModelSpec, Only, TrainingSpec

Scalar = bool | int | float | str
When = dict[str, tuple[Scalar, ...]]


class Fixed(Spec):
    """One value for every trial."""

    kind: Literal["fixed"] = "fixed"
    value: Scalar
    when: When = Field(default={})


class Range(Spec):
    """All numbers from low to high, both included.

    Attributes:
        integer: Whole numbers only.
        log: Drawn evenly on a logarithmic axis.
        step: Distance of neighbours from low on; None for any number (or every whole one).
        when: Exists only while these other hyperparameters have one of these values.
    """

    kind: Literal["range"] = "range"
    low: float
    high: float
    integer: bool = False
    log: bool = False
    step: float | None = None
    when: When = Field(default={})


class Choice(Spec):
    """One of some values."""

    kind: Literal["choice"] = "choice"
    choices: tuple[Scalar, ...]
    when: When = Field(default={})


Domain = Annotated[Fixed | Range | Choice, Field(discriminator="kind")]


class Hyperparameter:
    """A field of a trial's spec, as a study may search it.

    Attributes:
        name: Of the field.
        type: int, float, bool or str.
        default: Its value where the study says nothing.
        only: The conditions under which it means anything.
        allowed: Its values, where they are few; else ().
        known: Those of its values that have names, where there are others too; else ().
        others: What these others are.
    """

    def __init__(self, name: str, field: FieldInfo) -> None:
        self.name = name
        self.default: Scalar = field.default
        self.type: type = type(field.default)
        self.only = tuple(item for item in field.metadata if isinstance(item, Only))
        annotated: Any = Annotated[field.annotation, Field(), *field.metadata]
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotated, config=ConfigDict(strict=True, allow_inf_nan=False))
        self.schema = self._adapter.json_schema()
        self.allowed: tuple[Scalar, ...] = (True, False) if self.type is bool else tuple(self.schema.get("enum", ()))
        named, *rest = self.schema.get("anyOf", [{}])
        self.known: tuple[Scalar, ...] = tuple(named.get("enum", ()))
        self.others = str(rest[0].get("description", "")) if rest else ""

    def asks(self) -> list[str]:
        """Names of the hyperparameters on which it depends whether it means anything."""
        return [other.name for only in self.only for other in only.alternatives()]

    def validate(self, value: object) -> Scalar:
        """The value in the field's type.

        Raises:
            pydantic.ValidationError: If the field does not allow it.
        """
        validated: Scalar = self._adapter.validate_python(value)
        return validated


@cache
def hyperparameters() -> Mapping[str, Hyperparameter]:
    """All hyperparameters by name, architecture first."""
    fields: Iterable[tuple[str, FieldInfo]] = (
        *ModelSpec.model_fields.items(),
        # The budget of epochs belongs to the study, the number type to the machine.
        *((name, field) for name, field in TrainingSpec.model_fields.items() if name != "epochs"),
    )
    return {name: Hyperparameter(name, field) for name, field in fields}


class Space(Spec):
    """The domains of a study's hyperparameters; the others have their defaults."""

    domains: dict[str, Domain]

    def order(self) -> tuple[str, ...]:
        """Names in an order in which every condition is known before it is asked for.

        Raises:
            graphlib.CycleError: If conditions go round in a circle.
        """
        return _order(tuple((name, tuple(domain.when)) for name, domain in self.domains.items()))

    def searched(self) -> tuple[str, ...]:
        """Names of the hyperparameters that more than one value is tried of."""
        return tuple(
            name
            for name, domain in self.domains.items()
            if (isinstance(domain, Choice) and len(domain.choices) > 1)
            or (isinstance(domain, Range) and domain.low < domain.high)
        )

    def words(self, name: str) -> tuple[str, ...]:
        """What a hyperparameter that is a word may be; its default where the space does not say."""
        domain = self.domains.get(name)
        if isinstance(domain, Choice):
            return tuple(map(str, domain.choices))
        return (str(domain.value if isinstance(domain, Fixed) else hyperparameters()[name].default),)

    def families(self) -> tuple[str, ...]:
        """The families that the study draws from."""
        return self.words("family")

    def assign(self, draw: Callable[[str, Domain], Scalar]) -> dict[str, Scalar]:
        """Give every hyperparameter that exists a value, those of one value included.

        Args:
            draw: Called for each domain in turn, once the conditions of that domain hold.

        Returns:
            Values by name; a hyperparameter that means nothing beside the others is absent.
        """
        table = hyperparameters()
        given: dict[str, Scalar] = {}

        def means_something(name: str) -> bool:
            return all(holds(only) for only in table[name].only)

        def holds(condition: Only) -> bool:
            return any(
                means_something(only.name) and only.allows(given.get(only.name, table[only.name].default))
                for only in condition.alternatives()
            )

        for name in self.order():
            domain = self.domains[name]
            if means_something(name) and all(holds(Only(*when)) for when in domain.when.items()):
                given[name] = draw(name, domain)
        return given


@lru_cache(maxsize=64)
def _order(conditions: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, ...]:
    """The order of hyperparameters, given for each what its own conditions ask for."""
    table = hyperparameters()

    def waits(names: Iterable[str]) -> set[str]:
        meant = {name: table[name].asks() for name in names}
        return set(meant) | set().union(*(waits(others) for others in meant.values()))

    graph = {name: waits([*table[name].asks(), *asked]) for name, asked in conditions}
    # Neighbours sorted by their place in the file, so that the order is the same in every process.
    place = {name: position for position, name in enumerate(graph)}
    sorter = TopologicalSorter(
        {name: sorted(before & place.keys(), key=place.__getitem__) for name, before in graph.items()}
    )
    return tuple(sorter.static_order())
