"""The rows of the trials of a group: the numbers that training moves, and what optimizers remember of them.

Letters: P trials of a group, N numbers of a trial's row, R numbers that a trial's own network has.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kansearch.models.network import Network
from kansearch.models.stack import Stack
from kansearch.training.checkpoints import Checkpoint
from kansearch.training.gauss_newton import FIRST_DAMPING
from kansearch.training.optimizers import AdamState
from kansearch.training.polish import PolishState
from kansearch.training.trainee import Trainee


class TrialRows:
    """A row for each trial, padded with zeros to what all networks of the stack have.

    Args:
        stack: Knows which numbers of its row a network has.
        n_groups: Groups of parameters that schedules free.
        dtype: Of all numbers.
        device: Where they lie.
        is_polished: Whether a polisher moves them, which remembers its steps.

    Attributes:
        weights: Of all trials.
        real: Which numbers of its row each trial's own network has. Always on the CPU.
        adam: What Adam remembers.
        polish: What polishers remember; None where there are none.
    """

    def __init__(
        self, stack: Stack, n_groups: int, dtype: torch.dtype, device: torch.device, *, is_polished: bool
    ) -> None:
        self._stack = stack
        self._fresh_adam = AdamState.fresh(stack.n_numbers, n_groups, dtype, device)
        self._fresh_polish = PolishState.fresh(stack.n_numbers, dtype, device) if is_polished else None
        self.weights: Float[Tensor, "P N"] = torch.empty(0, stack.n_numbers, dtype=dtype, device=device)
        self.real: Bool[Tensor, "P N"] = torch.empty(0, stack.n_numbers, dtype=torch.bool)
        self.adam = AdamState(*(rows[:0] for rows in self._fresh_adam))
        self.polish = None if self._fresh_polish is None else PolishState(*(rows[:0] for rows in self._fresh_polish))

    def insert(self, place: int, network: Network, so_far: tuple[Float[Tensor, "1 N"], AdamState] | None) -> None:
        """Put the row of a network between the others; it is a fresh one where no row is known so far."""
        if so_far is None:
            so_far = self._stack.embed(network).to(self.weights.device).unsqueeze(0), self._fresh_adam
        row, of_adam = so_far
        # All or nothing: memory may not suffice for one of them.
        weights = _inserted(self.weights, place, row)
        real = _inserted(self.real, place, self._stack.real_numbers(network).unsqueeze(0))
        adam = AdamState(*(_inserted(rows, place, one) for rows, one in zip(self.adam, of_adam, strict=True)))
        polish = self.polish
        if polish is not None and self._fresh_polish is not None:
            pairs = zip(polish, self._fresh_polish, strict=True)
            polish = PolishState(*(_inserted(rows, place, one) for rows, one in pairs))
        self.weights, self.real, self.adam, self.polish = weights, real, adam, polish

    def remove(self, place: int) -> None:
        """Take a row away."""
        weights, real = _without(self.weights, place), _without(self.real, place)
        adam, polish = AdamState(*(_without(rows, place) for rows in self.adam)), self.polish
        if polish is not None:
            polish = PolishState(*(_without(rows, place) for rows in polish))
        self.weights, self.real, self.adam, self.polish = weights, real, adam, polish

    def copy(self, place: int) -> tuple[Float[Tensor, "1 N"], AdamState]:
        """The weights of a row, and what Adam remembers of it."""
        own = slice(place, place + 1)
        return self.weights[own].clone(), AdamState(*(rows[own].clone() for rows in self.adam))

    def replace(self, place: int, network: Network) -> None:
        """Let a row hold the weights of a network, which a polisher has not yet seen."""
        self.weights[place] = self._stack.embed(network).to(self.weights.device)
        self.forget_steps(place)

    def forget_steps(self, place: int) -> None:
        """Let the polisher of a row begin anew."""
        if self.polish is not None:
            self.polish.counts[place], self.polish.damping[place] = 0, FIRST_DAMPING

    def checkpoint(self, place: int, trainee: Trainee) -> Checkpoint:
        """From which the trial of a row can go on elsewhere; without what pads the row."""
        best = trainee.best_weights
        return trainee.checkpoint(
            weights=self._own(place, self.weights[place]),
            first=self._own(place, self.adam.first[place]),
            second=self._own(place, self.adam.second[place]),
            ages=self.adam.ages[place],
            best_weights=None if best is None else self._own(place, best),
        )

    def restore(self, place: int, trainee: Trainee, checkpoint: Checkpoint) -> None:
        """Let the trial of a row be where it was at a checkpoint.

        Raises:
            CheckpointError: If it is not this trial's.
        """
        trainee.check(checkpoint, int(self.real[place].sum()))
        self.weights[place] = self._padded(place, checkpoint.weights)
        self.adam.first[place] = self._padded(place, checkpoint.first)
        self.adam.second[place] = self._padded(place, checkpoint.second)
        self.adam.ages[place] = checkpoint.ages
        best = checkpoint.best_weights
        trainee.restore(checkpoint, None if best is None else self._padded(place, best))

    def _own(self, place: int, numbers: Float[Tensor, " N"]) -> Float[Tensor, " R"]:
        """The numbers that the network of a row really has."""
        return numbers.cpu()[self.real[place]]

    def _padded(self, place: int, numbers: Float[Tensor, " R"]) -> Float[Tensor, " N"]:
        """A row, from the numbers that its network really has."""
        padded = torch.zeros(self.weights.shape[1], dtype=self.weights.dtype)
        return padded.masked_scatter_(self.real[place], numbers).to(self.weights.device)


def _inserted(rows: Tensor, place: int, row: Tensor) -> Tensor:
    return torch.cat([rows[:place], row, rows[place:]])


def _without(rows: Tensor, place: int) -> Tensor:
    return torch.cat([rows[:place], rows[place + 1 :]])
