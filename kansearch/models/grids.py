"""Grids that follow the data, and become finer: what each layer of a network computes stays, as well as it can.

Source: Liu et al. (2024), KAN, arXiv:2404.19756: grid extension of section 2.4, with all layers at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch.models.bases import FittedGrid
from kansearch.models.build import build
from kansearch.models.kan import KANLayer
from kansearch.models.network import Network
from kansearch.specs.data import Inputs
from kansearch.specs.trial import ModelSpec

MOST_ROWS = 4096
"""That a layer is looked at with: windows and tokens are many."""


def fit_grids(network: Network, x: Float[Tensor, "B _"], *, prepared: bool = False) -> None:
    """Let the grid of every layer cover what the layer sees, and keep its curves as well as the new grid can.

    Args:
        network: Changed in place.
        x: Training inputs, or what the `prepare` of a backbone made of them.
        prepared: Which of them.
    """
    layers = dict(_layers(network))
    for name, seen in _seen(network, x, prepared=prepared).items():
        layer = layers[name]
        if isinstance(layer.basis, FittedGrid):
            before = deepcopy(layer)
            layer.basis.fit(seen)
            layer.follow(before, seen)


def refined(
    network: Network,
    spec: ModelSpec,
    inputs: Inputs,
    n_outputs: int,
    x: Float[Tensor, "B _"],
    *,
    prepared: bool = False,
) -> Network:
    """A network with more functions on each grid that computes the same, as well as it can.

    Args:
        network: The coarser one.
        spec: Of the finer one, which differs in `n_basis` alone.
        inputs: Of both.
        n_outputs: Of both.
        x: Training inputs, or what the `prepare` of a backbone made of them.
        prepared: Which of them.

    Raises:
        DataError: If the network has a backbone, and its file cannot be read any more.
    """
    dtype = next(network.parameters()).dtype
    finer = build(spec, inputs, n_outputs, torch.Generator(), dtype)
    finer.generator = network.generator
    old = dict(network.named_parameters())
    with torch.no_grad():
        for name, parameter in finer.named_parameters():
            if parameter.shape == old[name].shape:
                parameter.copy_(old[name])
    coarse, fine = dict(_layers(network)), dict(_layers(finer))
    for name, seen in _seen(network, x, prepared=prepared).items():
        fine[name].follow(coarse[name], seen)
    return finer


def _layers(network: Network) -> Iterator[tuple[str, KANLayer]]:
    """All dictionary layers that learn, those of convolutions and cells included."""
    for index, layer in enumerate(network.layers):
        if layer is not network.backbone:
            for name, module in layer.named_modules(prefix=str(index)):
                if isinstance(module, KANLayer):
                    yield name, module


@torch.no_grad()
def _seen(network: Network, x: Float[Tensor, "B _"], *, prepared: bool) -> dict[str, Float[Tensor, "_ _"]]:
    """What each of them sees, evenly thinned out."""
    rows: defaultdict[str, list[Tensor]] = defaultdict(list)
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: rows[name].append(given[0].flatten(0, -2)))
        for name, layer in _layers(network)
    ]
    was_training = network.training
    network.eval()
    try:
        network.rows(x, prepared=prepared)
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    joined = {name: torch.cat(parts) for name, parts in rows.items()}
    return {name: seen[:: -(-len(seen) // MOST_ROWS)] for name, seen in joined.items()}
