"""What is drawn for an epoch: which rows each batch has, how images are moved, and which nodes are silenced.

Every trial draws from random streams of its own, and rows are filled up by a rule that looks at the trial alone: what
it draws does not depend on its neighbours.

Letters: P trials of a group, T steps of an epoch, B rows of a batch, W nodes of a hidden row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from kansearch.data.splits import Split
from kansearch.models.stack import NARROWEST
from kansearch.specs.trial import ModelSpec
from kansearch.training.augmentation import draw_moves
from kansearch.training.trainee import Trainee

MASK_NUMBERS = 2**20
"""Numbers of a trial's dropout masks that are drawn at once."""

VECTOR_NUMBERS = 32
"""Batches are padded such that each trial has a multiple of so many numbers in every row of nodes: torch works on two
vectors of up to 16 at once, and on what is left of a whole stack one by one, where functions have other last bits."""


class Padding(NamedTuple):
    """How rows that are computed together are filled up.

    Attributes:
        multiple: So many, or a multiple, are computed.
    """

    multiple: int

    @staticmethod
    def of(shared: ModelSpec, split: Split, n_seen: int) -> Padding:
        """For networks of a structure whose first layers see so many numbers of a row."""
        # Where windows show an odd count of numbers only the rows can make vectors whole.
        has_windows = shared.stem in ("convolution", "recurrent", "attention")
        narrow = [n_seen, *([split.n_outputs] if shared.layer == "node" else [])]
        return Padding(VECTOR_NUMBERS // (1 if has_windows else math.gcd(NARROWEST, *narrow)))

    def whole(self, n_rows: int) -> int:
        """So many rows, and those that fill them up.

        >>> Padding(8).whole(20)
        24
        """
        return self.multiple * math.ceil(n_rows / self.multiple)

    def filled(self, table: Float[Tensor, "B _"]) -> Float[Tensor, "_ _"]:
        """A table, and rows of zeros that fill it up."""
        return functional.pad(table, (0, 0, 0, self.whole(len(table)) - len(table)))


class Batch(NamedTuple):
    """The rows of a step.

    Attributes:
        n_real: Rows that do not only fill up.
        order: The rows of the data that each trial sees; what only fills up is the first one.
        shares: Weight of each row in a mean: what only fills up has none.
        moves: How each image is moved; None where none is.
        masks: Of dropout, one a hidden row; none where no trial has dropout.
    """

    n_real: int
    order: Int64[Tensor, "P B"]
    shares: Float[Tensor, " B"]
    moves: Int64[Tensor, "P B 3"] | None = None
    masks: Sequence[Float[Tensor, "P B W"]] = ()


class Batches:
    """Gives the batches of an epoch, for trials of one structure.

    Args:
        n_train: Rows of the data.
        batch_size: Of these in a batch.
        padding: Of each batch.
        hidden_rows: Nodes of each row on which dropout acts, as wide as the stack has them.
        has_moves: Whether images are moved.
        like: Has the type and the device of what is given.

    Attributes:
        n_steps: T.
    """

    def __init__(
        self,
        n_train: int,
        batch_size: int,
        padding: Padding,
        hidden_rows: Sequence[int],
        *,
        has_moves: bool,
        like: Tensor,
    ) -> None:
        self.n_steps = math.ceil(n_train / batch_size)
        self._n_train, self._batch_size = n_train, batch_size
        self._padding = padding
        self._n_rows = padding.whole(batch_size)
        self._hidden_rows = hidden_rows
        self._has_moves = has_moves
        self._like = like
        n_last = n_train - (self.n_steps - 1) * batch_size
        self._shares = {n_real: self._share(n_real, self._n_rows) for n_real in (batch_size, n_last)}

    def of_epoch(self, trainees: Sequence[Trainee]) -> Iterator[Batch]:
        """One pass over the data, in an order that each trial draws for itself."""
        order, moves = self._order(trainees), self._moves(trainees)
        for step, masks in enumerate(self._masks(trainees)):
            n_real = min(self._batch_size, self._n_train - step * self._batch_size)
            of_step = None if moves is None else moves[:, step]
            yield Batch(n_real, order[:, step], self._shares[n_real], of_step, masks)

    def in_order(self, n_trials: int, n_most: int) -> Iterator[Batch]:
        """One pass over the data as it lies, in batches as large as they may be: nothing is drawn.

        Args:
            n_trials: P.
            n_most: Largest number of rows, with those that fill up; padded itself.
        """
        device = self._like.device
        n_rows = min(self._padding.whole(self._n_train), n_most)
        for begin in range(0, self._n_train, n_rows):
            n_real = min(n_rows, self._n_train - begin)
            order = torch.zeros(n_trials, n_rows, dtype=torch.int64, device=device)
            order[:, :n_real] = torch.arange(begin, begin + n_real, device=device)
            yield Batch(n_real, order, self._share(n_real, n_rows))

    def _share(self, n_real: int, n_rows: int) -> Float[Tensor, " B"]:
        shares = torch.zeros(n_rows, dtype=self._like.dtype)
        shares[:n_real] = 1 / n_real
        return shares.to(self._like.device)

    def _order(self, trainees: Sequence[Trainee]) -> Int64[Tensor, "P T B"]:
        order = torch.zeros(len(trainees), self.n_steps, self._n_rows, dtype=torch.int64)
        padded = torch.zeros(self.n_steps * self._batch_size, dtype=torch.int64)
        for row, trainee in enumerate(trainees):
            padded[: self._n_train] = torch.randperm(self._n_train, generator=trainee.random)
            order[row, :, : self._batch_size] = padded.view(self.n_steps, self._batch_size)
        return order.to(self._like.device)

    def _moves(self, trainees: Sequence[Trainee]) -> Int64[Tensor, "P T B 3"] | None:
        if not self._has_moves:
            return None
        drawn = [draw_moves(t.spec.training, self.n_steps, self._n_rows, t.random) for t in trainees]
        return torch.stack(drawn).to(self._like.device)

    def _masks(self, trainees: Sequence[Trainee]) -> Iterator[Sequence[Float[Tensor, "P B W"]]]:
        """The dropout masks of each step; as many steps as are drawn at once lie in memory together."""
        if not self._hidden_rows or not any(trainee.spec.model.dropout for trainee in trainees):
            yield from [()] * self.n_steps
            return
        n_at_once = steps_at_once(self._n_rows, self._hidden_rows)
        for begin in range(0, self.n_steps, n_at_once):
            n_steps = min(n_at_once, self.n_steps - begin)
            shape = n_steps, len(trainees), self._n_rows
            drawn = [torch.ones(*shape, n_nodes, dtype=self._like.dtype) for n_nodes in self._hidden_rows]
            for row, trainee in enumerate(trainees):
                if trainee.spec.model.dropout:
                    for masks, own in zip(drawn, masks_of_trial(trainee, n_steps, self._n_rows), strict=True):
                        masks[:, row, :, : own.shape[-1]] = own
            there = [masks.to(self._like.device) for masks in drawn]
            yield from ([masks[step] for masks in there] for step in range(n_steps))


def masks_of_trial(trainee: Trainee, n_steps: int, n_rows: int) -> list[Float[Tensor, "T B W"]]:
    """Draw the dropout masks of a trial's next steps, for each hidden row, as wide as its own network.

    Args:
        trainee: Of its random stream for dropout they are.
        n_steps: T, from the first one of an epoch on.
        n_rows: B, with those that fill up.
    """
    keep = 1 - trainee.spec.model.dropout
    return [(drawn < keep).to(trainee.dtype) / keep for drawn in uniforms_of_trial(trainee, n_steps, n_rows)]


def uniforms_of_trial(trainee: Trainee, n_steps: int, n_rows: int) -> list[Float[Tensor, "T B W"]]:
    """Draw the numbers between 0 and 1 that decide which nodes are silenced: those of at least the share that stays.

    As many steps as `MASK_NUMBERS` allows are drawn at once, one hidden row after the other. Whoever draws an epoch in
    several calls gets the same numbers, if all but the last are for a multiple of so many steps.

    Args:
        trainee: Of its random stream for dropout they are.
        n_steps: T, from the first one of an epoch on.
        n_rows: B, with those that fill up.
    """
    n_at_once = steps_at_once(n_rows, trainee.padded_hidden_rows)
    generator = trainee.network.generator
    parts = [
        [torch.rand(min(n_at_once, n_steps - begin), n_rows, n, generator=generator) for n in trainee.hidden_rows]
        for begin in range(0, n_steps, n_at_once)
    ]
    return parts[0] if len(parts) == 1 else [torch.cat(of_row) for of_row in zip(*parts, strict=True)]


def steps_at_once(n_rows: int, padded_hidden_rows: Sequence[int]) -> int:
    """Steps whose dropout masks are drawn at once."""
    return max(1, MASK_NUMBERS // (n_rows * max(padded_hidden_rows, default=1)))
