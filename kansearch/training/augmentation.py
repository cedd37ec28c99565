"""Images seen a little differently every time.

Letters: P trials, B rows of a batch, T steps, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kansearch.specs.data import ImageShape
from kansearch.specs.trial import TrainingSpec


def draw_moves(training: TrainingSpec, n_steps: int, n_rows: int, random: torch.Generator) -> Int64[Tensor, "T B 3"]:
    """How the images of an epoch are moved (down, right, and 1 where one is mirrored); draws nothing where none are."""
    moves = torch.zeros(n_steps, n_rows, 3, dtype=torch.int64)
    if training.shift:
        moves[..., :2] = torch.randint(-training.shift, training.shift + 1, (n_steps, n_rows, 2), generator=random)
    if training.flip:
        moves[..., 2] = torch.randint(2, (n_steps, n_rows), generator=random)
    return moves


def moved(x: Float[Tensor, "P B I"], moves: Int64[Tensor, "P B 3"], shape: ImageShape) -> Tensor:
    """Images (I = C H W) moved; what comes in repeats the edge."""
    channels, height, width = shape
    down, right, mirrored = moves.unsqueeze(-2).unbind(-1)
    rows = (torch.arange(height, device=x.device) - down).clamp(0, height - 1)
    columns = torch.arange(width, device=x.device)
    columns = (torch.where(mirrored.bool(), width - 1 - columns, columns) - right).clamp(0, width - 1)
    places = (rows.unsqueeze(-1) * width + columns.unsqueeze(-2)).flatten(-2).unsqueeze(-2)
    maps = x.unflatten(-1, (channels, height * width))  # type: ignore[no-untyped-call]  # torch has no types for it
    return torch.gather(maps, -1, places.expand_as(maps)).flatten(-2)
