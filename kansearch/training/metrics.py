"""How good a network is on the validation split, by the names of kansearch.specs.metrics."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from kansearch.data.splits import Split
from kansearch.specs.metrics import Task


def loss(outputs: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Mean cross entropy in nats, or mean squared error of standardised targets.

    Args:
        outputs: (B, classes) logits, or (B, 1).
        targets: (B,) class indices, or (B, 1).
        task: Decides between the two.
    """
    if task is Task.CLASSIFICATION:
        return functional.cross_entropy(outputs, targets)
    return functional.mse_loss(outputs, targets)


def quality(outputs: Tensor, split: Split) -> dict[str, float]:
    """All qualities of predictions for the validation split; errors are in the target's own unit.

    Values that are no finite number are left out.

    Args:
        outputs: (N, classes) logits, or (N, 1), of the whole validation split.
        split: Holds the targets and their scale.
    """
    if split.task is Task.CLASSIFICATION:
        right = (outputs.argmax(dim=1) == split.validation_y).double().mean().item()
        values = {"accuracy": right, "cross_entropy": loss(outputs, split.validation_y, split.task).item()}
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


def entropy(amplitudes: Tensor) -> Tensor:
    """Entropy in nats of how a layer's amplitude is spread over its curves; low where few curves carry it.

    Args:
        amplitudes: Of all curves of one layer, any shape, at least 0.

    Source: Liu et al. (2024), KAN, arXiv:2404.19756, equation 2.20.
    """
    # A grain of amplitude everywhere: logarithm and gradient stay finite where curves are still silent.
    grain = torch.finfo(amplitudes.dtype).eps
    shares = (amplitudes + grain) / (amplitudes + grain).sum()
    return -(shares * shares.log()).sum()
