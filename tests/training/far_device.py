"""A second device for machines without one: tensors on it are computed by the CPU, but must not meet the CPU's.

What runs here unchanged and with the same results moves its tensors as CUDA would demand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
_setup_privateuseone_for_python_backend(NAME)
FAR = torch.device(NAME, 0)

MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class FarTensor(Tensor):
    """One that lies on the device."""

    near: Tensor

    @staticmethod
    def __new__(cls: type[Self], near: Tensor) -> Self:
        far = Tensor._make_wrapper_subclass(
            cls, near.size(), near.stride(), near.storage_offset(), dtype=near.dtype, device=FAR
        )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Tensors that are made on the device, or moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    far = any(isinstance(t, FarTensor) for t in tensors)
    if far and func not in MOVES and any(not isinstance(t, FarTensor) and t.dim() for t in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {FAR} and cpu")
    to = kwargs.get("device")
    if to is not None:
        far = torch.device(to).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    near_args, near_kwargs = tree_map_only(FarTensor, lambda t: t.near, (args, dict(kwargs)))
    result = func(*near_args, **near_kwargs)
    for theirs, near in zip([*args, *kwargs.values()], [*near_args, *near_kwargs.values()], strict=True):
        if result is near and isinstance(theirs, Tensor):
            return theirs  # written in place
    return tree_map_only(Tensor, FarTensor, result) if far else result


@contextmanager
def far_device() -> Iterator[torch.device]:
    """The device, while it is there."""
    with _Factories():
        yield FAR
