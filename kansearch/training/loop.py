"""The training loop: trials of a pack go from rung to rung.

Whoever holds a pack decides at every rung who goes on: `advance` brings each trial to its next rung,
`retire` frees the slot of one that is over, `admit` fills it. `train` is the same thing for a fixed list
of trials. Every trial draws from random streams of its own, so its results depend on its spec and on the
data alone, never on its neighbours or its slot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kansearch.data.splits import Split
from kansearch.models.build import Network, build
from kansearch.models.cost import cost, latency_ms
from kansearch.specs.trial import Curve, End, EpochPoint, RungResult, TrialSpec
from kansearch.training.metrics import entropy, loss, quality
from kansearch.training.optimizers import learning_rate_factor, make_optimizer, set_learning_rate
from kansearch.training.unfreeze import unfrozen_groups

EVALUATION_ROWS = 8192
"""Rows of one forward pass without gradients: bounds the memory of an evaluation."""

CURVE_ROWS = 2048
"""Training rows from which the learned activations are drawn."""


def train(specs: Sequence[TrialSpec], split: Split) -> Iterator[RungResult]:
    """Train trials from rung to rung.

    Asking for the next result is the leave to go on: a caller that stops asking stops the training.

    Args:
        specs: The trials; a result names its trial by its place here (`slot`).
        split: What they learn from and are judged by.

    Yields:
        A result of every trial at each of its rungs, the trials in turn; the last of a trial has an `end`.
    """
    pack = Pack(split)
    for spec in specs:
        pack.admit(spec)
    while pack:
        for result in pack.advance():
            yield result
            if result.end is not None:
                pack.retire(result.slot)


class Pack:
    """Trials that are trained together, each in a slot of its own.

    Results do not depend on who else is in the pack. A pack is true while it holds a trial.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self._trainees: dict[int, _Trainee] = {}

    def __len__(self) -> int:
        return len(self._trainees)

    def admit(self, spec: TrialSpec) -> int:
        """Put a trial into the lowest free slot and return that slot.

        Raises:
            UserError: If the network cannot be built.
        """
        slot = next(slot for slot in range(len(self._trainees) + 1) if slot not in self._trainees)
        self._trainees[slot] = _Trainee(slot, spec, self._split)
        return slot

    def advance(self) -> Iterator[RungResult]:
        """Bring every trial to its next rung, or to its end if that comes first."""
        for trainee in [self._trainees[slot] for slot in sorted(self._trainees)]:
            yield trainee.advance()

    def retire(self, slot: int) -> None:
        """Take a trial out of its slot."""
        del self._trainees[slot]


class _Trainee:
    """One network on its way: its weights, its optimizer and its random streams."""

    def __init__(self, slot: int, spec: TrialSpec, split: Split) -> None:
        model, training = spec.model, spec.training
        self.slot = slot
        self.spec = spec
        self.dtype = getattr(torch, training.dtype)
        self.split = split.to(self.dtype)
        self.random = torch.Generator().manual_seed(spec.seed)
        self.network: Network = build(model, split.n_inputs, split.n_outputs, generator=self.random, dtype=self.dtype)
        self.optimizer = make_optimizer(self.network, training)
        self.groups = self.network.activation_groups()
        self.rungs = spec.rungs or (training.epochs,)
        self.epoch = 0
        self.steps_per_epoch = math.ceil(split.n_train / training.batch_size)
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        closed_form = cost(model, split.n_inputs, split.n_outputs)
        self.costs = {
            "parameters": float(closed_form.parameters),
            "flops": float(closed_form.flops),
            "latency_ms": latency_ms(self.network, split.n_inputs),
        }
        self.seconds = 0.0

    def advance(self) -> RungResult:
        """Train to the next rung; the result ends the trial at its last epoch, early stop or divergence."""
        begin = time.perf_counter()
        rung = next(index for index, epoch in enumerate(self.rungs) if epoch > self.epoch)
        points: list[EpochPoint] = []
        end, reason = None, None
        outputs = torch.empty(0)
        while self.epoch < self.rungs[rung] and end is None:
            train_loss = self._train_epoch()
            self.epoch += 1
            outputs = self._predict(self.split.validation_x)
            validation_loss = loss(outputs, self.split.validation_y, self.split.task).item()
            if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
                end, reason = End.DIVERGED, f"loss is {train_loss if math.isnan(train_loss) else validation_loss}"
                reason += f" after epoch {self.epoch}"
                break
            points.append(EpochPoint(epoch=self.epoch, train_loss=train_loss, validation_loss=validation_loss))
            if self._has_lost_patience(validation_loss):
                end = End.STOPPED_EARLY
                reason = f"no better validation loss since epoch {self.best_epoch}"
        if end is None and self.epoch == self.rungs[-1]:
            end = End.COMPLETED
        if end in (End.COMPLETED, End.STOPPED_EARLY) and self.best_weights:
            self.network.load_state_dict(self.best_weights)
            outputs = self._predict(self.split.validation_x)
        self.seconds += time.perf_counter() - begin
        qualities = {} if end is End.DIVERGED else quality(outputs, self.split)
        return RungResult(
            slot=self.slot,
            rung=rung,
            epoch=self.epoch,
            metrics={**qualities, **self.costs, "train_seconds": self.seconds},
            points=tuple(points),
            end=end,
            reason=reason,
            curves=self._curves() if end in (End.COMPLETED, End.STOPPED_EARLY) else (),
        )

    def _train_epoch(self) -> float:
        """One pass over the training data; returns the mean loss of its steps."""
        training = self.spec.training
        self._unfreeze()
        self.network.train()
        order = torch.randperm(self.split.n_train, generator=self.random)
        n_steps = self.steps_per_epoch * training.epochs
        total = torch.zeros((), dtype=self.dtype)
        for batch, rows in enumerate(torch.split(order, training.batch_size)):
            step = self.epoch * self.steps_per_epoch + batch
            set_learning_rate(self.optimizer, learning_rate_factor(training, step, n_steps))
            self.optimizer.zero_grad()
            data_loss, penalty = self._losses(self.split.train_x[rows], self.split.train_y[rows])
            (data_loss + penalty).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += data_loss.detach() * len(rows)
        return total.item() / self.split.n_train

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | float]:
        """The loss on the data and what regularisation adds to it."""
        training = self.spec.training
        if not (training.l1 or training.entropy):
            return loss(self.network(x), y, self.split.task), 0.0
        outputs, amplitudes = self.network.forward_with_amplitudes(x)
        zero = torch.zeros((), dtype=self.dtype)
        penalty = training.l1 * sum((a.sum() for a in amplitudes), zero)
        if training.entropy:
            penalty = penalty + training.entropy * sum((entropy(a) for a in amplitudes), zero)
        return loss(outputs, y, self.split.task), penalty

    def _unfreeze(self) -> None:
        free = unfrozen_groups(self.spec.training, self.epoch, len(self.groups))
        for index, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(index in free)

    def _has_lost_patience(self, validation_loss: float) -> bool:
        patience = self.spec.training.patience
        if not patience:
            return False
        if validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = validation_loss, self.epoch
            self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        return self.epoch - self.best_epoch >= patience

    @torch.no_grad()
    def _predict(self, x: Tensor) -> Tensor:
        self.network.eval()
        return torch.cat([self.network(rows) for rows in torch.split(x, EVALUATION_ROWS)])

    def _curves(self) -> tuple[Curve, ...]:
        self.network.eval()
        with torch.no_grad():
            return self.network.curves(self.split.train_x[:CURVE_ROWS])
