"""Checkpoints: all that a trial's training needs to go on elsewhere as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int64, UInt8
from safetensors.torch import load, save
from torch import Tensor

NUMBERS = "numbers"
"""Under this name the header of a checkpoint holds all that is no tensor, as JSON."""

ZIP = b"PK"
"""So do checkpoints begin that an older kansearch wrote, in torch's format."""


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
        tensors, numbers = {}, {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                tensors[field.name] = value.contiguous()
            else:
                numbers[field.name] = value
        content = save(tensors, {NUMBERS: json.dumps(numbers)})
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
                length = int.from_bytes(content[:8], "little")
                numbers = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][NUMBERS])
                state = {**load(content), **numbers}
            return cls(**{field.name: state[field.name] for field in fields(cls)})
        except Exception as error:  # their readers raise whatever they do
            raise CheckpointError(f"is no checkpoint: {type(error).__name__}") from error
