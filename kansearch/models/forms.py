"""The forms of KAN layers, and what of a network's spec each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kansearch.models.flops import Cost
from kansearch.models.kaf import KAFLayer
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KERNELS
from kansearch.models.layer import CurveLayer
from kansearch.models.scaled import ScaledLayer
from kansearch.specs.trial import ModelSpec


@dataclass(frozen=True)
class Form:
    """A class of layers that takes a base function and some options.

    Attributes:
        layer: The class; called with its sizes, a base function and these options.
        options: Fields of a spec that it takes under the same names.
        counted: Those of them on which its cost depends, in the order of `layer.cost`.
    """

    layer: Any
    options: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


FORMS = {
    "dictionary": Form(
        KANLayer,
        ("n_basis", "base_branch", "grid_range", "initialisation", "grid"),
        counted=("n_basis", "base_branch", "grid"),
    ),
    "scaled": Form(ScaledLayer, ("n_basis",), counted=("n_basis",)),
    "kaf": Form(KAFLayer, ("n_basis", "grid_range"), counted=("n_basis",)),
    **{name: Form(layer) for name, layer in KERNELS.items()},
}
"""By the names of `ModelSpec.layer`."""


def kan_layer(
    spec: ModelSpec, n_inputs: int, n_outputs: int, generator: torch.Generator | None, dtype: torch.dtype
) -> CurveLayer:
    """A KAN layer of a network."""
    form = FORMS[spec.layer]
    options = {name: getattr(spec, name) for name in form.options}
    layer: CurveLayer = form.layer(n_inputs, n_outputs, spec.base_function, **options, generator=generator, dtype=dtype)
    return layer


def kan_layer_cost(spec: ModelSpec, n_inputs: int, n_outputs: int) -> Cost:
    """What it costs, without building it."""
    form = FORMS[spec.layer]
    cost: Cost = form.layer.cost(
        n_inputs, n_outputs, spec.base_function, *(getattr(spec, name) for name in form.counted)
    )
    return cost
