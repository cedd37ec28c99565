"""From a trained network to what it has learned."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import gaussian_kde
from torch import Tensor

from kansearch.data.splits import Split
from kansearch.errors import UserError
from kansearch.interpret.importance import LayerFlow, flows, ranked
from kansearch.interpret.symbolic import suggest
from kansearch.models.backbone import Backbone
from kansearch.models.convolution import Convolution
from kansearch.models.embedding import Embedding
from kansearch.models.layer import CurveLayer, Layer
from kansearch.models.network import Network
from kansearch.models.recurrent import Recurrent
from kansearch.models.tokens import Attention, Columns, MeanToken, Patches, TokenNorm, Words, is_of_tokens
from kansearch.specs.explanation import Explanation, LearnedEdge, LearnedLayer, Sparser
from kansearch.specs.trial import RungResult, TrialRecord, TrialSpec
from kansearch.training.metrics import quality
from kansearch.training.pack import Pack

ROWS = 1024
"""Training rows on which curves are looked at."""

N_POINTS = 61
N_SAMPLES = 160
"""Of a curve: points to draw, and samples of the data to fit formulas to."""

KEPT = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
"""Shares of the curves that are left, from all to few."""

PIECE_ROWS = 256
"""Rows that go through a network at once."""

FAINT = 1e-5
"""A curve that varies by so little of the strongest is rounding; inputs and targets have unit variance."""

SILENT = 1e-3


def train_again(spec: TrialSpec, split: Split, epochs: int) -> tuple[Network, RungResult]:
    """A trial's network after so many epochs, and its result: to the bit what it was, on the same kind of machine.

    Args:
        spec: Of the trial, with its seed.
        split: What it learned from.
        epochs: As many as it was trained.
    """
    pack = Pack(split, latency_at_rungs=False)
    rungs = tuple(sorted({*(rung for rung in spec.rungs if rung < epochs), epochs, spec.training.epochs}))
    slot = pack.admit(spec.model_copy(update={"rungs": rungs}))
    while True:
        for result in pack.advance():
            if result.epoch >= epochs or result.end is not None:
                return pack.network(slot), result


def explain(
    network: Network, split: Split, record: TrialRecord, *, study: str, architecture: str, quality_name: str,
    measured: dict[str, float], n_edges: int
) -> Explanation:  # fmt: skip
    """What a network has learned.

    Args:
        network: Trained.
        split: What it learned from.
        record: Of its trial.
        study: Name of the study.
        architecture: Of the network, for people.
        quality_name: Metric that judges it.
        measured: Its metrics, of today.
        n_edges: So many of the most important curves are shown.

    Raises:
        UserError: If the network has no learned curves.
    """
    x = split.to(next(network.parameters()).dtype).train_x[:ROWS]
    found, of_inputs = flows(network, x)
    of_tokens = is_of_tokens(found[0].layer)
    order = ranked(found)
    if not order:
        raise UserError(f"trial {record.number} is a plain network: it has no learned curves to explain")
    strongest = max(float(flow.deviations.max()) for flow in found if flow.deviations.numel())
    varying = [
        (index, target, source)
        for index, target, source in order
        if float(found[index].deviations[target, source]) > FAINT * strongest
    ]
    if strongest <= FAINT:
        raise UserError(f"trial {record.number} has learned a constant: none of its curves varies over the rows")
    return Explanation(
        study=study,
        trial=record.number,
        family=record.family or "kan",
        architecture=architecture,
        quality=quality_name,
        recorded=record.metrics,
        measured=measured,
        inputs=None if of_inputs is None else _inputs(split, of_inputs),
        layers=tuple(_layer(index, flow, of_tokens=of_tokens) for index, flow in enumerate(found)),
        edges=tuple(_edge(found[index], index, target, source) for index, target, source in varying[:n_edges]),
        sparser=tuple(_sparser(network, split, found, order)),
    )


def _inputs(split: Split, importance: Float[Tensor, " I"]) -> dict[str, float]:
    named = zip(split.feature_names, importance.tolist(), strict=True)
    return dict(sorted(named, key=lambda item: -item[1]))


def _layer(index: int, flow: LayerFlow, *, of_tokens: bool) -> LearnedLayer:
    strengths = flow.deviations
    n_silent = int((strengths < SILENT * strengths.max()).sum()) if strengths.numel() else 0
    return LearnedLayer(
        index=index, kind=_kind(flow.layer, of_tokens=of_tokens), n_curves=strengths.numel(), n_silent=n_silent
    )


def _kind(layer: Layer, *, of_tokens: bool) -> str:
    """A layer for people."""
    kind = "KAN" if isinstance(layer, CurveLayer) else "ordinary"
    match layer:
        case Backbone():
            return (
                f"backbone of {len(layer.fixed)} stages, {len(layer.tuned)} of them tuned, {layer.n_outputs} features"
            )
        case Embedding():
            return f"embedding of {layer.vocabulary - 2:,} words, {layer.n_outputs} numbers each"
        case Words():
            return f"tokens of {len(layer.vectors) - 2:,} words, {layer.target.channels} numbers each"
        case Patches():
            size = layer.window.size
            return f"tokens of {size}x{size} pixels, {layer.target.channels} numbers each"
        case Columns():
            return f"tokens of {layer.n_inputs} inputs, {layer.target.channels} numbers each"
        case TokenNorm():
            return "norm of each token"
        case Attention():
            return f"attention with {layer.n_heads} heads"
        case MeanToken():
            return "mean of the tokens"
        case Recurrent():
            return f"{kind} {layer.cell_name} cell, {layer.source.channels} numbers and {layer.n_outputs} of state"
        case Convolution() if of_tokens:
            return f"{kind} for each token, {layer.source.channels} to {layer.target.channels}"
        case Convolution():
            size = layer.window.size
            return f"{kind} convolution {size}x{size}, {layer.source.channels} to {layer.target.channels} channels"
        case _:
            return f"{kind}, {layer.n_inputs} to {layer.n_outputs}"


@torch.no_grad()
def _edge(flow: LayerFlow, index: int, target: int, source: int) -> LearnedEdge:
    layer = flow.layer
    assert isinstance(layer, CurveLayer)
    column = flow.seen[:, layer.curve_column(source, target)]
    low, high = (float(column.quantile(share)) for share in (0.01, 0.99))
    if low == high:  # nearly always the same value
        low, high = float(column.min()), float(column.max())
    points = torch.linspace(low, high, N_POINTS, dtype=column.dtype)
    samples = column.quantile(torch.linspace(0.01, 0.99, N_SAMPLES, dtype=column.dtype))
    formulas = suggest(*(t.double().numpy() for t in (samples, layer.curve(samples, source, target))))
    return LearnedEdge(
        layer=index,
        source=source if layer.one_curve_an_edge else None,
        target=target,
        deviation=float(flow.deviations[target, source]),
        importance=float(flow.importance[target, source]),
        x=_rounded(points),
        y=_rounded(layer.curve(points, source, target)),
        density=_rounded(_density(column, points)),
        formula=formulas[0] if formulas else None,
        others=formulas[1:3],
    )


def _density(column: Float[Tensor, " B"], points: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """How many rows lie around each point; the largest is 1."""
    if column.std() <= 1e-12 or len(column) < 3:
        return torch.ones_like(points)
    density = torch.from_numpy(gaussian_kde(column.double().numpy())(points.double().numpy()))
    return density / density.max()


def _sparser(
    network: Network, split: Split, found: list[LayerFlow], order: list[tuple[int, int, int]]
) -> list[Sparser]:
    """The network with fewer and fewer curves."""
    given = split.to(next(network.parameters()).dtype)
    steps = []
    for n_kept in sorted({max(1, round(share * len(order))) for share in KEPT}, reverse=True):
        sparse = deepcopy(network)
        dropped = [torch.ones_like(flow.importance, dtype=torch.bool) for flow in found]
        for index, target, source in order[:n_kept]:
            dropped[index][target, source] = False
        for layer, flow, curves in zip(sparse.layers, found, dropped, strict=True):
            if isinstance(layer, CurveLayer):
                layer.drop(curves, flow.means)
        metrics = quality(sparse.outputs(given.validation_x, PIECE_ROWS), given)
        steps.append(Sparser(n_curves=n_kept, metrics=metrics))
    return steps


def _rounded(values: Float[Tensor, " N"]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in np.nan_to_num(values.double().numpy()))
