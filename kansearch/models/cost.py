"""What a network costs: parameters and FLOPs from its spec alone, latency from the network.

FLOPs are counted as kansearch.models.flops says: those of one forward pass of one input; each multiplication,
addition, comparison and evaluation of an elementary function counts 1; dropout and whatever depends on
parameters alone count 0.
"""

from __future__ import annotations

import statistics
import time
from itertools import pairwise

import torch

from kansearch.models.bases import base_function
from kansearch.models.build import row_widths
from kansearch.models.flops import Cost
from kansearch.models.hybrid import layer_plan
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KERNELS
from kansearch.models.layer import OrdinaryLayer
from kansearch.models.network import norm_cost
from kansearch.specs.trial import ModelSpec

__all__ = ["Cost", "cost", "latency_ms"]

LATENCY_PASSES = 30
LATENCY_SECONDS = 0.005


def cost(spec: ModelSpec, n_inputs: int, n_outputs: int) -> Cost:
    """Parameters and FLOPs of the network that `build` would make, without building it."""
    total = Cost(0, 0)
    plan = layer_plan(spec)
    for is_kan, (n_sources, n_targets) in zip(plan, pairwise(row_widths(spec, n_inputs, n_outputs)), strict=True):
        if not is_kan:
            total += OrdinaryLayer.cost(n_sources, n_targets)
        elif spec.layer == "dictionary":
            total += KANLayer.cost(n_sources, n_targets, spec.base_function, spec.n_basis, spec.base_branch)
        else:
            total += KERNELS[spec.layer].cost(n_sources, n_targets, spec.base_function)
    for is_kan, next_is_kan in pairwise(plan):
        if spec.layer_norm:
            total += norm_cost(spec.width)
        if not (is_kan or next_is_kan):
            total += Cost(0, spec.width * base_function(spec.activation).flops)
    return total


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
