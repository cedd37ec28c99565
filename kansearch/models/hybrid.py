"""Where KAN layers stand beside ordinary ones."""

from __future__ import annotations

from kansearch.specs.trial import ModelSpec


def layer_plan(spec: ModelSpec) -> tuple[bool, ...]:
    """For each layer of the family, first to last, those of the stem included: is it a KAN layer?

    >>> layer_plan(ModelSpec(family="hybrid", depth=5, pattern="alternate"))
    (True, False, True, False, True)
    """
    n_stem = n_stem_layers(spec)
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


def n_stem_layers(spec: ModelSpec) -> int:
    """Layers of the family before those that `depth` counts: convolutions, a cell, or feed-forward layers."""
    return {"convolution": spec.convolutions, "recurrent": 1, "attention": 2 * spec.blocks}.get(spec.stem, 0)
