"""A network as a program for the compiled trainer: its layers, and where each of its parameters lies in one row.

Letters: I inputs, O outputs, P outputs filled up, K functions of an input or node, J = K and one more with a base
branch, N numbers of a row.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Hashable
from typing import Any, NamedTuple, cast

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


class _Place(NamedTuple):
    """Where a parameter lies.

    Attributes:
        name: In the network.
        begin: Bytes of the row before its first number.
        shape: As the network has it.
        strides: From number to number along each of its axes, in bytes.
        group: Of activation parameters, counted from 1; 0 for all other parameters.
    """

    name: str
    begin: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    group: int

    def of(self, row: NDArray[Any]) -> NDArray[Any]:
        """The parameter in a row, shaped as the network has it."""
        return np.ndarray(self.shape, row.dtype, row, self.begin, self.strides)


class Program:
    """What the compiled trainer is told of a network.

    Args:
        network: Without a stem, or behind an embedding.
        batch_size: Rows of a batch at most.
        kind: Of networks that lie alike and have the same grids, however they were made and trained; such a network is
            laid out once. None is a kind of its own.

    Attributes:
        n_numbers: N.
        dtype: Of all numbers.
        n_groups: Groups of parameters with rates of their own: one, and one for each KAN layer.
        pointers: As the C code takes it.
    """

    def __init__(self, network: Network, batch_size: int, kind: Hashable = None) -> None:
        layout = _layout(network, kind)
        assert len(layout.layers) <= trainer.MOST_LAYERS
        self.n_numbers, self.n_groups, self.dtype = layout.n_numbers, layout.n_groups, layout.dtype
        self._places = layout.places
        self._fixed = zeros(max(1, len(layout.fixed)), self.dtype)
        self._fixed[: len(layout.fixed)] = layout.fixed
        n_layers, n_segments = len(layout.layers), len(layout.segments)
        self.pointers = trainer.ProgramPointers(
            layout.layers,
            layout.segments,
            trainer.pointer(self._fixed),
            n_layers,
            n_segments,
            self.n_groups,
            batch_size,
        )
        self._memory = zeros(trainer.code(self.dtype).trainer_memory(ctypes.byref(self.pointers)), np.uint8)
        self.memory = ctypes.c_void_p(trainer.pointer(self._memory))

    def fix(self, network: Network) -> None:
        """Take over the numbers of a network that no gradient moves: its grids."""
        fixed = _Writer(network).layout().fixed
        self._fixed[: len(fixed)] = fixed

    def write(self, network: Network, row: NDArray[Any]) -> None:
        """Write a network's parameters into a row (N)."""
        parameters = _numbers_of(network)
        for place in self._places:
            place.of(row)[...] = parameters[place.name]

    def read(self, row: NDArray[Any], network: Network) -> None:
        """Write a row (N) into the network whose it is."""
        parameters = _numbers_of(network)
        for place in self._places:
            parameters[place.name][...] = place.of(row)

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
        return sum(math.prod(place.shape) for place in self._places)


class _Layout(NamedTuple):
    """How networks of a kind lie in a row.

    Attributes:
        layers: As the C code takes them.
        segments: Likewise.
        places: Of the parameters, in the order in which a checkpoint holds them: that of a stack's row.
        fixed: Numbers that no gradient moves.
        n_numbers: N.
        n_groups: Of parameters.
        dtype: Of all numbers.
    """

    layers: ctypes.Array[trainer.Layer]
    segments: ctypes.Array[trainer.Segment]
    places: tuple[_Place, ...]
    fixed: NDArray[np.float64]
    n_numbers: int
    n_groups: int
    dtype: str


_LAYOUTS: dict[Hashable, _Layout] = {}
MOST_LAYOUTS = 1024


def _layout(network: Network, kind: Hashable) -> _Layout:
    """How a network lies, by its kind where that is known."""
    if kind is None:
        return _Writer(network).layout()
    if kind not in _LAYOUTS:
        if len(_LAYOUTS) >= MOST_LAYOUTS:
            _LAYOUTS.clear()
        _LAYOUTS[kind] = _Writer(network).layout()
    return _LAYOUTS[kind]


class _Writer:
    """Lays out a network, layer by layer."""

    def __init__(self, network: Network) -> None:
        groups, parameters = network.activation_groups(), dict(network.named_parameters())
        self._decayed = {id(parameter) for parameter in network.decayed_parameters()}
        self._groups = {id(p): index + 1 for index, group in enumerate(groups) for p in group}
        self._names = {id(parameter): (index, name) for index, (name, parameter) in enumerate(parameters.items())}
        self._n_groups = 1 + len(groups)
        self._dtype = str(next(iter(parameters.values())).dtype).removeprefix("torch.")
        self._layers: list[dict[str, int]] = []
        self._segments: list[trainer.Segment] = []
        self._places: list[tuple[tuple[int, bool, int], _Place]] = []
        self._fixed: list[NDArray[np.float64]] = []
        self._n_numbers = 0
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
            self._layers.append(written)

    def layout(self) -> _Layout:
        """Of the network."""
        return _Layout(
            trainer.layers(self._layers),
            (trainer.Segment * len(self._segments))(*self._segments),
            tuple(place for _, place in sorted(self._places)),
            np.concatenate([np.empty(0), *self._fixed]),
            self._n_numbers,
            self._n_groups,
            self._dtype,
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
        # Of each input: the functions of the basis, and the base branch.
        apart, n_padded = block[1] * block[2], block[2]
        self._place(layer.W, weight, (1, apart, n_padded), n_each * n_padded, apart, n_inputs)
        if layer.V is not None:
            self._place(layer.V, weight + n_each * n_padded, (1, apart), n_padded, apart, n_inputs)
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
            self._place(cast("nn.Parameter", parameter), begin + index * n_padded, (1,), n_nodes)
        return begin

    def _matrix(self, parameter: nn.Parameter) -> int:
        """Place a parameter (O, I) as (I, P)."""
        n_outputs, n_inputs = parameter.shape
        n_padded = _filled(n_outputs, OUTPUT_MULTIPLE)
        begin = self._take(n_inputs * n_padded)
        self._place(parameter, begin, (1, n_padded), n_inputs * n_padded)
        return begin

    def _flat(self, parameter: nn.Parameter, *, learns: bool = True) -> int:
        """Place a parameter as it lies."""
        size = parameter.numel()
        begin = self._take(size)
        self._place(parameter, begin, parameter.contiguous().stride(), size, learns=learns)
        return begin

    def _place(
        self,
        parameter: nn.Parameter,
        begin: int,
        strides: tuple[int, ...],
        size: int,
        apart: int = 0,
        count: int = 1,
        *,
        learns: bool = True,
    ) -> None:
        """Note where a parameter lies.

        Args:
            parameter: Of the network.
            begin: Its first number.
            strides: Of its axes in the row.
            size: Of each of the pieces of the row that are the parameter's, or fill it up.
            apart: From the begin of one of them to that of the next.
            count: How many they are.
            learns: Whether gradients move it.
        """
        group, decayed = self._groups.get(id(parameter), 0), id(parameter) in self._decayed
        index, name = self._names[id(parameter)]
        size_of_one = parameter.itemsize
        place = _Place(
            name, begin * size_of_one, tuple(parameter.shape), tuple(n * size_of_one for n in strides), group
        )
        self._places.append(((group - 1, not decayed, index), place))
        if not learns:
            return
        segment = trainer.Segment(begin, size, apart or size, count, group, decayed)
        last = self._segments[-1] if self._segments else None
        if last is not None and _are_alike(last, segment) and last.begin + last.size == begin:
            last.size += size  # two parts of one block
        else:
            self._segments.append(segment)

    def _take(self, n: int) -> int:
        begin = self._n_numbers
        self._n_numbers += _filled(n, ROW_MULTIPLE)
        return begin

    def _fix(self, numbers: Any) -> int:
        begin = sum(len(part) for part in self._fixed)
        self._fixed.append(np.asarray(numbers, dtype=np.float64).ravel())
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


def _numbers_of(network: Network) -> dict[str, NDArray[Any]]:
    """The numbers of each parameter, where the network has them."""
    return {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}


def _are_alike(one: trainer.Segment, other: trainer.Segment) -> bool:
    """Whether they are trained alike, and lie alike."""
    return all(getattr(one, name) == getattr(other, name) for name in ("group", "decayed", "apart", "count"))


def _filled(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _kind(name: str) -> int:
    return KINDS.index(name)


def _function(function: BaseFunction) -> int:
    return FUNCTIONS.index(_NAMES[id(function)])


def _there(parameter: nn.Parameter | None) -> nn.Parameter:
    assert parameter is not None, "networks of a search have shifts"
    return parameter
