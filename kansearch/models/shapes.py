"""How large every layer of a network is, from its spec and the shape of its inputs.

Rows of nodes are flat everywhere. Where they are maps (behind images and convolutions) they are ordered channel by
channel, then row by row of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from kansearch.models.hybrid import layer_plan, n_convolutions
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


@dataclass(frozen=True)
class LayerShape:
    """One layer of a network.

    Attributes:
        is_kan: Or an ordinary one.
        source: What it sees.
        target: What it gives.
        window: Of a convolution; None where every node sees all.
        vocabulary: Of an embedding, which is neither a KAN layer nor an ordinary one; else None.
    """

    is_kan: bool
    source: Maps
    target: Maps
    window: Window | None = None
    vocabulary: int | None = None

    @property
    def is_affine(self) -> bool:
        """Whether nothing of it bends: between two such layers stands an activation."""
        return not self.is_kan and self.vocabulary is None

    @property
    def curve_sources(self) -> int:
        """Inputs of the curves of one output: nodes of the source, or of what a window shows of it."""
        return self.source.channels * self.window.size**2 if self.window else self.source.nodes

    @property
    def curve_targets(self) -> int:
        """Outputs that have curves of their own."""
        return self.target.channels if self.window else self.target.nodes


@lru_cache(maxsize=1024)
def layer_shapes(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> tuple[LayerShape, ...]:
    """The layers of a network, first to last.

    The first convolution has `channels` channels and the spec's stride; each further one halves height and width and
    doubles the channels.
    """
    if isinstance(inputs, TextShape) and spec.stem == "embedding":
        words, numbers = Maps(inputs.length), Maps(spec.embedding)
        first = LayerShape(is_kan=False, source=words, target=numbers, vocabulary=inputs.vocabulary)
        return (first, *layer_shapes(spec.model_copy(update={"stem": "none"}), spec.embedding, n_outputs))
    maps = [Maps(*inputs) if isinstance(inputs, ImageShape) else Maps(n_numbers(inputs))]
    windows: list[Window | None] = []
    for index in range(n_convolutions(spec)):
        window = Window(spec.kernel_size, spec.stride if index == 0 else 2, spec.kernel_size // 2)
        seen = maps[-1]
        maps.append(Maps(spec.channels << index, window.places(seen.height), window.places(seen.width)))
        windows.append(window)
    maps += [Maps(spec.width)] * (spec.depth - 1) + [Maps(n_outputs)]
    windows += [None] * spec.depth
    shapes = []
    for index, (is_kan, (source, target)) in enumerate(zip(layer_plan(spec), pairwise(maps), strict=True)):
        if spec.pooling == "average" and index == n_convolutions(spec) > 0:
            source = Maps(source.channels)  # noqa: PLW2901 - what is left of it
        shapes.append(LayerShape(is_kan, source, target, windows[index]))
    return tuple(shapes)


def n_numbers(inputs: Inputs) -> int:
    """How many a row has."""
    if isinstance(inputs, int):
        return inputs
    return inputs.length if isinstance(inputs, TextShape) else math.prod(inputs)


def hidden_rows(shapes: Sequence[LayerShape]) -> tuple[Maps, ...]:
    """What stands before each layer behind the stem, but for raw inputs: where dropout acts."""
    return tuple(shape.source for shape in shapes[1:] if shape.window is None)


def widest(spec: ModelSpec, inputs: Inputs, n_outputs: int) -> int:
    """Numbers of the widest row of features that a row of inputs passes on its way, about."""
    of_layers = [
        (shape.target.places if shape.window else 1)
        * max(
            shape.curve_sources * (spec.n_basis + 1 if shape.is_kan else 1), shape.curve_targets, shape.vocabulary or 0
        )
        for shape in layer_shapes(spec, inputs, n_outputs)
    ]
    return max(of_layers)
