"""Where KAN layers stand beside ordinary ones."""

from __future__ import annotations

from kansearch.specs.trial import ModelSpec


def layer_plan(spec: ModelSpec) -> tuple[bool, ...]:
    """For each layer, first to last: is it a KAN layer?

    >>> layer_plan(ModelSpec(family="hybrid", depth=5, pattern="alternate"))
    (True, False, True, False, True)
    """
    if spec.family != "hybrid":
        return (spec.family == "kan",) * spec.depth
    last = spec.depth - 1
    match spec.pattern:
        case "first":
            return tuple(index == 0 for index in range(spec.depth))
        case "last":
            return tuple(index == last for index in range(spec.depth))
        case "alternate":
            return tuple(index % 2 == 0 for index in range(spec.depth))
        case "middle":
            return tuple(0 < index < last for index in range(spec.depth))
