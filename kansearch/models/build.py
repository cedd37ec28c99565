"""ModelSpec to network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch

from kansearch.errors import DataError, UserError
from kansearch.models.backbone import Backbone
from kansearch.models.bases import base_function
from kansearch.models.convolution import Convolution, CurveConvolution
from kansearch.models.embedding import Embedding
from kansearch.models.forms import kan_layer
from kansearch.models.hybrid import n_stem_layers
from kansearch.models.layer import CurveLayer, Layer, OrdinaryLayer
from kansearch.models.moments import normal_moments
from kansearch.models.network import Network
from kansearch.models.pretrained import NAMES, SMALLEST, pretrained_stages
from kansearch.models.recurrent import CurveRecurrent, Recurrent
from kansearch.models.saved import SavedNetwork, read_about, read_tensors
from kansearch.models.shapes import LayerShape, Maps, layer_shapes, pretrained_sizes, saved_shapes
from kansearch.models.tokens import Attention, Columns, MeanToken, Patches, TokenNorm, Words
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import EXPANSIONS, ModelSpec

__all__ = ["Network", "build", "why_unbuildable"]


def why_unbuildable(spec: ModelSpec, inputs: Inputs | None = None) -> str | None:
    """What is wrong with a network's spec and what is allowed; None where it can be built.

    Args:
        spec: Of the network.
        inputs: Its inputs; None where they are not known, and not looked at.
    """
    if inputs is not None and not isinstance(inputs, _NEEDED[spec.stem][0]):
        needed = _NEEDED[spec.stem][1]
        given, allowed = _given(inputs)
        return f"stem {spec.stem} needs {needed}, and these data are {given}; allowed: stem {allowed}"
    if spec.stem == "backbone":
        reason = _why_no_backbone(spec, inputs)
        if reason is not None:
            return reason
    if spec.stem == "attention":
        if spec.embedding % spec.heads:
            return f"heads must divide embedding, and {spec.heads} does not divide {spec.embedding}"
        if isinstance(inputs, ImageShape) and (inputs.height % spec.patch_size or inputs.width % spec.patch_size):
            extent = f"{inputs.height} x {inputs.width}"
            return f"patch_size must divide height and width, and {spec.patch_size} does not divide {extent}"
    if spec.family == "hybrid":
        if spec.pattern in ("stem", "head") and not n_stem_layers(spec):
            allowed = "convolution, recurrent or attention"
            return f"a hybrid of pattern {spec.pattern} needs stem {allowed}; stem is {spec.stem}"
        fewest = max(1, (3 if spec.pattern == "middle" else 2) - n_stem_layers(spec))
        if spec.depth < fewest:
            return f"a hybrid of pattern {spec.pattern} needs depth {fewest} or more to have both kinds of layers"
    if spec.family != "mlp" and spec.base_function in EXPANSIONS:
        if spec.layer != "dictionary":
            return f"base function {spec.base_function} needs layer dictionary; layer is {spec.layer}"
        if spec.base_function == "b_spline" and spec.n_basis < 2:
            return f"base function b_spline needs n_basis 2 or more: {spec.n_basis} is a constant"
    if spec.family != "mlp" and spec.layer == "scaled" and spec.base_function != "relu" and spec.n_basis < 2:
        return f"layer scaled needs n_basis 2 or more to interpolate between: it is {spec.n_basis}"
    return None


_NEEDED: dict[str, tuple[tuple[type, ...], str]] = {
    "none": ((int, ImageShape), "numbers"),
    "convolution": ((ImageShape,), "images"),
    "embedding": ((TextShape,), "texts"),
    "recurrent": ((TextShape,), "texts"),
    "attention": ((int, ImageShape, TextShape), "data"),
    "backbone": ((int, ImageShape, TextShape), "data"),
}


def _why_no_backbone(spec: ModelSpec, inputs: Inputs | None) -> str | None:
    backbone = spec.backbone
    if backbone in NAMES:
        if inputs is None:
            return None
        if isinstance(inputs, ImageShape) and inputs.channels in (1, 3):
            smallest, side = SMALLEST.get(backbone, 1), min(inputs.height, inputs.width)
            if spec.enlarge * side >= smallest:
                return None
            enough = -(-smallest // side)
            return (
                f"backbone {backbone} needs images of {smallest} x {smallest} or more, and these are {inputs.height} x "
                f"{inputs.width}, enlarged {spec.enlarge} times; allowed: enlarge {enough} or more"
            )
        return f"backbone {backbone} needs images, grey or in colour, and these data are {_given(inputs)[0]}"
    about = read_about(backbone)
    reason = why_unbuildable(about.model, about.inputs)
    if reason is not None:
        return f"the network in {backbone} cannot be built: {reason}"
    if len(saved_shapes(backbone)) == 1:
        return f"the network in {backbone} has one layer, and a backbone is all layers but the last"
    if inputs is None or about.inputs == inputs:
        return None
    return f"the network in {backbone} was trained on {_in_words(about.inputs)}, and these data are {_in_words(inputs)}"


def _in_words(inputs: Inputs) -> str:
    if isinstance(inputs, ImageShape):
        return f"images of {inputs.height} x {inputs.width} in {inputs.channels} channel{'s' * (inputs.channels > 1)}"
    if isinstance(inputs, TextShape):
        return f"texts of up to {inputs.length} words out of {inputs.vocabulary - 2:,}"
    return _given(inputs)[0]


def _given(inputs: Inputs) -> tuple[str, str]:
    """What data are, for people, and which stems they can have."""
    *others, last = [stem for stem, (kinds, _) in _NEEDED.items() if isinstance(inputs, kinds)]
    allowed = f"{', '.join(others)} or {last}"
    if isinstance(inputs, TextShape):
        return "texts", allowed
    return "images" if isinstance(inputs, ImageShape) else f"rows of {inputs} numbers", allowed


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
    shapes = layer_shapes(spec, inputs, n_outputs)
    make = _Maker(spec, generator, dtype)
    behind_affine = (False, *(shape.is_affine for shape in shapes[:-1]))
    gains = [_gain(spec.activation) if behind else 1.0 for behind in behind_affine]
    return Network(
        [make.layer(shape, gain) for shape, gain in zip(shapes, gains, strict=True)],
        activation=spec.activation,
        layer_norm=spec.layer_norm,
        dropout=spec.dropout,
        skips={index: index - shape.skip for index, shape in enumerate(shapes) if shape.skip},
        generator=generator,
    )


def saved_network(path: str) -> tuple[Network, SavedNetwork]:
    """The network in a file, and what stands beside it.

    Raises:
        DataError: If the file is broken, or its weights are of another network.
    """
    about, tensors = read_about(path), read_tensors(path)
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    network = build(about.model, about.inputs, about.n_outputs, torch.Generator(), dtype)
    # With the versions that torch keeps beside the names: without them batch norms miss counters.
    state = network.state_dict()
    metadata = getattr(state, "_metadata", None)
    state.clear()
    state.update(tensors)
    state._metadata = metadata  # type: ignore[attr-defined]  # noqa: SLF001 - torch's own way to pass it on
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"{path} holds weights of another network than it says: {reason}") from None
    return network, about


@dataclass(frozen=True)
class _Maker:
    """Makes the layers of a network, first to last."""

    spec: ModelSpec
    generator: torch.Generator | None
    dtype: torch.dtype

    def layer(self, shape: LayerShape, gain: float) -> Layer:
        """A layer of that shape; `gain` is that of an ordinary one."""
        spec = self.spec
        common: dict[str, Any] = {"generator": self.generator, "dtype": self.dtype}
        source, target, words = shape.source, shape.target, shape.vocabulary
        match shape.role:
            case "layer" | "feed_forward":
                inner = self._of_family(shape.is_kan, shape.curve_sources, shape.curve_targets, gain)
                if shape.window is None:
                    return inner
                if shape.is_kan:
                    return CurveConvolution([cast("CurveLayer", inner)], source, shape.window)
                return Convolution([inner], source, shape.window)
            case "recurrent":
                of_token, of_state = (
                    self._of_family(shape.is_kan, n, shape.curve_targets) for n in (source.channels, target.nodes)
                )
                how: dict[str, Any] = {"cell": spec.cell, "averaged": spec.pooling == "average"}
                if not shape.is_kan:
                    return Recurrent(of_token, of_state, source, **how)
                return CurveRecurrent(cast("CurveLayer", of_token), cast("CurveLayer", of_state), source, **how)
            case "backbone":
                return self._backbone(source)
            case "embedding":
                assert words
                return Embedding(source.nodes, words, target.nodes, **common)
            case "words":
                assert words
                placed = spec.stem == "attention"
                return Words(source.nodes, words, target.channels, placed=placed, **common)
            case "patches":
                return Patches(OrdinaryLayer(shape.curve_sources, target.channels, **common), source, spec.patch_size)
            case "columns":
                return Columns(source.nodes, target.channels, **common)
            case "norm":
                return TokenNorm(target, self.dtype)
            case "attention":
                damping = 1 / math.sqrt(2 * spec.blocks)
                return Attention(target, spec.heads, damping=damping, **common)
            case "mean":
                return MeanToken(source)

    def _backbone(self, source: Maps) -> Backbone:
        spec = self.spec
        if spec.backbone in NAMES:
            seen = pretrained_sizes(spec, source).seen
            return Backbone(pretrained_stages(spec.backbone), source, seen, spec.tuned_stages, self.dtype)
        parts = saved_network(spec.backbone)[0].parts()
        widths = [*(part.n_inputs for part in parts), parts[-1].n_outputs]
        return Backbone(parts, source, [(width,) for width in widths], spec.tuned_stages, self.dtype)

    def _of_family(self, is_kan: bool, n_inputs: int, n_outputs: int, gain: float = 1.0) -> Layer:
        if is_kan:
            return kan_layer(self.spec, n_inputs, n_outputs, self.generator, self.dtype)
        return OrdinaryLayer(n_inputs, n_outputs, gain=gain, generator=self.generator, dtype=self.dtype)


@cache
def _gain(activation: str) -> float:
    """1 / sqrt(mean square) of an activation of standard normal inputs.

    Source: He et al. (2015), arXiv:1502.01852, for any activation.
    """
    mean, variance = normal_moments(base_function(activation))
    return 1 / math.sqrt(mean.item() ** 2 + variance.item())
