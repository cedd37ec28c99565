"""Where KAN layers stand beside ordinary ones."""

from __future__ import annotations

from kansearch.specs.trial import ModelSpec


def layer_plan(spec: ModelSpec) -> tuple[bool, ...]:
    """For each layer, first to last, convolutions included: is it a KAN layer?

    >>> layer_plan(ModelSpec(family="hybrid", depth=5, pattern="alternate"))
    (True, False, True, False, True)
    """
    n_stem = n_convolutions(spec)
    layers = range(n_stem + spec.depth)
    last = layers[-1]
    if spec.family != "hybrid":
        return tuple(spec.family == "kan" for _ in layers)
    match spec.pattern:
        case "first":
            return tuple(index == 0 for index in layers)
        case "last":
            return tuple(index == last for index in layers)
        case "alternate":
            return tuple(index % 2 == 0 for index in layers)
        case "middle":
            return tuple(0 < index < last for index in layers)
        case "stem":
            return tuple(index < n_stem for index in layers)
        case "head":
            return tuple(index >= n_stem for index in layers)


def n_convolutions(spec: ModelSpec) -> int:
    """Convolutions before the layers that `depth` counts."""
    return spec.convolutions if spec.stem == "convolution" else 0
