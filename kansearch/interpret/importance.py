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

from kansearch.models.convolution import Convolution
from kansearch.models.embedding import Embedding
from kansearch.models.kernel import NodeLayer
from kansearch.models.layer import CurveLayer, Layer, OrdinaryLayer
from kansearch.models.network import Network

WINDOWS = 4096
"""Of a convolution that are looked at."""


@dataclass(frozen=True)
class LayerFlow:
    """What one layer does with what it sees.

    Attributes:
        layer: The layer.
        seen: What its curves see: column i for those of source i, or column j for node j's.
        means: Of each curve; empty in an ordinary layer.
        deviations: Of each curve, likewise.
        importance: Of each curve; of each edge in an ordinary layer.
    """

    layer: Layer
    seen: Float[Tensor, "B _"]
    means: Float[Tensor, "T S"]
    deviations: Float[Tensor, "T S"]
    importance: Float[Tensor, "T S"]


@torch.no_grad()
def flows(network: Network, x: Float[Tensor, "B I"]) -> tuple[list[LayerFlow], Float[Tensor, " I"] | None]:
    """Importance of every curve, layer by layer, and of every input; None where windows see many places.

    From the outputs, which count the same, back to the inputs: a node's importance is shared out among its edges by
    the standard deviations of what they add, and a node's is the sum of what leaves it.

    Source: Liu et al. (2024), KAN 2.0, arXiv:2408.10205, section 4.1, but shares of the summed deviations, so that
    the importance of a layer's edges adds up to 1.
    """
    layers = cast("list[Layer]", list(network.layers))
    rows = network.rows(x)
    of_nodes = torch.full((layers[-1].n_outputs,), 1 / layers[-1].n_outputs, dtype=x.dtype)
    found: list[LayerFlow] = []
    for layer, seen in zip(reversed(layers), reversed(rows), strict=True):
        convolution = layer if isinstance(layer, Convolution) else None
        if isinstance(layer, Embedding):
            nothing = x.new_zeros(0, 0)
            found.append(LayerFlow(layer, seen, nothing, nothing, of_nodes.unsqueeze(-1)))
            break
        if convolution is not None:
            of_nodes = _by_channel(of_nodes, convolution.target.channels)
        flow, of_sources = _flow(layer, seen, of_nodes)
        found.append(flow)
        of_nodes = _by_channel(of_sources, convolution.source.channels) if convolution else of_sources
    return found[::-1], None if isinstance(layers[0], Convolution | Embedding) else of_nodes


def _by_channel(of_nodes: Float[Tensor, " N"], channels: int) -> Float[Tensor, " C"]:
    """Added up over the places (or window places) of each channel."""
    return of_nodes.view(channels, -1).sum(-1)


def _flow(layer: Layer, x: Tensor, of_targets: Float[Tensor, " T"]) -> tuple[LayerFlow, Float[Tensor, " S"]]:
    if isinstance(layer, Convolution):
        x = x[: max(1, WINDOWS // layer.target.places)]
    if isinstance(layer, CurveLayer):
        means, deviations = layer.curve_moments(x)
        seen = layer.curve_inputs(x)
        if layer.one_curve_an_edge:
            importance = of_targets.unsqueeze(-1) * _shares(deviations)
            return LayerFlow(layer, seen, means, deviations, importance), importance.sum(0)
        of_edges = of_targets.unsqueeze(-1) * _shares(_weighted(layer, x))
        return LayerFlow(layer, seen, means, deviations, of_targets.unsqueeze(-1)), of_edges.sum(0)
    importance = of_targets.unsqueeze(-1) * _shares(_weighted(layer, x))
    nothing = x.new_zeros(0, 0)
    return LayerFlow(layer, x, nothing, nothing, importance), importance.sum(0)


def _weighted(layer: Layer, x: Tensor) -> Float[Tensor, "T S"]:
    """Deviations of what each edge of a matrix adds."""
    if isinstance(layer, Convolution):
        return torch.cat([_weighted(inner, seen) for inner, seen in layer.parts(x)])
    assert isinstance(layer, OrdinaryLayer | NodeLayer)
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
