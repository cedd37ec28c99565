"""Adam for packs: every row of numbers is a trial with rates of its own, and one update serves them all.

Letters: P trials, N numbers of a trial, G groups of parameters that may be frozen, T steps of an epoch. Where a table
has G + 1 columns, the first stands for the parameters that are in no group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from kansearch import compiled
from kansearch.models.stack import Segment
from kansearch.specs.trial import TrainingSpec
from kansearch.training.unfreeze import ParameterGroups, unfrozen_groups

WARMUP_SHARE = 0.1
"""Share of the steps in which `warmup_cosine` rises."""

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class PackAdam:
    """Adam or AdamW over rows of numbers.

    Activation parameters learn at `activation_rate` times the learning rate, stages of a backbone at `backbone_rate`
    times and less; weight decay acts on weights alone.
    A parameter that is frozen does not move, and has neither state nor decay until it is freed.

    Args:
        segments: Of a row.
        real: Which numbers of its row each trial really has; the others never move.
        trainings: Of the trials.
        state: Of the trials, in the same order.
        groups: G of them.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        real: Bool[Tensor, "P N"],
        trainings: Sequence[TrainingSpec],
        state: AdamState,
        groups: ParameterGroups,
    ) -> None:
        self.state = state
        self._groups = groups
        self._segments = segments
        self._trainings = trainings
        self._decoupled = trainings[0].optimizer == "adamw"
        self._real = None if real.all() else real.to(state.first)
        columns = [torch.full((s.end - s.begin,), _column(s)) for s in segments]
        self._columns = torch.cat(columns).to(state.first.device)
        n_trials, n_numbers = state.first.shape
        self._sizes = compiled.longs([n_trials, n_numbers, len(segments), state.ages.shape[1]])
        self._places = compiled.longs([number for s in segments for number in (s.begin, s.end, _column(s))])
        self._betas = torch.tensor([BETA_1, BETA_2], dtype=torch.float32)
        self._scratch = torch.empty_like(state.first)
        self._rates = torch.empty_like(state.first)

    def begin_epoch(self, epochs: Sequence[int], n_steps: int) -> None:
        """Look up the rates of an epoch's steps, and free what is to be freed.

        Args:
            epochs: That each trial begins, from 0.
            n_steps: T.
        """
        of_trials = list(zip(self._trainings, epochs, strict=True))
        free = np.array([free_groups(training, epoch, self._groups) for training, epoch in of_trials])
        self._forget_frozen(free)
        rates = np.array([learning_rates(training, epoch, n_steps, self._groups) for training, epoch in of_trials])
        rates = rates * free[:, None, :]
        ages = self.state.ages.numpy()[:, None, :] + np.arange(1, n_steps + 1)[:, None]
        root = np.sqrt(1 - BETA_2**ages)
        decay = np.array([training.weight_decay for training in self._trainings])[:, None, None]
        # (T, P, G + 1) each.
        self._step_sizes = torch.from_numpy(rates * root / (1 - BETA_1**ages)).to(self.state.first).transpose(0, 1)
        self._floors = torch.from_numpy(EPSILON * root).to(self.state.first).transpose(0, 1)
        kept = 1 - rates * decay if self._decoupled else decay * free[:, None, :] * np.ones_like(rates)
        self._decays = torch.from_numpy(kept).to(self.state.first).transpose(0, 1) if decay.any() else None
        alike = (rates == rates[..., :1]).all() and (ages == ages[..., :1]).all()
        self._alike = bool(alike)
        self.state.ages.add_(torch.from_numpy(free * n_steps))

    def step(self, weights: Float[Tensor, "P N"], gradients: Float[Tensor, "P N"], step: int) -> None:
        """Move the weights.

        Source: Kingma & Ba (2015), arXiv:1412.6980, algorithm 1; the decay of Loshchilov & Hutter (2019),
        arXiv:1711.05101, algorithm 2.
        """
        first, second, scratch = self.state.first, self.state.second, self._scratch
        if self._decays is not None:
            self._decay(weights, gradients, self._decays[step])
        if compiled.serves(weights):
            tables = self._betas, self._step_sizes[step].contiguous(), self._floors[step].contiguous()
            compiled.call(
                "adam_step", self._sizes, self._places, *tables, self._real, gradients, first, second, weights
            )
            return
        first.lerp_(gradients, 1 - BETA_1)
        second.mul_(BETA_2).addcmul_(gradients, gradients, value=1 - BETA_2)
        torch.sqrt(second, out=scratch)
        scratch.add_(self._spread(self._floors[step]))
        torch.div(first, scratch, out=scratch)
        sizes = self._spread(self._step_sizes[step])
        weights.sub_(scratch.mul_(sizes if self._real is None else torch.mul(self._real, sizes, out=self._rates)))

    def _decay(self, weights: Tensor, gradients: Tensor, decays: Float[Tensor, "P G1"]) -> None:
        for segment in self._segments:
            if segment.decayed:
                place = slice(segment.begin, segment.end)
                factor = decays[:, _column(segment), None]
                if self._decoupled:
                    weights[:, place].mul_(factor)
                else:
                    gradients[:, place].addcmul_(weights[:, place], factor)

    def _spread(self, table: Float[Tensor, "P G1"]) -> Float[Tensor, "P _"]:
        """A value for each number, or one for all numbers of a trial where they are alike."""
        return table[:, :1] if self._alike else torch.index_select(table, 1, self._columns, out=self._rates)

    def _forget_frozen(self, free: NDArray[np.bool_]) -> None:
        """What gradients left behind while a group was frozen is no state of it."""
        for row, column in zip(*np.nonzero(free & (self.state.ages.numpy() == 0)), strict=True):
            for segment in self._segments:
                if _column(segment) == column:
                    self.state.first[row, segment.begin : segment.end] = 0
                    self.state.second[row, segment.begin : segment.end] = 0


def free_numbers(
    segments: Sequence[Segment],
    real: Bool[Tensor, "P N"],
    trainings: Sequence[TrainingSpec],
    epochs: Sequence[int],
    groups: ParameterGroups,
) -> Bool[Tensor, "P N"]:
    """Which numbers of each trial learn in its next epoch.

    Args:
        segments: Of a row.
        real: Which numbers of its row each trial really has.
        trainings: Of the trials.
        epochs: That each begins, from 0.
        groups: G of them.
    """
    free = real.clone()
    for row, (training, epoch) in enumerate(zip(trainings, epochs, strict=True)):
        learns = free_groups(training, epoch, groups)
        for segment in segments:
            if not learns[_column(segment)]:
                free[row, segment.begin : segment.end] = False
    return free


class AdamState(NamedTuple):
    """What Adam remembers of each trial.

    Attributes:
        first: Running means of the gradients.
        second: Running means of their squares.
        ages: Steps since each group was freed; 0 while it is frozen. Always on the CPU, where rates are computed.
    """

    first: Float[Tensor, "P N"]
    second: Float[Tensor, "P N"]
    ages: Int64[Tensor, "P G1"]

    @staticmethod
    def fresh(n_numbers: int, n_groups: int, dtype: torch.dtype, device: torch.device) -> AdamState:
        """Of one trial that has not begun."""
        zeros = torch.zeros(1, n_numbers, dtype=dtype, device=device)
        return AdamState(zeros, zeros.clone(), torch.zeros(1, n_groups + 1, dtype=torch.int64))


def _column(segment: Segment) -> int:
    return 0 if segment.group is None else segment.group + 1


def free_groups(training: TrainingSpec, epoch: int, groups: ParameterGroups) -> list[bool]:
    """Which columns of such tables learn in an epoch, from 0."""
    unfrozen = unfrozen_groups(training, epoch, groups)
    return [True, *(group in unfrozen for group in range(groups.total))]


def free_in_epochs(training: TrainingSpec, epoch: int, groups: ParameterGroups, n_epochs: int) -> NDArray[np.uint8]:
    """The same of each of some epochs: 1 where a column learns."""
    if training.unfreeze == "none":
        return np.ones((n_epochs, groups.total + 1), np.uint8)
    return np.array([free_groups(training, epoch + e, groups) for e in range(n_epochs)], np.uint8)


def learning_rates(
    training: TrainingSpec, epoch: int, n_steps: int, groups: ParameterGroups, n_epochs: int = 1
) -> NDArray[np.float64]:
    """Learning rates (T, G + 1) of the steps of an epoch, or of several."""
    steps = epoch * n_steps + np.arange(n_epochs * n_steps)
    factors = learning_rate_factor(training, steps, n_steps * training.epochs)
    of_stages = [training.backbone_rate * training.stage_decay**behind for behind in range(groups.n_stages)]
    columns = [1.0, *(training.activation_rate,) * groups.n_layers, *of_stages[::-1]]
    return training.learning_rate * np.multiply.outer(factors, columns)


def learning_rate_factor(training: TrainingSpec, steps: NDArray[np.int64], n_steps: int) -> NDArray[np.float64]:
    """The share of the highest learning rate that each of some steps (from 0) of a whole training uses.

    Source: cosine without restarts of Loshchilov & Hutter (2017), arXiv:1608.03983, equation 5.
    """
    if training.schedule == "constant":
        return np.ones(len(steps))
    if training.schedule == "cosine":
        return _falling(steps, n_steps)
    warmup = round(WARMUP_SHARE * n_steps)
    return np.where(steps < warmup, (steps + 1) / (warmup + 1), _falling(steps - warmup, n_steps - warmup))


def _falling(steps: NDArray[np.int64], n_steps: int) -> NDArray[np.float64]:
    return 0.5 * (1 + np.cos(np.pi * steps / max(1, n_steps)))
