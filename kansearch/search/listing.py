"""All networks of a space that holds few of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from kansearch.specs.space import Domain, Fixed, Range, Scalar, Space

Params = dict[str, Scalar]

MOST = 10_000
"""Networks of a space that is listed; that takes a second."""


def is_finite(space: Space) -> bool:
    """Whether a space has finitely many networks; those of a range of floats never repeat."""
    return not any(
        isinstance(domain, Range) and not domain.integer and domain.step is None and domain.low < domain.high
        for domain in space.domains.values()
    )


def listed(space: Space) -> list[Params] | None:
    """What can be drawn from a space, the hyperparameters of one value left out; None where it is more than MOST."""
    if not is_finite(space):
        return None
    found = list(islice(_every(space), MOST + 1))
    return None if len(found) > MOST else found


def _every(space: Space) -> Iterator[Params]:
    """Draw again and again, each time with the last choice that has another value moved on."""
    path: list[int] = []
    while True:
        params, sizes = _follow(space, path)
        yield params
        path += [0] * (len(sizes) - len(path))
        while path and path[-1] + 1 == sizes[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def _follow(space: Space, path: Sequence[int]) -> tuple[Params, list[int]]:
    """What is drawn when each choice in turn takes the value of that place, and the first one beyond the path.

    Returns:
        The hyperparameters, and how many values each choice had.
    """
    params: Params = {}
    sizes: list[int] = []

    def draw(name: str, domain: Domain) -> Scalar:
        if isinstance(domain, Fixed):
            return domain.value
        values = _values(domain)
        params[name] = values[path[len(sizes)] if len(sizes) < len(path) else 0]
        sizes.append(len(values))
        return params[name]

    space.assign(draw)
    return params, sizes


def _values(domain: Domain) -> tuple[Scalar, ...] | range:
    """The values of a domain that has finitely many."""
    if not isinstance(domain, Range):
        assert not isinstance(domain, Fixed)
        return domain.choices
    if domain.integer:
        return range(int(domain.low), int(domain.high) + 1, int(domain.step or 1))
    if domain.step is None:
        return (domain.low,)
    # As Optuna rounds what it draws.
    n_steps = int((domain.high - domain.low) / domain.step + 1e-9)
    return tuple(domain.low + place * domain.step for place in range(n_steps + 1))
