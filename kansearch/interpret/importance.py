"""How much of a network's output goes through each of its curves and inputs.

Letters: B rows, T targets and S sources of a layer's edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch.models.backbone import Backbone
from kansearch.models.convolution import Convolution
from kansearch.models.embedding import Embedding
from kansearch.models.kernel import NodeCurves
from kansearch.models.layer import CurveLayer, Layer, OrdinaryLayer
from kansearch.models.network import Network
from kansearch.models.recurrent import CurveRecurrent, Recurrent
from kansearch.models.shapes import Maps
from kansearch.models.tokens import Attention, Columns, TokenNorm, Words, are_tokens

WINDOWS = 4096
"""Of a convolution that are looked at."""


@dataclass(frozen=True)
class LayerFlow:
    """What one layer does with what it sees.

    Attributes:
        layer: The layer.
        seen: What its curves see: column i for those of source i, or column j for node j's.
        means: Of each curve; empty where a layer has none.
        deviations: Of each curve, likewise.
        importance: Of each curve; of each edge in an ordinary layer; of each channel or node of other layers.
    """

    layer: Layer
    seen: Float[Tensor, "B _"]
    means: Float[Tensor, "T S"]
    deviations: Float[Tensor, "T S"]
    importance: Float[Tensor, "T S"]


@torch.no_grad()
def flows(network: Network, x: Float[Tensor, "B I"]) -> tuple[list[LayerFlow], Float[Tensor, " I"] | None]:
    """Importance of every curve, layer by layer, and of every input.

    That of inputs is None where windows, words or a backbone see many places.

    From the outputs, which count the same, back to the inputs: a node's importance is shared out among its edges by
    the standard deviations of what they add, and a node's is the sum of what leaves it. Of a block of attention part
    goes through its layers and part past them.

    Source: Liu et al. (2024), KAN 2.0, arXiv:2408.10205, section 4.1, but shares of the summed deviations, so that
    the importance of a layer's edges adds up to 1 where nothing goes past it.
    """
    layers = cast("list[Layer]", list(network.layers))
    rows = network.rows(x)
    of_nodes = torch.full((layers[-1].n_outputs,), 1 / layers[-1].n_outputs, dtype=x.dtype)
    found: list[LayerFlow] = []
    past: dict[int, Tensor] = {}
    for index, (layer, seen) in reversed(list(enumerate(zip(layers, rows, strict=True)))):
        maps = _maps_of(layer)
        if maps is not None:
            of_nodes = _by_channel(of_nodes, maps[1].channels)
        if index in network.skips:
            begin = network.skips[index]
            of_nodes, past[begin] = _parted(of_nodes, rows[begin], layer(seen))
        flow, of_sources = _flow(layer, seen, of_nodes)
        found.append(flow)
        of_nodes = _by_channel(of_sources, maps[0].channels) if maps else of_sources
        if index in past:
            of_nodes = of_nodes + past.pop(index)
    sees_many = isinstance(layers[0], Convolution | Embedding | Words | Backbone)
    return found[::-1], None if sees_many else of_nodes


def _maps_of(layer: Layer) -> tuple[Maps, Maps] | None:
    """What a layer sees and gives, if these are maps; importance is then that of their channels."""
    if isinstance(layer, Convolution):
        return layer.source, layer.target
    return (layer.target, layer.target) if isinstance(layer, TokenNorm | Attention) else None


def _parted(
    of_channels: Float[Tensor, " C"], tokens: Float[Tensor, "B CL"], added: Float[Tensor, "B CL"]
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """What goes through the layers of a block, and what past them: shares of the standard deviations."""
    n_channels = len(of_channels)
    there = are_tokens(tokens, n_channels).unsqueeze(-2)
    through, past = ((torch.unflatten(t, -1, (n_channels, -1)) * there).std((0, -1)) for t in (added, tokens))
    share = through / (through + past).clamp(min=torch.finfo(through.dtype).tiny)
    return of_channels * share, of_channels * (1 - share)


def _by_channel(of_nodes: Float[Tensor, " N"], channels: int) -> Float[Tensor, " C"]:
    """Added up over the places (or window places) of each channel."""
    return of_nodes.view(channels, -1).sum(-1)


def _flow(layer: Layer, x: Tensor, of_targets: Float[Tensor, " T"]) -> tuple[LayerFlow, Float[Tensor, " S"]]:
    nothing = x.new_zeros(0, 0)
    if isinstance(layer, Convolution):
        x = x[: max(1, WINDOWS // layer.target.places)]
    if isinstance(layer, Recurrent):
        # A cell reads its own state again and again: in the end all comes from the tokens, whose numbers count alike.
        x = x[: max(1, WINDOWS // layer.source.places)]
        of_tokens = (of_targets.sum() / layer.source.channels).expand(layer.source.channels)
        of_targets = (of_targets / layer.n_maps).repeat(layer.n_maps)
        if not isinstance(layer, CurveRecurrent):
            return LayerFlow(layer, x, nothing, nothing, of_targets.unsqueeze(-1)), of_tokens
        means, deviations = layer.curve_moments(x)
        importance = of_targets.unsqueeze(-1) * _shares(deviations)
        return LayerFlow(layer, layer.curve_inputs(x), means, deviations, importance), of_tokens
    if isinstance(layer, CurveLayer):
        means, deviations = layer.curve_moments(x)
        seen = layer.curve_inputs(x)
        if layer.one_curve_an_edge:
            importance = of_targets.unsqueeze(-1) * _shares(deviations)
            return LayerFlow(layer, seen, means, deviations, importance), importance.sum(0)
        of_edges = of_targets.unsqueeze(-1) * _shares(_weighted(layer, x))
        return LayerFlow(layer, seen, means, deviations, of_targets.unsqueeze(-1)), of_edges.sum(0)
    if isinstance(layer, OrdinaryLayer | Convolution):
        importance = of_targets.unsqueeze(-1) * _shares(_weighted(layer, x))
        return LayerFlow(layer, x, nothing, nothing, importance), importance.sum(0)
    flow = LayerFlow(layer, x, nothing, nothing, of_targets.unsqueeze(-1))
    if isinstance(layer, Attention):  # every channel hears of every other
        return flow, of_targets.mean().expand(len(of_targets))
    if isinstance(layer, Columns):
        strengths = (layer.scale.abs() * x.std(0, correction=0)).sum(0)
        return flow, of_targets.sum() * _shares(strengths.unsqueeze(0))[0]
    return flow, of_targets


def _weighted(layer: Layer, x: Tensor) -> Float[Tensor, "T S"]:
    """Deviations of what each edge of a matrix adds."""
    if isinstance(layer, Convolution):
        return torch.cat([_weighted(inner, seen) for inner, seen in layer.parts(x)])
    assert isinstance(layer, OrdinaryLayer | NodeCurves)
    weight = layer.weight if isinstance(layer, OrdinaryLayer) else layer.W
    return weight.abs() * x.std(0, correction=0)


def _shares(deviations: Float[Tensor, "T S"]) -> Float[Tensor, "T S"]:
    """Of each target's sum; the same for all sources of a target to which none adds anything."""
    totals = deviations.sum(-1, keepdim=True)
    return torch.where(totals > 0, deviations / totals, 1 / deviations.shape[-1])


def ranked(found: Sequence[LayerFlow]) -> list[tuple[int, int, int]]:
    """Layer, target and source of every curve, most important first."""
    places = [
        (-float(value), index, *divmod(place, flow.importance.shape[1]))
        for index, flow in enumerate(found)
        if flow.deviations.numel()
        for place, value in enumerate(flow.importance.flatten().tolist())
    ]
    return [(index, target, source) for _, index, target, source in sorted(places)]
