"""What a network costs: parameters and FLOPs from its spec alone, latency from the network.

FLOPs are counted as kansearch.models.flops says: those of one forward pass of one input; each multiplication,
addition, comparison and evaluation of an elementary function counts 1; dropout and whatever depends on
parameters alone count 0.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from itertools import pairwise

import torch

from kansearch.models.bases import base_function
from kansearch.models.convolution import Convolution
from kansearch.models.embedding import Embedding
from kansearch.models.flops import Cost
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KERNELS
from kansearch.models.layer import OrdinaryLayer
from kansearch.models.network import norm_cost
from kansearch.models.shapes import LayerShape, layer_shapes
from kansearch.specs.data import Inputs
from kansearch.specs.trial import ModelSpec

__all__ = ["Cost", "cost", "latency_ms"]

LATENCY_PASSES = 30
LATENCY_SECONDS = 0.003


def cost(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> Cost:
    """Parameters and FLOPs of the network that `build` would make, without building it."""
    shapes = layer_shapes(spec, inputs, n_outputs)
    total = Cost(0, 0)
    for shape, times in Counter(shapes).items():  # hidden layers are all alike
        of_layer = _layer_cost(spec, shape)
        of_layer = Convolution.cost(of_layer, shape.target) if shape.window else of_layer
        total += Cost(times * of_layer.parameters, times * of_layer.flops)
    for shape, next_shape in pairwise(shapes):
        if spec.layer_norm:
            total += norm_cost(shape.target)
        if shape.is_affine and next_shape.is_affine:
            total += Cost(0, shape.target.nodes * base_function(spec.activation).flops)
        if next_shape.source != shape.target:  # the mean of each map
            total += Cost(0, shape.target.nodes)
    return total


def _layer_cost(spec: ModelSpec, shape: LayerShape) -> Cost:
    sizes = (shape.curve_sources, shape.curve_targets)
    if shape.vocabulary is not None:
        return Embedding.cost(shape.source.nodes, shape.vocabulary, shape.target.nodes)
    if not shape.is_kan:
        return OrdinaryLayer.cost(*sizes)
    if spec.layer == "dictionary":
        return KANLayer.cost(*sizes, spec.base_function, spec.n_basis, spec.base_branch)
    return KERNELS[spec.layer].cost(*sizes, spec.base_function)


@torch.no_grad()
def latency_ms(network: torch.nn.Module, n_inputs: int) -> float:
    """Median milliseconds of a forward pass of a single row, as in prediction; takes a few milliseconds."""
    weight = next(network.parameters())
    row = torch.zeros(1, n_inputs, dtype=weight.dtype, device=weight.device)
    was_training = network.training
    network.eval()
    network(row)  # the first pass sets things up
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < LATENCY_PASSES and sum(seconds) < LATENCY_SECONDS):
        begin = time.perf_counter()
        network(row)
        if row.is_cuda:
            torch.cuda.synchronize(row.device)
        seconds.append(time.perf_counter() - begin)
    network.train(was_training)
    return 1000 * statistics.median(seconds)
