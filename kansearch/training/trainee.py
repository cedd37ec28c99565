"""One trial of a pack: its network, its random streams, and what it measured so far.

Letters: N numbers of a trial's row, R numbers that its own network has, G groups of parameters that are freed together.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kansearch.data.splits import Split
from kansearch.models.build import build
from kansearch.models.cost import cost, latency_ms
from kansearch.models.grids import fit_grids, refined
from kansearch.models.shapes import hidden_rows, layer_shapes
from kansearch.models.stack import structure
from kansearch.specs.trial import Curve, End, EpochPoint, ModelSpec, RungResult, TrialSpec
from kansearch.training.checkpoints import Checkpoint, CheckpointError
from kansearch.training.refinement import is_fitted_before, model_during
from kansearch.training.unfreeze import ParameterGroups, frozen_stages


class Phase(NamedTuple):
    """What changes in the course of a training; trials of a group are in one phase.

    Attributes:
        is_polishing: Epochs are steps of a polisher.
        n_frozen: Stages of a backbone that will learn, but not yet.
    """

    is_polishing: bool
    n_frozen: int


class Trainee:
    """One trial on its way."""

    def __init__(self, slot: int, spec: TrialSpec, split: Split) -> None:
        self.slot = slot
        self.spec = spec
        self.random = torch.Generator().manual_seed(spec.seed)
        self.dtype: torch.dtype = getattr(torch, spec.training.dtype)
        self.model = model_during(spec.model, spec.training, 0)
        self.network = build(self.model, split.inputs, split.n_outputs, generator=self.random, dtype=self.dtype)
        self.inputs, self.n_outputs = split.inputs, split.n_outputs
        self.groups = ParameterGroups(self.network.n_curve_layers, len(self.network.stage_groups()))
        self.rungs = spec.rungs or (spec.training.epochs,)
        self.epoch = 0
        self.fitted_at = -1
        self.seconds = 0.0
        self.points: list[EpochPoint] = []
        self.end: End | None = None
        self.reason: str | None = None
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_weights: Float[Tensor, " N"] | None = None
        closed_form = cost(spec.model, split.inputs, split.n_outputs)
        self.costs = {
            "parameters": float(closed_form.parameters),
            "flops": float(closed_form.flops),
        }

    def measure_latency(self, n_inputs: int) -> None:
        """Let results hold the network's latency from now on."""
        if "latency_ms" not in self.costs:
            network, model = self.network, self.spec.model
            if self.model != model:  # not yet as fine as it will be
                network = build(model, self.inputs, self.n_outputs, torch.Generator(), self.dtype)
            self.costs["latency_ms"] = latency_ms(network, n_inputs)

    @property
    def kin(self) -> tuple[str, str]:
        """What neighbours should share to be evaluated fastest."""
        return self.spec.model.base_function, self.spec.model.activation

    @cached_property
    def hidden_rows(self) -> list[int]:
        """Nodes of each row on which dropout acts."""
        return self._hidden_rows_of(self.spec.model)

    @cached_property
    def padded_hidden_rows(self) -> list[int]:
        """So many nodes do these rows have in a stack of its structure."""
        return self._hidden_rows_of(structure(self.spec.model))

    def _hidden_rows_of(self, model: ModelSpec) -> list[int]:
        return [row.nodes for row in hidden_rows(layer_shapes(model, self.inputs, self.n_outputs))]

    @property
    def is_at_rung(self) -> bool:
        """Whether there is a result to give."""
        return self.end is not None or self.epoch in self.rungs

    @property
    def is_polishing(self) -> bool:
        """Whether its next epoch is a step of a polisher."""
        return self.epoch >= self.spec.training.n_in_batches

    @property
    def phase(self) -> Phase:
        """Of its next epoch."""
        return Phase(self.is_polishing, frozen_stages(self.spec.training, self.epoch, self.groups))

    @property
    def is_due(self) -> bool:
        """Whether its grids are to be fitted or refined before its next epoch."""
        return self.fitted_at != self.epoch and self._is_due(self.epoch)

    def _is_due(self, epoch: int) -> bool:
        model, training = self.spec.model, self.spec.training
        if not (training.refinements or model.grid == "fitted"):
            return False
        return self.model != model_during(model, training, epoch) or is_fitted_before(model, training, epoch)

    @property
    def n_unbroken(self) -> int:
        """Epochs that it can be trained before it reaches a rung, or its grids or a polisher must be looked after."""
        training = self.spec.training
        ends = [epoch for epoch in (*self.rungs, training.n_in_batches) if epoch > self.epoch]
        last = min(ends, default=self.epoch)
        return next((e for e in range(self.epoch + 1, last) if self._is_due(e)), last) - self.epoch

    def fit_grids(self, x: Float[Tensor, "B _"], *, prepared: bool = False) -> None:
        """Fit the grids of the network to training rows, and refine them if it is time.

        A finer network is another one: patience begins anew.

        Args:
            x: Inputs, or what the `prepare` of a backbone made of them.
            prepared: Which of them.
        """
        self.fitted_at = self.epoch
        if is_fitted_before(self.spec.model, self.spec.training, self.epoch):
            fit_grids(self.network, x, prepared=prepared)
        finer = model_during(self.spec.model, self.spec.training, self.epoch)
        if finer != self.model:
            self.network = refined(self.network, finer, self.inputs, self.n_outputs, x, prepared=prepared)
            self.model = finer
            self.best_loss, self.best_epoch, self.best_weights = math.inf, self.epoch, None

    def resume(self, epoch: int) -> None:
        """Be where it was after so many epochs, with the network that it had; weights come from elsewhere."""
        self.epoch = epoch
        model = model_during(self.spec.model, self.spec.training, epoch - 1)
        if model != self.model:
            generator = self.network.generator
            self.network = build(model, self.inputs, self.n_outputs, torch.Generator(), self.dtype)
            self.network.generator, self.model = generator, model

    def checkpoint(
        self,
        weights: Float[Tensor, " R"],
        first: Float[Tensor, " R"],
        second: Float[Tensor, " R"],
        ages: Int64[Tensor, " G1"],
        best_weights: Float[Tensor, " R"] | None,
    ) -> Checkpoint:
        """All that it needs to go on elsewhere; whoever trains it knows the numbers of its network."""
        points = [(point.epoch, point.train_loss, point.validation_loss) for point in self.points]
        return Checkpoint(
            seed=self.spec.seed,
            epoch=self.epoch,
            seconds=self.seconds,
            points=torch.tensor(points, dtype=torch.float64).view(-1, 3),
            weights=weights,
            first=first,
            second=second,
            ages=ages,
            random=self.random.get_state(),
            dropout=self.network.generator.get_state(),
            best_loss=self.best_loss,
            best_epoch=self.best_epoch,
            best_weights=best_weights,
        )

    def check(self, checkpoint: Checkpoint, n_numbers: int) -> None:
        """Make sure that a checkpoint is this trial's.

        Args:
            checkpoint: That is to be gone on from.
            n_numbers: Of its network's parameters.

        Raises:
            CheckpointError: If it is not.
        """
        if checkpoint.seed != self.spec.seed or checkpoint.epoch >= self.rungs[-1]:
            raise CheckpointError("is another trial's")
        if checkpoint.weights.shape != (n_numbers,) or checkpoint.weights.dtype != self.dtype:
            raise CheckpointError("is another network's")

    def restore(self, checkpoint: Checkpoint, best_weights: Float[Tensor, " N"] | None) -> None:
        """Remember what it did at a checkpoint; the best weights are those of a row."""
        self.random.set_state(checkpoint.random)
        self.network.generator.set_state(checkpoint.dropout)
        self.seconds = checkpoint.seconds
        self.points = [
            EpochPoint(epoch=int(epoch), train_loss=train_loss, validation_loss=validation_loss)
            for epoch, train_loss, validation_loss in checkpoint.points.tolist()
        ]
        self.best_loss, self.best_epoch = checkpoint.best_loss, checkpoint.best_epoch
        if best_weights is not None:
            self.best_weights = best_weights

    def learn(self, train_loss: float, validation_loss: float, weights: Float[Tensor, " N"]) -> None:
        """Take note of an epoch."""
        self.epoch += 1
        if self.end is not None:
            return
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            self.end = End.DIVERGED
            worst = train_loss if not math.isfinite(train_loss) else validation_loss
            self.reason = f"loss is {worst} after epoch {self.epoch}"
            return
        self.points.append(EpochPoint(epoch=self.epoch, train_loss=train_loss, validation_loss=validation_loss))
        patience = self.spec.training.patience
        if patience and validation_loss < self.best_loss:
            self.best_loss, self.best_epoch, self.best_weights = validation_loss, self.epoch, weights.clone()
        if patience and self.epoch - self.best_epoch >= patience:
            self.end, self.reason = End.STOPPED_EARLY, f"no better validation loss since epoch {self.best_epoch}"
        elif self.epoch == self.rungs[-1]:
            self.end = End.COMPLETED

    def result(self, metrics: dict[str, float], curves: tuple[Curve, ...]) -> RungResult:
        """What was measured since the last rung."""
        points, self.points = self.points, []
        return RungResult(
            slot=self.slot,
            rung=next(index for index, epoch in enumerate(self.rungs) if epoch >= self.epoch),
            epoch=self.epoch,
            metrics={**metrics, **self.costs, "train_seconds": self.seconds},
            points=tuple(points),
            end=self.end,
            reason=self.reason,
            curves=curves,
        )
