"""How large every layer of a network is, from its spec and the shape of its inputs.

Rows of nodes are flat everywhere. Where they are maps (behind images and convolutions) they are ordered channel by
channel, then row by row of the image. Tokens are maps too: each number of theirs is a channel, each token a place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from kansearch.models import pretrained
from kansearch.models.hybrid import layer_plan
from kansearch.models.saved import read_about
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import ModelSpec


@dataclass(frozen=True)
class Maps:
    """A row of nodes: maps of some channels; plain rows have as many channels as nodes, of one place each."""

    channels: int
    height: int = 1
    width: int = 1

    @property
    def places(self) -> int:
        """Of one map."""
        return self.height * self.width

    @property
    def nodes(self) -> int:
        """Of the row."""
        return self.channels * self.places


@dataclass(frozen=True)
class Window:
    """What slides over the maps: a square as wide as `size`, `stride` places at a time, with zeros beyond the edges."""

    size: int
    stride: int = 1
    padding: int = 0

    def places(self, extent: int) -> int:
        """How many of its places fit into a height or width.

        >>> Window(3, stride=2, padding=1).places(28)
        14
        """
        return (extent + 2 * self.padding - self.size) // self.stride + 1


Role = Literal[
    "layer", "backbone", "embedding", "words", "patches", "columns", "norm", "attention", "feed_forward", "mean",
    "recurrent",
]  # fmt: skip

CELL_MAPS = {"rnn": 1, "gru": 3, "lstm": 4}
"""Numbers that a recurrent cell computes for each of its state."""


@dataclass(frozen=True)
class LayerShape:
    """One layer of a network.

    Attributes:
        is_kan: Whether it is a KAN layer, or made of such.
        source: What it sees.
        target: What it gives.
        window: Of a convolution; None where every node sees all.
        role: What it is; layers, feed-forward layers and recurrent cells are KAN layers or ordinary ones.
        vocabulary: Of a layer that sees words; else None.
        maps: Of a recurrent cell; else 1.
        skip: What the layer so many before it sees is added to what it gives; 0 is nothing.
    """

    is_kan: bool
    source: Maps
    target: Maps
    window: Window | None = None
    role: Role = "layer"
    vocabulary: int | None = None
    maps: int = 1
    skip: int = 0

    @property
    def is_affine(self) -> bool:
        """Whether nothing of it bends: between two such layers stands an activation."""
        return self.role in ("layer", "feed_forward") and not self.is_kan

    @property
    def curve_sources(self) -> int:
        """Inputs of the curves of one output: nodes of the source, or of what a window (or a cell) shows of it."""
        if self.role == "recurrent":
            return self.source.channels + self.target.nodes
        return self.source.channels * self.window.size**2 if self.window else self.source.nodes

    @property
    def curve_targets(self) -> int:
        """Outputs that have curves of their own."""
        return self.target.channels if self.window else self.maps * self.target.nodes


def layer_shapes(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> tuple[LayerShape, ...]:
    """The layers of a network, first to last."""
    # The file of a backbone may change.
    find = _layer_shapes.__wrapped__ if spec.stem == "backbone" else _layer_shapes
    return find(spec, inputs, n_outputs)


@lru_cache(maxsize=1024)
def _layer_shapes(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> tuple[LayerShape, ...]:
    plan = iter(layer_plan(spec))
    stem = tuple(_STEMS[spec.stem](spec, inputs, plan))
    seen = stem[-1].target if stem else Maps(n_numbers(inputs))
    if stem and spec.stem == "convolution" and spec.pooling == "average":
        seen = Maps(seen.channels)
    rows = [seen, *[Maps(spec.width)] * (spec.depth - 1), Maps(n_outputs)]
    return (*stem, *(LayerShape(next(plan), source, target) for source, target in pairwise(rows)))


def _convolutions(spec: ModelSpec, inputs: Inputs, plan: Iterator[bool]) -> Iterator[LayerShape]:
    """The first has `channels` channels and the spec's stride; each further one halves the maps and has twice as many.

    So many of the plan as there are.
    """
    seen = _maps_of(inputs)
    for index in range(spec.convolutions):
        window = Window(spec.kernel_size, spec.stride if index == 0 else 2, spec.kernel_size // 2)
        target = Maps(spec.channels << index, window.places(seen.height), window.places(seen.width))
        yield LayerShape(next(plan), seen, target, window)
        seen = target


def _backbone(spec: ModelSpec, inputs: Inputs, _: Iterator[bool]) -> Iterator[LayerShape]:
    source = _maps_of(inputs)
    if spec.backbone in pretrained.NAMES:
        target = Maps(pretrained_sizes(spec, source).n_features)
    else:
        target = Maps(saved_shapes(spec.backbone)[-1].source.nodes)
    yield LayerShape(False, source, target, role="backbone")


def saved_shapes(path: str) -> tuple[LayerShape, ...]:
    """The layers of a network in a file.

    Raises:
        DataError: If the file holds none.
    """
    about = read_about(path)
    return layer_shapes(about.model, about.inputs, about.n_outputs)


def pretrained_sizes(spec: ModelSpec, source: Maps) -> pretrained.Sizes:
    """How large a backbone of torchvision is for images."""
    return pretrained.sizes(spec.backbone, spec.enlarge * source.height, spec.enlarge * source.width)


def _embedding(spec: ModelSpec, inputs: Inputs, _: Iterator[bool]) -> Iterator[LayerShape]:
    words = _text(inputs)
    yield LayerShape(False, Maps(words.length), Maps(spec.embedding), role="embedding", vocabulary=words.vocabulary)


def _recurrent(spec: ModelSpec, inputs: Inputs, plan: Iterator[bool]) -> Iterator[LayerShape]:
    tokens = _tokens(spec, inputs)
    yield tokens
    maps = CELL_MAPS[spec.cell]
    yield LayerShape(next(plan), tokens.target, Maps(spec.state), role="recurrent", maps=maps)


def _attention(spec: ModelSpec, inputs: Inputs, plan: Iterator[bool]) -> Iterator[LayerShape]:
    """Blocks of Xiong et al. (2020), arXiv:2002.04745 (normalised first), then the mean of the tokens."""
    first = _tokens(spec, inputs)
    yield first
    tokens = first.target
    norm = LayerShape(False, tokens, tokens, role="norm")
    hidden = replace(tokens, channels=spec.feed_forward)
    for _ in range(spec.blocks):
        yield norm
        yield LayerShape(False, tokens, tokens, role="attention", skip=1)
        yield norm
        yield LayerShape(next(plan), tokens, hidden, Window(1), role="feed_forward")
        yield LayerShape(next(plan), hidden, tokens, Window(1), role="feed_forward", skip=2)
    mean = Maps(spec.embedding)
    yield norm
    yield LayerShape(False, tokens, mean, role="mean")
    yield LayerShape(False, mean, mean, role="norm")


_STEMS: dict[str, Callable[[ModelSpec, Inputs, Iterator[bool]], Iterable[LayerShape]]] = {
    "none": lambda *_: (),
    "backbone": _backbone,
    "convolution": _convolutions,
    "embedding": _embedding,
    "recurrent": _recurrent,
    "attention": _attention,
}


def _tokens(spec: ModelSpec, inputs: Inputs) -> LayerShape:
    """What makes tokens of inputs."""
    if isinstance(inputs, TextShape):
        target = Maps(spec.embedding, 1, inputs.length)
        return LayerShape(False, Maps(inputs.length), target, role="words", vocabulary=inputs.vocabulary)
    if isinstance(inputs, ImageShape):
        window = Window(spec.patch_size, spec.patch_size)
        target = Maps(spec.embedding, window.places(inputs.height), window.places(inputs.width))
        return LayerShape(False, Maps(*inputs), target, window, role="patches")
    return LayerShape(False, Maps(inputs), Maps(spec.embedding, 1, inputs), role="columns")


def _maps_of(inputs: Inputs) -> Maps:
    return Maps(*inputs) if isinstance(inputs, ImageShape) else Maps(n_numbers(inputs))


def _text(inputs: Inputs) -> TextShape:
    assert isinstance(inputs, TextShape)
    return inputs


def n_numbers(inputs: Inputs) -> int:
    """How many a row has."""
    if isinstance(inputs, int):
        return inputs
    return inputs.length if isinstance(inputs, TextShape) else math.prod(inputs)


def hidden_rows(shapes: Sequence[LayerShape]) -> tuple[Maps, ...]:
    """What stands before each layer behind the stem, but for raw inputs: where dropout acts."""
    return tuple(shape.source for shape in shapes[1:] if shape.role == "layer" and shape.window is None)


def widest(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> int:
    """Numbers of the widest row of features that a row of inputs passes on its way, about.

    Stages that nobody tunes see a few rows at a time, whatever happens behind them: they do not count.
    """
    return max(_widest(spec, shape) for shape in layer_shapes(spec, inputs, n_outputs))


def _widest(spec: ModelSpec, shape: LayerShape) -> int:
    features = shape.curve_sources * (spec.n_basis + 1 if shape.is_kan else 1)
    match shape.role:
        case "attention":
            return shape.source.places * max(4 * shape.source.channels, spec.heads * shape.source.places)
        case "recurrent":
            return shape.source.places * max(features, shape.curve_targets)
        case "layer" | "feed_forward" | "patches":
            return (shape.target.places if shape.window else 1) * max(features, shape.curve_targets)
        case "embedding":
            return shape.vocabulary or 0
        case "backbone" if not spec.tuned_stages:
            return shape.target.nodes
        case "backbone" if spec.backbone in pretrained.NAMES:
            return pretrained_sizes(spec, shape.source).widest
        case "backbone":
            model = read_about(spec.backbone).model
            return max(_widest(model, of_saved) for of_saved in saved_shapes(spec.backbone))
        case _:
            return max(shape.source.nodes, shape.target.nodes)
