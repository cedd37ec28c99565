"""A network: layers, what stands between them, and the curves that its KAN layers learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from kansearch.models.backbone import Backbone
from kansearch.models.bases import base_function
from kansearch.models.convolution import Convolution
from kansearch.models.flops import Cost
from kansearch.models.layer import CurveLayer, Layer, even_shares
from kansearch.models.shapes import Maps
from kansearch.models.tokens import Attention, are_tokens, is_of_tokens
from kansearch.specs.trial import Curve


class Network(nn.Module):
    """Layers in a row. After each but the last come, in this order: normalisation, activation, dropout.

    Layers of a stem stand first, without dropout between them and, if they pass tokens on, without this normalisation.
    Where the layer behind a convolution takes as many numbers as that one has channels, it gets the mean of each map.

    Args:
        layers: First to last.
        activation: Name of the base function that stands between two ordinary layers (and nowhere else).
        layer_norm: Normalise every hidden row.
        dropout: Share of the hidden nodes silenced while training; the others are scaled up to make up for it.
        skips: For some layers, from which tokens come: the layer whose inputs are added to what they give, where
            these are tokens (see kansearch.models.tokens).
        generator: Gives the seed of the dropout masks; None is torch's global one.

    Attributes:
        generator: Draws the dropout masks. Not part of `state_dict`.

    Shapes: *P nothing, or the networks of a stack; B batch, I inputs, O outputs of a layer or of the network.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        activation: str = "relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        skips: Mapping[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = base_function(activation)
        self.activated = tuple(a.is_affine and b.is_affine for a, b in pairwise(layers))
        self.n_stem = sum(layer.of_stem for layer in layers)
        n_normed = self.n_stem - 1 if is_of_tokens(layers[0]) else 0
        dtype = next((parameter.dtype for layer in layers for parameter in layer.parameters()), None)
        self.norms = nn.ModuleDict(
            {str(index): RowNorm(*_maps_of(layers[index]), dtype) for index in range(n_normed, len(layers) - 1)}
            if layer_norm
            else {}
        )
        self.dropout = dropout
        self.skips = dict(skips or {})
        # Drawn with dropout or without, so that whatever draws from `generator` next draws the same.
        seed = torch.randint(2**63 - 1, (), generator=generator).item()
        self.generator = torch.Generator().manual_seed(int(seed))

    def forward(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """Outputs: numbers, logits or whatever the loss makes of them."""
        return self.mix(self.prepare(x))

    def prepare(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B F"]:
        """What the first layer makes of inputs alone, whatever its parameters are."""
        prepared: Tensor = self._layers()[0].prepare(x)
        return prepared

    def mix(self, prepared: Float[Tensor, "*P B F"]) -> Float[Tensor, "*P B O"]:
        """Outputs, from what `prepare` gave."""
        return self._walk(prepared, lambda index, layer, x: layer.mix(x) if index == 0 else layer(x))

    @property
    def n_inputs(self) -> int:
        """I."""
        return self._layers()[0].n_inputs

    @property
    def n_outputs(self) -> int:
        """O."""
        return self._layers()[-1].n_outputs

    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "B _"], n_rows: int, *, prepared: bool = False) -> Float[Tensor, "B O"]:
        """Outputs without gradients, so many rows at a time.

        Args:
            x: Inputs, or what `prepare` gave.
            n_rows: So many.
            prepared: Which of them.
        """
        return torch.cat(
            [self.mix(part if prepared else self.prepare(part)) for part in torch.split(x, max(1, n_rows))]
        )

    @torch.no_grad()
    def rows(self, x: Float[Tensor, "*P B _"], *, prepared: bool = False) -> list[Float[Tensor, "*P B _"]]:
        """What each layer sees, first to last.

        Args:
            x: Inputs, or what the `prepare` of a backbone gave.
            prepared: Which of them.
        """
        rows: list[Tensor] = []

        def note(index: int, layer: Layer, seen: Tensor) -> Tensor:
            rows.append(seen)
            return _given(layer, seen, prepared=prepared and index == 0)

        self._walk(x, note)
        return rows

    def forward_with_amplitudes(
        self, x: Float[Tensor, "*P B I"]
    ) -> tuple[Float[Tensor, "*P B O"], list[Float[Tensor, "*P _ _"]]]:
        """The outputs and, for each KAN layer, the root mean square of its curves over the batch.

        Amplitudes of a layer are shaped as its outputs and inputs, or (its outputs, 1) in the node form.
        A curve is all that its edge adds to the output node (a base branch included), or the whole of a node's
        activation in the node form; constants (c) are no part of it. Its gradient at a curve of 0 is 0.
        """
        return self.mix_with_amplitudes(self.prepare(x), even_shares(x))

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B F"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B O"], list[Float[Tensor, "*P _ _"]]]:
        """The same, from what `prepare` gave, with a weight for each row in the mean."""
        amplitudes: list[Tensor] = []

        def mix(index: int, layer: Layer, x: Tensor) -> Tensor:
            of_inputs = x if index == 0 else layer.prepare(x)
            if not isinstance(layer, CurveLayer):
                return layer.mix(of_inputs)
            outputs, of_layer = layer.mix_with_amplitudes(of_inputs, shares)
            amplitudes.append(of_layer)
            return outputs

        return self._walk(prepared, mix), amplitudes

    def parts(self) -> list[Network]:
        """All layers but the last, each with what comes after it, in as many networks as skips allow.

        They share its parameters, and drop nothing.
        """
        layers, parts, begin = self._layers(), [], 0
        for end in range(1, len(layers)):
            if not any(first < end <= last for last, first in self.skips.items()):
                parts.append(self._part(begin, end))
                begin = end
        return parts

    def _part(self, begin: int, end: int) -> Network:
        layers = self._layers()
        inside = {last - begin: first - begin for last, first in self.skips.items() if begin <= first and last < end}
        part = Network([*layers[begin:end], _Next(layers[end])], skips=inside, generator=torch.Generator())
        part.activation = self.activation
        for index in range(begin, end):
            if str(index) in self.norms:
                part.norms[str(index - begin)] = self.norms[str(index)]
        return part

    def activation_groups(self) -> list[list[nn.Parameter]]:
        """The activation parameters of each KAN layer, first to last; a group may be empty."""
        return [layer.activation_parameters() for layer in self._layers() if isinstance(layer, CurveLayer)]

    @property
    def n_curve_layers(self) -> int:
        """KAN layers: as many groups."""
        return sum(isinstance(layer, CurveLayer) for layer in self._layers())

    @property
    def backbone(self) -> Backbone | None:
        """Its first layer, if that is one."""
        first = self._layers()[0]
        return first if isinstance(first, Backbone) else None

    def stage_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of each stage of a backbone that learns, first to last; none without a backbone."""
        return self.backbone.stage_parameters() if self.backbone else []

    def freeze_stages(self, n_stages: int) -> None:
        """Let so many stages of a backbone that learn one day, the first ones, be as they were trained."""
        if self.backbone is not None:
            self.backbone.n_frozen = n_stages

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The weight matrices, on which weight decay acts: no constants, norms, scales or shifts."""
        return [parameter for layer in self._layers() for parameter in layer.decayed_parameters()]

    @torch.no_grad()
    def curves(
        self, x: Float[Tensor, "B _"], per_layer: int = 6, n_points: int = 41, *, prepared: bool = False
    ) -> tuple[Curve, ...]:
        """The strongest curves of every KAN layer, strongest first; without those that are not finite.

        Args:
            x: Training inputs, or what the `prepare` of a backbone made of them.
            per_layer: How many of each layer at most.
            n_points: Of each curve; numbers are rounded to 5 significant digits.
            prepared: Which of them `x` is.
        """
        was_training = self.training
        self.eval()
        curves: list[Curve] = []

        def note(index: int, layer: Layer, seen: Tensor) -> Tensor:
            if not isinstance(layer, CurveLayer):
                return _given(layer, seen, prepared=prepared and index == 0)
            outputs, amplitudes = layer.forward_with_amplitudes(seen)
            curves.extend(_strongest_curves(index, layer, seen, amplitudes, per_layer, n_points))
            return outputs

        self._walk(x, note)
        self.train(was_training)
        return tuple(curves)

    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def _walk(self, x: Tensor, pass_on: Callable[[int, Layer, Tensor], Tensor]) -> Tensor:
        """Let a layer after the other make something of what it sees; returns what the last one gave."""
        kept: dict[int, Tensor] = {}
        for index, layer in enumerate(self._layers()):
            if index in self.skips.values():
                kept[index] = x
            x = pass_on(index, layer, x)
            if index in self.skips:
                x = _added(kept.pop(self.skips[index]), x, layer)
            x = self._after(index, x)
        return x

    def _after(self, index: int, x: Tensor) -> Tensor:
        """What becomes of a layer's output on its way to the next layer."""
        if index == len(self.layers) - 1:
            return x
        if str(index) in self.norms:
            x = self.norms[str(index)](x)
        if self.activated[index]:
            x = self.activation(x)
        if index + 1 < self.n_stem:
            return x
        layer, next_layer = self._layers()[index : index + 2]
        if isinstance(layer, Convolution) and next_layer.n_inputs < layer.n_outputs:
            x = torch.unflatten(x, -1, (layer.target.channels, layer.target.places)).mean(-1)
        return self._drop(index, x)

    def _drop(self, index: int, x: Tensor) -> Tensor:
        """Silence nodes of a hidden row behind the stem, while training."""
        del index  # a stack has masks for each row
        return x * self._mask(x) if self.dropout and self.training else x

    def _mask(self, x: Tensor) -> Tensor:
        if self.generator.device != x.device:
            self.generator = torch.Generator(x.device).manual_seed(self.generator.initial_seed())
        keep = 1 - self.dropout
        return torch.empty_like(x).bernoulli_(keep, generator=self.generator) / keep


def _given(layer: Layer, seen: Tensor, *, prepared: bool) -> Tensor:
    """What a layer gives, from its inputs or from what it prepared of them."""
    return layer.mix(seen) if prepared else cast("Tensor", layer(seen))


class _Next(Layer):
    """Stands where a part of a network ends, for the layer that came next."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.n_inputs, layer.n_inputs)
        self.is_affine = layer.is_affine
        self.of_stem = layer.of_stem  # type: ignore[misc]  # here it is the instance's

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B I"]:
        """The same."""
        return prepared

    def decayed_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []


class RowNorm(nn.Module):
    """Layer norm of a row of nodes, with weights and a bias for each channel.

    Args:
        n_channels: Each has parameters of its own, as in `torch.nn.LayerNorm`; in plain rows every node is a channel.
        n_places: Nodes of each channel.
        dtype: Of the parameters.

    Attributes:
        real: For a stack whose networks have different widths: which nodes they really have, (P, 1, W). The
            others are 0 and stay so.
    """

    EPS = 1e-5

    def __init__(self, n_channels: int, n_places: int, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.n_places = n_places
        self.weight = nn.Parameter(torch.ones(n_channels, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(n_channels, dtype=dtype))
        self.real: Tensor | None = None

    def forward(self, x: Float[Tensor, "*P B W"]) -> Float[Tensor, "*P B W"]:
        """Mean 0 and variance 1 in each row, then scaled and shifted."""
        weight, bias = (t.repeat_interleave(self.n_places, -1) for t in (self.weight, self.bias))
        if self.real is None:
            return functional.layer_norm(x, weight.shape, weight, bias, self.EPS)
        n_nodes = self.real.sum(-1, keepdim=True)
        centred = (x - x.sum(-1, keepdim=True) / n_nodes) * self.real
        variance = centred.square().sum(-1, keepdim=True) / n_nodes
        return centred * (variance + self.EPS).rsqrt() * weight.unsqueeze(-2) + bias.unsqueeze(-2)


def _added(tokens: Float[Tensor, "*P B EL"], x: Float[Tensor, "*P B EL"], layer: Layer) -> Float[Tensor, "*P B EL"]:
    """The sum; a token that is none stays so."""
    n_channels = cast("Attention | Convolution", layer).target.channels
    there = are_tokens(tokens, n_channels).unsqueeze(-2).to(x.dtype)
    return torch.addcmul(tokens, x, there.expand(*there.shape[:-2], n_channels, -1).flatten(-2))


def _maps_of(layer: Layer) -> tuple[int, int]:
    """Channels and places of what a layer gives."""
    return (layer.target.channels, layer.target.places) if isinstance(layer, Convolution) else (layer.n_outputs, 1)


def norm_cost(row: Maps) -> Cost:
    """A layer norm of w nodes: mean w, centring w, variance 2 w, its root 2, scaling w, and 2 w for what it learns."""
    return Cost(2 * row.channels, 7 * row.nodes + 2)


def _strongest_curves(
    index: int, layer: CurveLayer, x: Tensor, amplitudes: Tensor, n_curves: int, n_points: int
) -> Iterator[Curve]:
    strength = torch.where(amplitudes.isfinite(), amplitudes, -1).flatten()
    order = strength.sort(descending=True, stable=True).indices[:n_curves]
    ends = [divmod(place, amplitudes.shape[1]) for place in order.tolist()]
    columns = layer.curve_inputs(x)[:, [layer.curve_column(source, target) for target, source in ends]]
    ranges = torch.quantile(columns, torch.tensor([0.01, 0.99], dtype=x.dtype, device=x.device), dim=0)
    of_ends = amplitudes.flatten()[order].tolist()
    for (target, source), amplitude, low, high in zip(ends, of_ends, *ranges.tolist(), strict=True):
        points = torch.linspace(low, high, n_points, dtype=x.dtype, device=x.device)
        places, values = points.tolist(), layer.curve(points, source, target).tolist()
        if all(map(math.isfinite, (amplitude, *places, *values))):
            yield Curve(
                layer=index,
                source=source if layer.one_curve_an_edge else None,
                target=target,
                amplitude=_rounded(amplitude),
                x=tuple(map(_rounded, places)),
                y=tuple(map(_rounded, values)),
            )


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
