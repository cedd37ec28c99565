"""Checkpoints: all that a trial's training needs to go on elsewhere as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

ZIP = b"PK"
"""With which checkpoints of older versions begin, which torch wrote."""


class CheckpointError(Exception):
    """Bytes are no checkpoint, or that of another trial."""


@dataclass(frozen=True)
class Checkpoint:
    """A trial between two epochs.

    Letters: R numbers of the trial's own network, G groups of parameters that are freed together, S bytes of a random
    stream.

    Attributes:
        seed: Of the trial; a checkpoint serves no other.
        epoch: How many the trial has had.
        seconds: Its share of the training's.
        points: Epoch, training and validation loss of its curve since the last rung.
        weights: All parameters.
        first: Adam's running means of the gradients.
        second: Adam's running means of their squares.
        ages: Adam's steps since each group was freed.
        random: Stream of the batch order.
        dropout: Stream of the masks.
        best_loss: On the validation rows, where the trial has patience.
        best_epoch: That of best_loss.
        best_weights: Those of best_loss; None without patience.
    """

    seed: int
    epoch: int
    seconds: float
    points: Float[Tensor, "_ 3"]
    weights: Float[Tensor, " R"]
    first: Float[Tensor, " R"]
    second: Float[Tensor, " R"]
    ages: Int64[Tensor, " G1"]
    random: UInt8[Tensor, " S"]
    dropout: UInt8[Tensor, " S"]
    best_loss: float
    best_epoch: int
    best_weights: Float[Tensor, " R"] | None

    def to_bytes(self) -> bytes:
        """As they are stored: a digest, and what it is of."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        content = safetensors.numpy.save({name: _array(value) for name, value in state.items() if value is not None})
        return hashlib.sha256(content).digest() + content

    @classmethod
    def from_bytes(cls, stored: bytes) -> Checkpoint:
        """The checkpoint; nothing in the bytes is run.

        Raises:
            CheckpointError: If they are none.
        """
        if not stored:
            raise CheckpointError("is gone")
        n_digest = hashlib.sha256().digest_size
        digest, content = stored[:n_digest], stored[n_digest:]
        if hashlib.sha256(content).digest() != digest:
            raise CheckpointError("is damaged")
        try:
            if content.startswith(ZIP):
                state = torch.load(io.BytesIO(content), weights_only=True)
            else:
                tensors = safetensors.torch.load(content)
                state = {"best_weights": None, **{name: _value(tensor) for name, tensor in tensors.items()}}
            return cls(**{field.name: state[field.name] for field in fields(cls)})
        except Exception as error:  # readers raise whatever they like
            raise CheckpointError(f"is no checkpoint: {type(error).__name__}") from error


def _array(value: Tensor | float) -> NDArray[Any]:
    """What is written of a tensor or a number."""
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _value(tensor: Tensor) -> Tensor | float:
    """What was written; of no dimension are numbers."""
    return tensor if tensor.dim() else tensor.item()
