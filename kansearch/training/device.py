"""Where trials are trained."""

from __future__ import annotations

import torch

from kansearch.errors import UserError


def find_device(name: str, number: int = 0) -> torch.device:
    """The device of a worker.

    Args:
        name: "cpu", or "cuda", of whose devices the workers of a machine take turns.
        number: Of the worker.

    Raises:
        UserError: If there is none.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; allowed: cpu, or a torch built for CUDA")
    return torch.device("cuda", number % torch.cuda.device_count())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        hint in words for hint in ("out of memory", "can't allocate memory", "not enough memory")
    )
