"""What is minimised, and how good a network is on the validation split, by the names of kansearch.specs.metrics.

Letters: P trials of a pack, B rows, O outputs, I inputs of a layer.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from kansearch.data.splits import Split
from kansearch.specs.metrics import Task


def losses(
    outputs: Float[Tensor, "P B O"], targets: Tensor, task: Task, shares: Float[Tensor, " B"]
) -> Float[Tensor, " P"]:
    """Mean cross entropy in nats, or mean squared error of standardised targets, of each trial.

    Args:
        outputs: Logits, or one number a row.
        targets: (P, B) class indices, or (P, B, 1).
        task: Decides between the two.
        shares: Weight of each row in the mean.
    """
    if task is Task.CLASSIFICATION:
        # With rows side by side it takes a fifth of the time.
        of_rows = functional.cross_entropy(outputs.mT.contiguous(), targets, reduction="none")
    else:
        of_rows = (outputs - targets).square().squeeze(-1)
    # No matrix product: how it sums depends on how many trials there are.
    return (of_rows * shares).sum(-1)


def quality(outputs: Tensor, split: Split) -> dict[str, float]:
    """All qualities of predictions for the validation split; errors are in the target's own unit.

    Values that are no finite number are left out.

    Args:
        outputs: (N, classes) logits, or (N, 1), of the whole validation split.
        split: Holds the targets and their scale.
    """
    if split.task is Task.CLASSIFICATION:
        right = (outputs.argmax(dim=1) == split.validation_y).double().mean().item()
        values = {"accuracy": right, "cross_entropy": functional.cross_entropy(outputs, split.validation_y).item()}
    else:
        errors = (outputs - split.validation_y).double() * split.target_scale
        spread = (split.validation_y.double() * split.target_scale).var(correction=0).item()
        squared = errors.square().mean().item()
        values = {
            "rmse": math.sqrt(squared) if squared >= 0 else math.nan,
            "mae": errors.abs().mean().item(),
            "r2": 1 - squared / spread if spread > 0 else math.nan,
        }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def entropy(amplitudes: Float[Tensor, "*P O I"], real: Bool[Tensor, "*P O I"] | None = None) -> Float[Tensor, "*P"]:
    """Entropy in nats of how a layer's amplitude is spread over its curves; low where few curves carry it.

    Args:
        amplitudes: Of all curves of one layer, at least 0.
        real: Which of them take part; all where there is none.

    Source: Liu et al. (2024), KAN, arXiv:2404.19756, equation 2.20.
    """
    # A grain of amplitude everywhere: logarithm and gradient stay finite where curves are still silent.
    grains = amplitudes + torch.finfo(amplitudes.dtype).eps
    if real is not None:
        grains = torch.where(real, grains, 0)
    shares = grains / grains.sum((-2, -1), keepdim=True)
    if real is not None:
        shares = torch.where(real, shares, 1)  # log 1 = 0
    return -(shares * shares.log()).sum((-2, -1))
