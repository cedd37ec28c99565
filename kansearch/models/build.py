"""ModelSpec to network."""

from __future__ import annotations

import math

import torch

from kansearch.errors import UserError
from kansearch.models.bases import base_function
from kansearch.models.convolution import Convolution, CurveConvolution
from kansearch.models.embedding import Embedding
from kansearch.models.hybrid import n_convolutions
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KERNELS
from kansearch.models.layer import CurveLayer, Layer, OrdinaryLayer
from kansearch.models.moments import normal_moments
from kansearch.models.network import Network
from kansearch.models.shapes import layer_shapes
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import EXPANSIONS, ModelSpec

__all__ = ["Network", "build", "why_unbuildable"]


def why_unbuildable(spec: ModelSpec, inputs: Inputs | None = None) -> str | None:
    """What is wrong with a network's spec and what is allowed; None where it can be built.

    Args:
        spec: Of the network.
        inputs: Its inputs; None where they are not known, and not looked at.
    """
    if inputs is not None and not isinstance(inputs, _NEEDED.get(spec.stem, int | ImageShape)):
        needed = {"convolution": "images", "embedding": "texts"}.get(spec.stem, "numbers")
        given, allowed = _given(inputs)
        return f"stem {spec.stem} needs {needed}, and these data are {given}; allowed: stem {allowed}"
    if spec.family == "hybrid":
        if spec.pattern in ("stem", "head") and spec.stem != "convolution":
            return f"a hybrid of pattern {spec.pattern} needs stem convolution; stem is {spec.stem}"
        fewest = max(1, (3 if spec.pattern == "middle" else 2) - n_convolutions(spec))
        if spec.depth < fewest:
            return f"a hybrid of pattern {spec.pattern} needs depth {fewest} or more to have both kinds of layers"
    if spec.family != "mlp" and spec.base_function in EXPANSIONS:
        if spec.layer != "dictionary":
            return f"base function {spec.base_function} needs layer dictionary; layer is {spec.layer}"
        if spec.base_function == "b_spline" and spec.n_basis < 2:
            return f"base function b_spline needs n_basis 2 or more: {spec.n_basis} is a constant"
    return None


_NEEDED: dict[str, type[ImageShape | TextShape]] = {"convolution": ImageShape, "embedding": TextShape}


def _given(inputs: Inputs) -> tuple[str, str]:
    """What data are, for people, and which stems they can have."""
    if isinstance(inputs, TextShape):
        return "texts", "embedding"
    if isinstance(inputs, ImageShape):
        return "images", "none or convolution"
    return f"rows of {inputs} numbers", "none"


def build(
    spec: ModelSpec,
    inputs: Inputs,
    n_outputs: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A network with fresh weights.

    Args:
        spec: Its architecture.
        inputs: Numbers with mean 0 and variance 1, for which the initialisation is made.
        n_outputs: Of the network.
        generator: Of the weights and, through a seed that it draws last, of the dropout masks; None is
            torch's global one.
        dtype: Of all parameters.

    Raises:
        UserError: If the spec cannot be built; `why_unbuildable` says why.
    """
    reason = why_unbuildable(spec, inputs)
    if reason is not None:
        raise UserError(f"this network cannot be built: {reason}")
    layers: list[Layer] = []
    was_affine = False
    for shape in layer_shapes(spec, inputs, n_outputs):
        sizes = (shape.curve_sources, shape.curve_targets)
        if shape.vocabulary is not None:
            layers.append(Embedding(shape.source.nodes, shape.vocabulary, shape.target.nodes, generator, dtype))
        elif shape.is_kan:
            curved = _kan_layer(spec, *sizes, generator, dtype)
            layers.append(CurveConvolution([curved], shape.source, shape.window) if shape.window else curved)
        else:
            gain = _gain(spec.activation) if was_affine else 1.0
            plain = OrdinaryLayer(*sizes, gain=gain, generator=generator, dtype=dtype)
            layers.append(Convolution([plain], shape.source, shape.window) if shape.window else plain)
        was_affine = shape.is_affine
    return Network(
        layers, activation=spec.activation, layer_norm=spec.layer_norm, dropout=spec.dropout, generator=generator
    )


def _kan_layer(
    spec: ModelSpec, n_inputs: int, n_outputs: int, generator: torch.Generator | None, dtype: torch.dtype
) -> CurveLayer:
    if spec.layer != "dictionary":
        return KERNELS[spec.layer](n_inputs, n_outputs, spec.base_function, generator=generator, dtype=dtype)
    return KANLayer(
        n_inputs,
        n_outputs,
        spec.base_function,
        n_basis=spec.n_basis,
        base_branch=spec.base_branch,
        grid_range=spec.grid_range,
        generator=generator,
        dtype=dtype,
    )


def _gain(activation: str) -> float:
    """1 / sqrt(mean square) of an activation of standard normal inputs.

    Source: He et al. (2015), arXiv:1502.01852, for any activation.
    """
    mean, variance = normal_moments(base_function(activation))
    return 1 / math.sqrt(mean.item() ** 2 + variance.item())
