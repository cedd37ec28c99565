"""The inner loops in C, on a CPU and in float32: what torch's operators give, several times faster.

The code is compiled where the package is installed, if there is a C compiler; without one everything works, more
slowly. KANSEARCH_COMPILED=0 leaves it out.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

FUNCTIONS = (
    "edge_sums",
    "edge_sums_backward",
    "atoms",
    "atoms_backward",
    "mixtures",
    "mixtures_backward",
    "adam_step",
    "kansearch_level",
)
VERSION = 4
"""Of the functions and what they take, as in compiled.h."""


def wanted() -> bool:
    """Whether the environment lets it be used."""
    return os.environ.get("KANSEARCH_COMPILED") != "0"


def path() -> str | None:
    """Of the library, be it of use or not; None where there is none."""
    spec = find_spec("kansearch.compiled._library")
    return None if spec is None else spec.origin


@cache
def library() -> ctypes.CDLL | None:
    """The compiled code; None where it is missing, of another version or not wanted."""
    where = path() if wanted() else None
    if where is None:
        return None
    try:
        code = load(where)
        for name in FUNCTIONS:
            getattr(code, name)
        return code if code.kansearch_version() == VERSION else None
    except (OSError, AttributeError):  # of another machine, or not ours
        return None


def load(where: str) -> ctypes.CDLL:
    """The library of a file.

    Raises:
        OSError: If it is none of this machine, or not whole: the system would end the process that loads it.
    """
    with Path(where).open("rb") as file:
        header, size = file.read(64), os.fstat(file.fileno()).st_size
    if header[:5] == b"\x7fELF\x02" and len(header) == 64:
        # The table of sections comes last.
        begin, entry, n_entries = (*struct.unpack_from("<Q", header, 40), *struct.unpack_from("<HH", header, 58))
        if begin + entry * n_entries > size:
            raise OSError(f"{where} is not whole")
    return ctypes.CDLL(where)


def serves(tensor: Tensor) -> bool:
    """Whether the compiled code can work on tensors such as this."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and library() is not None


def call(name: str, *arguments: Tensor | ctypes.Array[ctypes.c_int] | ctypes.Array[ctypes.c_long] | None) -> None:
    """Call a C function with pointers to these.

    Args:
        name: Of the function.
        arguments: Tensors as the function wants them: it looks at their numbers, not at their shapes. None is a
            null pointer.
    """
    code = library()
    assert code is not None
    getattr(code, name)(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments))


def ints(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int]:
    """An array of C's int."""
    return (ctypes.c_int * len(numbers))(*numbers)


def longs(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_long]:
    """An array of C's long."""
    return (ctypes.c_long * len(numbers))(*numbers)
