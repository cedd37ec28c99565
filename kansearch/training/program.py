"""A network as a program for the compiled trainer: its layers, and where each of its parameters lies in one row.

Letters: I inputs, O outputs, P outputs filled up, K functions of an input or node, J = K and one more with a base
branch, N numbers of a row.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from kansearch.compiled import trainer
from kansearch.compiled.trainer import FUNCTIONS, KINDS, OUTPUT_MULTIPLE, zeros
from kansearch.models.bases import (
    BASE_BRANCHES,
    BASE_FUNCTIONS,
    Atoms,
    BaseFunction,
    Basis,
    BSpline,
    Chebyshev,
    FittedGrid,
    Fourier,
    GaussianRBF,
    Rational,
)
from kansearch.models.embedding import Embedding
from kansearch.models.kaf import KAFLayer
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import EdgeLayer, NodeLayer, SharedLayer
from kansearch.models.layer import Layer, OrdinaryLayer
from kansearch.models.network import Network
from kansearch.models.scaled import ScaledLayer, nodes_of

ROW_MULTIPLE = 16
"""Every parameter begins at a multiple of so many numbers."""

SPLINES = {1: "linear_b_spline", 2: "quadratic_b_spline", 3: "cubic_b_spline"}
"""By their order."""

_NAMES = {id(function): name for name, function in {**BASE_BRANCHES, **BASE_FUNCTIONS}.items()}


@dataclass(frozen=True)
class _Pieces:
    """So many pieces of a row, each of `size` numbers, `apart` numbers from each other."""

    begin: int
    size: int
    apart: int
    count: int


@dataclass(frozen=True)
class _Place:
    """Where a parameter lies.

    Attributes:
        name: In the network.
        begin: Its block's first number.
        block: Shape of the block, of which it may be a part.
        part: Which.
        axes: Of the parameter, in the order of the block's.
        pieces: The numbers of the row that are the parameter's, or fill it up.
        group: Of activation parameters, counted from 1; 0 for all other parameters.
        decayed: Weight decay acts on it.
        learns: Gradients move it.
    """

    name: str
    begin: int
    block: tuple[int, ...]
    part: tuple[slice | int, ...]
    axes: tuple[int, ...]
    pieces: _Pieces
    group: int
    decayed: bool
    learns: bool

    def of(self, row: NDArray[Any]) -> NDArray[Any]:
        """The parameter in a row, shaped as the network has it."""
        block = row[self.begin : self.begin + math.prod(self.block)].reshape(self.block)
        return block[self.part].transpose(self.axes)


class Program:
    """What the compiled trainer is told of a network.

    Args:
        network: Without a stem, or behind an embedding.
        batch_size: Rows of a batch at most.

    Attributes:
        n_numbers: N.
        dtype: Of all numbers.
        n_groups: Groups of parameters with rates of their own: one, and one for each KAN layer.
        pointers: As the C code takes it.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        writer = _Writer(network)
        assert len(writer.layers) <= trainer.MOST_LAYERS
        self._layers, self._segments = writer.layers, writer.segments()
        self._places = writer.in_order()
        self.dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
        self._fixed = zeros(max(1, sum(len(part) for part in writer.fixed)), self.dtype)
        self._fix(writer)
        self.n_numbers = writer.n_numbers
        self.n_groups = 1 + len(network.activation_groups())
        layers = trainer.structures(trainer.Layer, self._layers)
        segments = trainer.structures(trainer.Segment, self._segments)
        self.pointers = trainer.ProgramPointers(
            layers, segments, trainer.pointer(self._fixed), len(layers), len(segments), self.n_groups, batch_size
        )
        self._memory = zeros(trainer.code(self.dtype).trainer_memory(ctypes.byref(self.pointers)), np.uint8)
        self.memory = ctypes.c_void_p(trainer.pointer(self._memory))

    def fix(self, network: Network) -> None:
        """Take over the numbers of a network that no gradient moves: its grids."""
        self._fix(_Writer(network))

    def _fix(self, writer: _Writer) -> None:
        if writer.fixed:
            self._fixed[:] = np.concatenate(writer.fixed)

    def write(self, network: Network, row: NDArray[Any]) -> None:
        """Write a network's parameters into a row (N)."""
        parameters = dict(network.named_parameters())
        for place in self._places:
            place.of(row)[...] = parameters[place.name].detach().numpy()

    @torch.no_grad()
    def read(self, row: NDArray[Any], network: Network) -> None:
        """Write a row (N) into the network whose it is."""
        parameters = dict(network.named_parameters())
        for place in self._places:
            parameters[place.name].copy_(torch.from_numpy(np.ascontiguousarray(place.of(row))))

    def numbers(self, row: NDArray[Any]) -> Float[Tensor, " R"]:
        """A network's own numbers of a row, in the order of a checkpoint."""
        return torch.from_numpy(np.concatenate([place.of(row).ravel() for place in self._places]))

    def set_numbers(self, numbers: Float[Tensor, " R"], row: NDArray[Any]) -> None:
        """The way back."""
        begin = 0
        for place in self._places:
            here = place.of(row)
            here[...] = numbers[begin : begin + here.size].numpy().reshape(here.shape)
            begin += here.size

    def forget_frozen(self, ages: NDArray[np.int64], row: NDArray[Any]) -> None:
        """Set what no step has moved yet to 0: torch remembers gradients of frozen parameters, and forgets them later.

        Args:
            ages: Steps that each group of parameters has learned for.
            row: Of what Adam remembers.
        """
        for place in self._places:
            if not ages[place.group]:
                place.of(row)[...] = 0

    @property
    def n_own(self) -> int:
        """How many numbers a network has itself, without what fills them up."""
        probe = np.empty(self.n_numbers, self.dtype)
        return sum(place.of(probe).size for place in self._places)


@dataclass
class _Writer:
    """Lays out a network, layer by layer."""

    network: Network
    layers: list[dict[str, int]] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)
    fixed: list[NDArray[Any]] = field(default_factory=list)
    n_numbers: int = 0

    def __post_init__(self) -> None:
        network = self.network
        self._decayed = {id(parameter) for parameter in network.decayed_parameters()}
        self._groups = {id(p): index + 1 for index, group in enumerate(network.activation_groups()) for p in group}
        self._names = {id(parameter): name for name, parameter in network.named_parameters()}
        layers = cast("list[Layer]", list(network.layers))
        activation = FUNCTIONS.index(_NAMES[id(network.activation)])
        for index, layer in enumerate(layers):
            written = self._layer(layer)
            if index < len(layers) - 1:
                written["drops"] = int(network.dropout > 0)
                if network.activated[index]:
                    written["activation"] = activation
                if str(index) in network.norms:
                    written["norm"] = self._norm(network.norms[str(index)], layer.n_outputs)
            self.layers.append(written)

    def in_order(self) -> list[_Place]:
        """The places in the order in which a checkpoint holds the parameters: that of a stack's row."""
        order = {name: index for index, (name, _) in enumerate(self.network.named_parameters())}
        return sorted(self.places, key=lambda place: (place.group - 1, not place.decayed, order[place.name]))

    def segments(self) -> list[dict[str, int]]:
        """Of a row; neighbours that are trained alike are one."""
        return _joined(
            [
                {**asdict(place.pieces), "group": place.group, "decayed": int(place.decayed)}
                for place in self.places
                if place.learns
            ]
        )

    def _layer(self, layer: Layer) -> dict[str, int]:
        n_inputs, n_outputs = layer.n_inputs, layer.n_outputs
        written = {"n_inputs": n_inputs, "n_outputs": n_outputs, "n_padded": _filled(n_outputs, OUTPUT_MULTIPLE)}
        written["n_functions"] = 1
        match layer:
            case OrdinaryLayer():
                written |= {"kind": _kind("linear"), "weight": self._matrix(layer.weight)}
                written["constant"] = self._flat(layer.bias)
                return written
            case Embedding():
                return written | {
                    "kind": _kind("words"),
                    "n_words": layer.vocabulary,
                    "weight": self._matrix(layer.vectors),
                }
            case KANLayer():
                return written | self._dictionary(layer)
            case ScaledLayer():
                written |= {"kind": _kind("scaled"), "weight": self._matrix(layer.a), "first": self._matrix(layer.s)}
                written |= self._scaled(layer)
            case SharedLayer():
                written |= {"kind": _kind("shared"), "weight": self._matrix(layer.a)}
                written |= {"first": self._flat(layer.s), "second": self._flat(_there(layer.d))}
            case EdgeLayer():
                written |= {"kind": _kind("edge"), "weight": self._flat(layer.a)}
                written |= {"first": self._flat(layer.s), "second": self._flat(_there(layer.d))}
            case NodeLayer():
                written |= {"kind": _kind("node"), "weight": self._matrix(layer.W), "third": self._flat(layer.a)}
                written |= {"first": self._flat(layer.s), "second": self._flat(_there(layer.d))}
            case KAFLayer():
                written |= {"kind": _kind("mixture"), "weight": self._matrix(layer.W), "third": self._flat(layer.a)}
                written |= {"scales": self._fix(layer.scales), "shifts": self._fix(layer.shifts)}
                written["n_functions"] = len(layer.scales)
        form = cast("Any", layer)
        written |= {"function": _function(form.function), "constant": self._flat(form.c)}
        return written

    def _dictionary(self, layer: KANLayer) -> dict[str, int]:
        n_inputs, n_each = layer.n_inputs, layer.basis.n_basis
        block = n_inputs, n_each + (layer.V is not None), _filled(layer.n_outputs, OUTPUT_MULTIPLE)
        weight = self._take(math.prod(block))
        outputs = slice(0, layer.n_outputs)
        # Of each input: the functions of the basis, and the base branch.
        apart, n_padded = block[1] * block[2], block[2]
        pieces = _Pieces(weight, n_each * n_padded, apart, n_inputs)
        self._place(layer.W, weight, block, (slice(None), slice(0, n_each), outputs), (2, 0, 1), pieces)
        if layer.V is not None:
            pieces = _Pieces(weight + n_each * n_padded, n_padded, apart, n_inputs)
            self._place(layer.V, weight, block, (slice(None), n_each, outputs), (1, 0), pieces)
        written = {"weight": weight, "constant": self._flat(layer.c), "n_functions": n_each}
        if layer.base is not None:
            written["branch"] = _function(layer.base)
        return written | self._basis(layer.basis)

    def _basis(self, basis: Basis) -> dict[str, int]:
        if isinstance(basis, Atoms):
            first, second = self._flat(basis.beta), self._flat(basis.gamma)
            return {"kind": _kind("atoms"), "function": _function(basis.function), "first": first, "second": second}
        centre, stretch = np.zeros(basis.n_inputs), np.ones(basis.n_inputs)
        if isinstance(basis, FittedGrid):
            for parameter in (basis.centre, basis.stretch):
                self._flat(parameter, learns=False)
            centre, stretch = (t.detach().double().numpy() for t in (basis.centre, basis.stretch))
            basis = basis.inner
        written, scales, shifts = _fixed_basis(basis)
        if isinstance(basis, Rational):
            written |= {"first": self._flat(basis.p), "second": self._flat(basis.q)}
        # Of (x - centre) stretch.
        of_inputs = scales[None, :] * stretch[:, None]
        return written | {
            "scales": self._fix(of_inputs),
            "shifts": self._fix(shifts[None, :] - of_inputs * centre[:, None]),
        }

    def _scaled(self, layer: ScaledLayer) -> dict[str, int]:
        if layer.is_exact:
            return {"scales": self._fix(np.ones(layer.n_inputs)), "shifts": self._fix(np.zeros(layer.n_inputs))}
        scales, to_nodes = nodes_of(layer.n_basis, torch.float64, torch.device("cpu"))
        of_inputs = np.tile(scales.numpy(), layer.n_inputs)
        return {
            "n_functions": layer.n_basis,
            "scales": self._fix(of_inputs),
            "shifts": self._fix(np.zeros_like(of_inputs)),
            "to_nodes": self._fix(to_nodes),
        }

    def _norm(self, norm: nn.Module, n_nodes: int) -> int:
        n_padded = _filled(n_nodes, OUTPUT_MULTIPLE)
        begin = self._take(2 * n_padded)
        for index, parameter in enumerate((norm.weight, norm.bias)):
            self._place(cast("nn.Parameter", parameter), begin + index * n_padded, (n_nodes,), (slice(None),), (0,))
        return begin

    def _matrix(self, parameter: nn.Parameter) -> int:
        """Place a parameter (O, I) as (I, P)."""
        n_outputs, n_inputs = parameter.shape
        block = n_inputs, _filled(n_outputs, OUTPUT_MULTIPLE)
        begin = self._take(math.prod(block))
        self._place(parameter, begin, block, (slice(None), slice(0, n_outputs)), (1, 0))
        return begin

    def _flat(self, parameter: nn.Parameter, *, learns: bool = True) -> int:
        """Place a parameter as it lies."""
        begin, n_axes = self._take(parameter.numel()), parameter.dim()
        shape = tuple(parameter.shape)
        self._place(parameter, begin, shape, (slice(None),) * n_axes, tuple(range(n_axes)), learns=learns)
        return begin

    def _place(
        self,
        parameter: nn.Parameter,
        begin: int,
        block: tuple[int, ...],
        part: tuple[slice | int, ...],
        axes: tuple[int, ...],
        pieces: _Pieces | None = None,
        *,
        learns: bool = True,
    ) -> None:
        size = math.prod(block)
        pieces = pieces or _Pieces(begin, size, size, 1)
        group, decayed = self._groups.get(id(parameter), 0), id(parameter) in self._decayed
        self.places.append(_Place(self._names[id(parameter)], begin, block, part, axes, pieces, group, decayed, learns))

    def _take(self, n: int) -> int:
        begin = self.n_numbers
        self.n_numbers += _filled(n, ROW_MULTIPLE)
        return begin

    def _fix(self, numbers: Any) -> int:
        begin = sum(len(part) for part in self.fixed)
        self.fixed.append(np.asarray(numbers, dtype=np.float64).ravel())
        return begin


def _fixed_basis(basis: Basis) -> tuple[dict[str, int], NDArray[Any], NDArray[Any]]:
    """The kind of a basis, and the scales and shifts of its functions for inputs on its own grid."""
    ones = np.ones(basis.n_basis)
    match basis:
        case BSpline():
            # Splines on equal intervals are copies of one function, around the middle of their knots.
            middle = np.arange(basis.n_basis) + (basis.spline_order + 1) / 2
            kind = {"kind": _kind("copies"), "function": FUNCTIONS.index(SPLINES[basis.spline_order])}
            return kind, ones / basis.spacing, -basis.first_knot / basis.spacing - middle
        case GaussianRBF():
            kind = {"kind": _kind("copies"), "function": FUNCTIONS.index("gaussian")}
            return kind, ones / basis.distance, -basis.places.double().numpy()
        case Fourier():
            kind = {"kind": _kind("copies"), "function": FUNCTIONS.index("sin")}
            return kind, basis.scales[0].double().numpy(), basis.shifts[0].double().numpy()
        case Chebyshev():
            return {"kind": _kind("chebyshev")}, np.ones(1) / basis.grid_range, np.zeros(1)
        case Rational():
            return {"kind": _kind("rational")}, ones / basis.distance, -basis.places.double().numpy()
    raise TypeError(f"the compiled trainer does not know the basis {type(basis).__name__}")


def _joined(segments: list[dict[str, int]]) -> list[dict[str, int]]:
    """Two parts of one block that are trained alike as one."""
    found: list[dict[str, int]] = []
    for segment in segments:
        last = found[-1] if found else {}
        alike = all(last.get(name) == segment[name] for name in ("group", "decayed", "apart", "count"))
        if alike and last["begin"] + last["size"] == segment["begin"]:
            last["size"] += segment["size"]
        else:
            found.append(dict(segment))
    return found


def _filled(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _kind(name: str) -> int:
    return KINDS.index(name)


def _function(function: BaseFunction) -> int:
    return FUNCTIONS.index(_NAMES[id(function)])


def _there(parameter: nn.Parameter | None) -> nn.Parameter:
    assert parameter is not None, "networks of a search have shifts"
    return parameter
