"""One trial of a pack: its network, its random streams, and what it measured so far.

Letters: N numbers of a trial's row, T steps, B rows of a batch, W nodes of a hidden row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch.data.splits import Split
from kansearch.models.build import build
from kansearch.models.cost import cost, latency_ms
from kansearch.models.grids import fit_grids, refined
from kansearch.models.shapes import hidden_rows, layer_shapes
from kansearch.specs.trial import Curve, End, EpochPoint, RungResult, TrialSpec
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
        self.shapes = layer_shapes(spec.model, split.inputs, split.n_outputs)
        self.groups = ParameterGroups(len(self.network.activation_groups()), len(self.network.stage_groups()))
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

    @property
    def is_at_rung(self) -> bool:
        """Whether there is a result to give."""
        return self.end is not None or self.epoch in self.rungs

    @property
    def is_polishing(self) -> bool:
        """Whether its next epoch is a step of a polisher."""
        training = self.spec.training
        return self.epoch >= training.epochs - round(training.polish * training.epochs)

    @property
    def phase(self) -> Phase:
        """Of its next epoch."""
        return Phase(self.is_polishing, frozen_stages(self.spec.training, self.epoch, self.groups))

    @property
    def is_due(self) -> bool:
        """Whether its grids are to be fitted or refined before its next epoch."""
        model, training = self.spec.model, self.spec.training
        if self.fitted_at == self.epoch or not (training.refinements or model.grid == "fitted"):
            return False
        changes = self.model != model_during(model, training, self.epoch)
        return changes or is_fitted_before(model, training, self.epoch)

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

    def draw_masks(self, n_steps: int, n_rows: int) -> list[Float[Tensor, "T B W"]]:
        """Dropout masks of some steps, for each hidden row, as wide as the trial's own network."""
        model, network = self.spec.model, self.network
        keep = 1 - model.dropout
        return [
            (torch.rand(n_steps, n_rows, row.nodes, generator=network.generator) < keep).to(self.dtype) / keep
            for row in hidden_rows(self.shapes)
        ]
