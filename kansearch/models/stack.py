"""Networks of one structure as one network, whose parameters have a leading axis of networks.

All parameters of a network are one row of a buffer. Networks of different widths share a structure whose rows
of nodes are as wide as the next power of two: a network stands in the corner of each tensor, and beyond it are
zeros, which add nothing and must not learn. How much is added depends on the network alone, so its results are
the same whoever else is in the stack.

Letters: P networks, N numbers of a row, B batch, I inputs, O outputs, W nodes of a hidden row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kansearch.models.bases import BASE_FUNCTIONS, Atoms, BaseFunction
from kansearch.models.build import build
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KernelActivation
from kansearch.models.layer import CurveLayer
from kansearch.models.network import Network, RowNorm
from kansearch.models.shapes import LayerShape, hidden_rows, layer_shapes
from kansearch.specs.data import Inputs
from kansearch.specs.trial import EXPANSIONS, ModelSpec

NARROWEST = 8
"""Hidden rows are padded to this many nodes, or to a power of two above it."""


@lru_cache(maxsize=1024)
def structure(spec: ModelSpec) -> ModelSpec:
    """What networks must share to stand in one stack: their spec, without all that may differ.

    >>> structure(ModelSpec(family="mlp", width=9, activation="tanh")) == structure(ModelSpec(family="mlp", width=16))
    True
    """
    shared: dict[str, object] = {
        "family": spec.family,
        "depth": spec.depth,
        "width": _power_of_two(max(spec.width, NARROWEST)) if spec.depth > 1 else NARROWEST,
        "layer_norm": spec.layer_norm,
    }
    if spec.stem == "convolution":
        shared |= {name: getattr(spec, name) for name in ("stem", "convolutions", "kernel_size", "stride", "pooling")}
        shared["channels"] = _power_of_two(max(spec.channels, NARROWEST))
    if spec.stem == "embedding":
        shared |= {"stem": "embedding", "embedding": _power_of_two(max(spec.embedding, NARROWEST))}
    # The numbers of a token, and of a state, stand in several parts of a row: they are not padded.
    if spec.stem == "recurrent":
        shared |= {name: getattr(spec, name) for name in ("stem", "embedding", "cell", "state", "pooling")}
    if spec.stem == "attention":
        shared |= {name: getattr(spec, name) for name in ("stem", "embedding", "blocks", "heads", "patch_size")}
        shared["feed_forward"] = _power_of_two(max(spec.feed_forward, NARROWEST))
    if spec.stem == "backbone":
        shared |= {name: getattr(spec, name) for name in ("stem", "backbone", "tuned_stages", "enlarge")}
    if spec.family == "hybrid":
        shared["pattern"] = spec.pattern
    if spec.family != "mlp":
        shared["layer"] = spec.layer
        if spec.layer == "kaf":
            shared |= {name: getattr(spec, name) for name in ("base_function", "n_basis", "grid_range")}
        if spec.layer == "scaled":
            shared["n_basis"] = spec.n_basis
            shared["base_function"] = "relu" if spec.base_function == "relu" else "tanh"  # relu is a layer of its own
        if spec.layer == "dictionary":
            shared["base_branch"] = spec.base_branch
            if spec.base_function in EXPANSIONS:
                shared |= {name: getattr(spec, name) for name in ("base_function", "n_basis", "grid_range", "grid")}
            else:
                shared["n_basis"] = _power_of_two(spec.n_basis)
    return ModelSpec(**shared)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


@dataclass(frozen=True)
class Segment:
    """Neighbouring numbers of a row that are trained alike.

    Attributes:
        begin: The first.
        end: One behind the last.
        group: Of activation parameters, then of stages of a backbone; None for all other parameters.
        decayed: Weight decay acts on them.
    """

    begin: int
    end: int
    group: int | None
    decayed: bool


@dataclass(frozen=True)
class _Place:
    """Where a parameter lies."""

    name: str
    module: nn.Module
    leaf: str
    shape: torch.Size
    begin: int
    end: int


class Stack(Network):
    """One network made of P of a structure; inputs, outputs and amplitudes have P on their first axis.

    Args:
        shared: What `structure` gives for each of them.
        inputs: Of each network.
        n_outputs: O.
        dtype: Of all numbers.

    Attributes:
        n_numbers: N.
        hidden_rows: Nodes of each row on which dropout acts.
        segments: Of a row, in order, all of it.
        real_edges: For each KAN layer, which of its curves the networks really have.
    """

    def __init__(self, shared: ModelSpec, inputs: Inputs, n_outputs: int, dtype: torch.dtype) -> None:
        template = build(shared, inputs, n_outputs, torch.Generator(), dtype)
        # A ModuleList does not know that its modules are layers.
        super().__init__(list(template.layers), skips=template.skips, generator=torch.Generator())  # type: ignore[arg-type]
        self.norms = template.norms
        self._sizes = inputs, n_outputs
        self._shapes = layer_shapes(shared, inputs, n_outputs)
        self.hidden_rows = [row.nodes for row in hidden_rows(self._shapes)]
        self.real_edges: list[Bool[Tensor, "P _ _"]] = []
        self._masks: Sequence[Float[Tensor, "P B _"]] = ()
        self._places, self.segments = self._lay_out()
        self.n_numbers = self.segments[-1].end

    def _lay_out(self) -> tuple[tuple[_Place, ...], tuple[Segment, ...]]:
        all_groups = [*self.activation_groups(), *self.stage_groups()]
        groups = {id(p): index for index, group in enumerate(all_groups) for p in group}
        decayed = {id(p) for p in self.decayed_parameters()}
        named = [
            ((groups.get(id(parameter), -1), id(parameter) not in decayed), f"{path}.{leaf}", module, leaf, parameter)
            for path, module in self.named_modules()
            for leaf, parameter in module.named_parameters(recurse=False)
        ]
        named.sort(key=lambda item: item[0])
        places: list[_Place] = []
        segments: list[Segment] = []
        begin = 0
        for (group, plain), alike in groupby(named, key=lambda item: item[0]):
            first = begin
            for _, name, module, leaf, parameter in alike:
                places.append(_Place(name, module, leaf, parameter.shape, begin, begin + parameter.numel()))
                begin += parameter.numel()
            segments.append(Segment(first, begin, None if group < 0 else group, not plain))
        return tuple(places), tuple(segments)

    def embed(self, network: Network) -> Float[Tensor, " N"]:
        """The row of a network."""
        row = torch.zeros(self.n_numbers, dtype=next(network.parameters()).dtype)
        for corner, parameter in self._corners(row, network):
            corner.copy_(parameter.detach())
        return row

    def real_numbers(self, network: Network) -> Bool[Tensor, " N"]:
        """Which numbers of its row a network really has."""
        row = torch.zeros(self.n_numbers, dtype=torch.bool)
        for corner, _ in self._corners(row, network):
            corner.fill_(value=True)
        return row

    @torch.no_grad()
    def extract(self, row: Float[Tensor, " N"], network: Network) -> None:
        """Write a row into the network whose it is."""
        for corner, parameter in self._corners(row, network):
            parameter.copy_(corner)

    def _corners(self, row: Tensor, network: Network) -> Iterator[tuple[Tensor, Tensor]]:
        parameters = dict(network.named_parameters())
        for place in self._places:
            parameter = parameters[place.name]
            whole = row[place.begin : place.end].view(place.shape)
            yield whole[tuple(slice(size) for size in parameter.shape)], parameter

    def attach(self, weights: Float[Tensor, "P N"], specs: Sequence[ModelSpec]) -> list[nn.Parameter]:
        """Stand for these networks from now on.

        Args:
            weights: Their rows; the parameters are views of it.
            specs: Their architectures.

        Returns:
            The parameters in the order of a row.
        """
        parameters = []
        for place in self._places:
            parameter = nn.Parameter(weights[:, place.begin : place.end].view(-1, *place.shape))
            place.module._parameters[place.leaf] = parameter  # noqa: SLF001 - the setter would register it anew
            parameters.append(parameter)
        self.activation = by_network([spec.activation for spec in specs])
        names = [spec.base_function for spec in specs]
        own = (module for layer in self._layers() if layer is not self.backbone for module in layer.modules())
        for layer in own:
            if isinstance(layer, KANLayer) and isinstance(layer.basis, Atoms):
                layer.basis.function = by_network(names)
            elif isinstance(layer, KernelActivation):
                layer.function = by_network(names)
        self._seat([layer_shapes(spec, *self._sizes) for spec in specs], weights)
        return parameters

    def silence(self, masks: Sequence[Float[Tensor, "P B _"]]) -> None:
        """Use these dropout masks, one a hidden row, until others come; none silence nothing."""
        self._masks = masks

    def _drop(self, index: int, x: Tensor) -> Tensor:
        return x * self._masks[index - max(0, self.n_stem - 1)] if self._masks and self.training else x

    def _seat(self, of_networks: Sequence[Sequence[LayerShape]], like: Tensor) -> None:
        """Note which nodes and curves the networks really have."""
        self.real_edges = []
        for index, layer in enumerate(self._layers()):
            shapes = [shapes[index] for shapes in of_networks]
            if isinstance(layer, CurveLayer):
                own = self._shapes[index]
                targets = _first(own.curve_targets, [s.curve_targets for s in shapes], like)
                sources = _first(own.curve_sources, [s.curve_sources for s in shapes], like)
                # Of a node, or two in a cell: of what it takes from the token and from the state.
                of_nodes = torch.ones_like(sources[:, : 2 if own.role == "recurrent" else 1])
                edges = targets.unsqueeze(-1) & (sources if layer.one_curve_an_edge else of_nodes).unsqueeze(-2)
                self.real_edges.append(edges)
            if str(index) in self.norms:
                norm = self.norms[str(index)]
                assert isinstance(norm, RowNorm)
                norm.real = _first(layer.n_outputs, [s.target.nodes for s in shapes], like).unsqueeze(-2).to(like.dtype)


def _first(n_all: int, n_real: Sequence[int], like: Tensor) -> Bool[Tensor, "P W"]:
    """Of so many nodes or curves: which the networks really have."""
    return torch.arange(n_all, device=like.device) < torch.tensor(n_real).unsqueeze(-1).to(like.device)


def by_network(names: Sequence[str]) -> BaseFunction:
    """A base function that is another one for each network of a stack; evaluations only."""
    if len(set(names)) == 1:
        return BASE_FUNCTIONS[names[0]]
    runs = [(BASE_FUNCTIONS[name], len(list(run))) for name, run in groupby(names)]

    def evaluate(x: Tensor) -> Tensor:
        parts = torch.split(x, [length for _, length in runs])
        return torch.cat([function(part) for (function, _), part in zip(runs, parts, strict=True)])

    compiled = [name for function, length in runs for name in function.compiled * length]
    return replace(runs[0][0], evaluate=evaluate, compiled=tuple(compiled) if len(compiled) == len(names) else ())
