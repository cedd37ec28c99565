"""What a network costs: parameters and FLOPs from its spec alone, latency from the network.

FLOPs are counted as kansearch.models.flops says: those of one forward pass of one input; each multiplication,
addition, comparison and evaluation of an elementary function counts 1; dropout and whatever depends on
parameters alone count 0. Of torchvision's backbones convolutions and matrix products alone are counted. Parameters of
a backbone that do not learn are parameters all the same.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import torch

from kansearch.models.bases import base_function
from kansearch.models.convolution import Convolution
from kansearch.models.embedding import Embedding
from kansearch.models.flops import Cost
from kansearch.models.forms import kan_layer_cost
from kansearch.models.layer import OrdinaryLayer
from kansearch.models.network import norm_cost
from kansearch.models.pretrained import NAMES
from kansearch.models.recurrent import Recurrent
from kansearch.models.saved import read_about
from kansearch.models.shapes import LayerShape, layer_shapes, pretrained_sizes, saved_shapes
from kansearch.models.tokens import Attention, Columns, MeanToken, Patches, TokenNorm, Words
from kansearch.specs.data import Inputs
from kansearch.specs.trial import ModelSpec

__all__ = ["Cost", "cost", "cost_of_learning", "latency_ms"]

LATENCY_PASSES = 11
LATENCY_SECONDS = 0.003
"""So many passes are measured, or as many as take so long; medians of 11 spread by 1.3 %, those of 30 by 1.2 %."""


def cost(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> Cost:
    """Parameters and FLOPs of the network that `build` would make, without building it."""
    # The file of a backbone may change.
    find = _cost.__wrapped__ if spec.stem == "backbone" else _cost
    return find(spec, inputs, n_outputs)


@lru_cache(maxsize=256)
def _cost(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> Cost:
    shapes = layer_shapes(spec, inputs, n_outputs)
    total = Cost(0, 0)
    for shape, times in Counter(shapes).items():  # many are alike
        of_layer = _layer_cost(spec, shape)
        total += Cost(times * of_layer.parameters, times * of_layer.flops)
        if shape.skip:
            total += Cost(0, times * shape.target.nodes)
    n_tokens = len(shapes) - spec.depth - 1 if shapes[0].role in ("words", "patches", "columns") else 0
    for index, (shape, next_shape) in enumerate(pairwise(shapes)):
        if spec.layer_norm and index >= n_tokens:
            total += norm_cost(shape.target)
        if shape.is_affine and next_shape.is_affine:
            total += Cost(0, shape.target.nodes * base_function(spec.activation).flops)
        if next_shape.source != shape.target:  # the mean of each map
            total += Cost(0, shape.target.nodes)
    return total


def cost_of_learning(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> Cost:
    """Of all that a training computes again and again: the cost without a backbone of which nothing learns."""
    whole = cost(spec, inputs, n_outputs)
    if spec.stem != "backbone" or spec.tuned_stages:
        return whole
    backbone = _backbone_cost(spec, layer_shapes(spec, inputs, n_outputs)[0])
    return Cost(whole.parameters - backbone.parameters, whole.flops - backbone.flops)


def _layer_cost(spec: ModelSpec, shape: LayerShape) -> Cost:
    source, target, words = shape.source, shape.target, shape.vocabulary or 0
    match shape.role:
        case "layer" | "feed_forward":
            of_layer = _family_cost(spec, shape.is_kan, shape.curve_sources, shape.curve_targets)
            return Convolution.cost(of_layer, target) if shape.window else of_layer
        case "recurrent":
            n_state, n_maps = target.nodes, shape.curve_targets
            of_token = _family_cost(spec, shape.is_kan, source.channels, n_maps)
            of_state = _family_cost(spec, shape.is_kan, n_state, n_maps)
            averaged = spec.pooling == "average"
            return Recurrent.cost(of_token, of_state, source, n_state, spec.cell, averaged=averaged)
        case "backbone":
            return _backbone_cost(spec, shape) + Cost(0, 5 * target.nodes + 2)  # the norm of its features
        case "embedding":
            return Embedding.cost(source.nodes, words, target.nodes)
        case "words":
            return Words.cost(source.nodes, words, target.channels, placed=spec.stem == "attention")
        case "patches":
            return Patches.cost(OrdinaryLayer.cost(shape.curve_sources, target.channels), target)
        case "columns":
            return Columns.cost(source.nodes, target.channels)
        case "norm":
            return TokenNorm.cost(target)
        case "attention":
            return Attention.cost(target, spec.heads)
        case "mean":
            return MeanToken.cost(source)


def _backbone_cost(spec: ModelSpec, shape: LayerShape) -> Cost:
    if spec.backbone in NAMES:
        return pretrained_sizes(spec, shape.source).cost
    about = read_about(spec.backbone)
    whole = cost(about.model, about.inputs, about.n_outputs)
    last = _layer_cost(about.model, saved_shapes(spec.backbone)[-1])
    return Cost(whole.parameters - last.parameters, whole.flops - last.flops)


def _family_cost(spec: ModelSpec, is_kan: bool, n_inputs: int, n_outputs: int) -> Cost:
    return kan_layer_cost(spec, n_inputs, n_outputs) if is_kan else OrdinaryLayer.cost(n_inputs, n_outputs)


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
