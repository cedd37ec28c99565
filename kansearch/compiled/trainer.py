"""The trainer in C: one network, some epochs, one call; see training/trainer.c.

It is compiled once for each level of vector instructions, and the highest that the processor has is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kansearch import compiled

VERSION = 4
"""Of the functions and what they take, as in trainer.c."""

LEVELS = ("avx512", "avx2", "plain")
"""Of vector instructions, the highest first."""

ALIGNMENT = 64
"""Numbers begin at multiples of so many bytes: where a row begins must not decide how its sums are taken."""

OUTPUT_MULTIPLE = 8
"""Rows of weights are filled up to a multiple of so many outputs."""

MOST_LAYERS = 16

KINDS = ("linear", "atoms", "copies", "chebyshev", "rational", "shared", "scaled", "edge", "node", "mixture", "words")
FUNCTIONS = (
    "gaussian", "mexican_hat", "relu_bump", "sigmoid", "tanh", "relu", "silu", "gelu", "sin", "cubic_b_spline",
    "quadratic_b_spline", "linear_b_spline", "identity",
)  # fmt: skip
"""In the orders of layer.h and functions.h."""


class Layer(Structure):
    """A layer, as layer.h has it."""

    _fields_ = [
        (name, c_int64)
        for name in (
            "kind", "n_inputs", "n_outputs", "n_padded", "n_functions", "function", "branch", "weight", "constant",
            "first", "second", "third", "scales", "shifts", "to_nodes", "norm", "activation", "drops", "n_words",
        )
    ]  # fmt: skip


class Segment(Structure):
    """Pieces of a row that are trained alike, as trainer.c has them."""

    _fields_ = [(name, c_int64) for name in ("begin", "size", "apart", "count", "group", "decayed")]


class ProgramPointers(Structure):
    """A network, as trainer.c has it."""

    _fields_ = [
        ("layers", POINTER(Layer)),
        ("segments", POINTER(Segment)),
        ("fixed", c_void_p),
        *((name, c_int64) for name in ("n_layers", "n_segments", "n_groups", "batch_size")),
    ]


class DataPointers(Structure):
    """Rows, as trainer.c has them."""

    _fields_ = [
        *(
            (f"{part}_{what}", c_void_p)
            for what in ("x", "classes", "numbers", "weights")
            for part in ("train", "validation")
        ),
        ("n_train", c_int64),
        ("n_validation", c_int64),
    ]


class PlanPointers(Structure):
    """What some epochs are to be, as trainer.c has it."""

    _fields_ = [
        *((name, c_void_p) for name in ("order", "rates", "free", "uniforms")),
        *((name, c_int64) for name in ("n_epochs", "first_step", "n_steps", "n_drawn", "patience", "decoupled")),
        *((name, c_double) for name in ("keep", "decay", "l1", "entropy")),
    ]


class StatePointers(Structure):
    """A trial between two epochs, as trainer.c has it."""

    _fields_ = [
        *((name, c_void_p) for name in ("row", "gradients", "first", "second", "best", "ages", "losses", "outputs")),
        ("total", c_double),
        ("best_loss", c_double),
        ("n_since_best", c_int64),
    ]


@cache
def level(dtype: str = "float32") -> str | None:
    """The level of the code that is used for numbers of a kind; None where there is none, or it is not wanted."""
    return next((name for name in LEVELS if _library(name, dtype) is not None), None)


def best_level() -> str | None:
    """The highest level of this processor; None where there is no compiled code."""
    common = compiled.library()
    return None if common is None else LEVELS[common.kansearch_level()]


@cache
def code(dtype: str = "float32") -> ctypes.CDLL:
    """The code of that level."""
    name = level(dtype)
    assert name is not None
    library = _library(name, dtype)
    assert library is not None
    return library


@cache
def _library(name: str, dtype: str) -> ctypes.CDLL | None:
    """The code of a level, where it was compiled and this processor can run it."""
    common = compiled.library()
    found = find_spec(f"kansearch.compiled._trainer_{name}{'_double' * (dtype == 'float64')}")
    if common is None or found is None or found.origin is None or LEVELS.index(name) < common.kansearch_level():
        return None
    try:
        library = compiled.load(found.origin)
        if library.trainer_version() != VERSION:
            return None
    except (OSError, AttributeError):  # of another machine, or not ours
        return None
    library.trainer_memory.restype = library.trainer_train.restype = c_int64
    library.trainer_gradients.restype = library.trainer_look.restype = c_double
    return library


def zeros(n: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """So many zeros, at an address that is a multiple of ALIGNMENT."""
    size = np.dtype(dtype).itemsize
    room = np.zeros(n * size + ALIGNMENT, dtype=np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + n * size].view(dtype)


def pointer(array: NDArray[Any] | None) -> int | None:
    """The address of an array's numbers."""
    return None if array is None else array.ctypes.data


def layers(items: Sequence[dict[str, int]]) -> ctypes.Array[Layer]:
    """An array of layers; -1 in a field that an item does not have."""
    return (Layer * len(items))(*(Layer(*(item.get(name, -1) for name in _LAYER_FIELDS)) for item in items))


_LAYER_FIELDS = [field[0] for field in Layer._fields_]
