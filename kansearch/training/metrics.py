"""What is minimised, and how good a network is on the validation split, by the names of kansearch.specs.metrics.

Letters: P trials of a pack, B rows, O outputs, I inputs of a layer, V validation rows, C classes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from kansearch.data.splits import Split
from kansearch.specs.constant import ConstantAnswer
from kansearch.specs.metrics import Task

Classes = Int64[np.ndarray, "V"]
Weights = Float64[np.ndarray, "V"]

LARGEST_LOG = 300.0
"""The square of its exponential is still a number."""

RANKED_NUMBERS = 2**20
"""That are sorted at once."""


def losses(
    outputs: Float[Tensor, "P B O"], targets: Tensor, task: Task, shares: Float[Tensor, " B"] | Float[Tensor, "P B"]
) -> Float[Tensor, " P"]:
    """Mean cross entropy in nats, or mean squared error of standardised targets, of each trial.

    Args:
        outputs: Logits, or one number a row.
        targets: (P, B) class indices, or (P, B, 1).
        task: Decides between the two.
        shares: Weight of each row in the mean; of each trial's own rows, where these differ.
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

    Rows count by their own weights, where they have some. Values that are no finite number are left out.

    Args:
        outputs: (N, classes) logits, or (N, 1), of the whole validation split.
        split: Holds the targets and their scale.
    """
    weights, y = split.validation_row_weights, split.validation_y
    if split.task is Task.CLASSIFICATION:
        predicted = outputs.argmax(dim=1)
        values = {
            "accuracy": _mean((predicted == y).double(), weights),
            "cross_entropy": functional.cross_entropy(outputs, y).item()
            if weights is None
            else _mean(functional.cross_entropy(outputs, y, reduction="none").double(), weights),
        }
        of_rows = np.ones(len(y)) if weights is None else weights.double().numpy()
        values |= _by_classes(predicted.numpy(), y.numpy(), of_rows, outputs.shape[1])
        values |= _by_ranks(outputs.double().softmax(1).numpy(), y.numpy(), of_rows)
    else:
        if split.target_transform == "log":
            errors, own = _own(outputs, split) - _own(y, split), _own(y, split)
        else:
            errors, own = (outputs - y).double() * split.target_scale, y.double() * split.target_scale
        squared, spread = _mean(errors.square(), weights), _variance(own, weights)
        values = {
            "rmse": math.sqrt(squared) if squared >= 0 else math.nan,
            "mae": _mean(errors.abs(), weights),
            "r2": 1 - squared / spread if spread > 0 else math.nan,
        }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def constant_answer(split: Split) -> ConstantAnswer:
    """What the best answer that is the same for every row measures; training rows choose it."""
    if split.task is Task.CLASSIFICATION:
        shares = torch.bincount(
            split.train_y,
            weights=None if split.train_row_weights is None else split.train_row_weights.double(),
            minlength=split.n_outputs,
        ).double()
        metrics = quality((shares / shares.sum()).log().expand(split.n_validation, -1), split)
    else:
        targets = _own(split.train_y, split).squeeze(1)
        weights = torch.ones_like(targets) if split.train_row_weights is None else split.train_row_weights.double()
        ordered, order = targets.sort()
        so_far = weights[order].cumsum(0)
        middle = (ordered[so_far >= so_far[-1] / 2][0] + ordered[so_far > so_far[-1] / 2][0]) / 2
        mean = (targets * weights).sum() / weights.sum()
        of_mean, of_middle = (quality(_outputs(value, split), split) for value in (mean, middle))
        metrics = of_mean | {name: of_middle[name] for name in ("mae",) if name in of_middle}
    return ConstantAnswer(metrics=metrics, n_validation=split.n_validation)


def _own(standardised: Tensor, split: Split) -> Float64[Tensor, "N 1"]:
    """Values in the target's own unit."""
    values = standardised.double() * split.target_scale + split.target_mean
    # A wild network is a bad one, and its error a number.
    return values.clamp(max=LARGEST_LOG).exp() if split.target_transform == "log" else values


def _outputs(value: Tensor, split: Split) -> Float64[Tensor, "V 1"]:
    """What a network answers that gives a value in the target's own unit for every row."""
    learned = value.log() if split.target_transform == "log" else value
    return ((learned - split.target_mean) / split.target_scale).expand(split.n_validation, 1)


def _mean(values: Tensor, weights: Tensor | None) -> float:
    if weights is None:
        return values.mean().item()
    of_rows = weights.double().view(-1, *[1] * (values.dim() - 1))
    return ((values * of_rows).sum() / of_rows.sum()).item()


def _variance(values: Tensor, weights: Tensor | None) -> float:
    return (
        values.var(correction=0).item() if weights is None else _mean((values - _mean(values, weights)) ** 2, weights)
    )


def _by_classes(predicted: Classes, y: Classes, weights: Weights, n_classes: int) -> dict[str, float]:
    """Means over classes: of the share of their rows that are recognised, and of F1.

    A class without rows is left out; of F1 only where it is not predicted either.
    """
    pairs = np.bincount(y * n_classes + predicted, weights=weights, minlength=n_classes**2).reshape(n_classes, -1)
    right, there, said = pairs.diagonal(), pairs.sum(1), pairs.sum(0)
    either = there + said
    return {
        "balanced_accuracy": float((right[there > 0] / there[there > 0]).mean()),
        "f1": float((2 * right[either > 0] / either[either > 0]).mean()),
    }


def _by_ranks(scores: Float64[np.ndarray, "V C"], y: Classes, weights: Weights) -> dict[str, float]:
    """Each class against all others by the order of its probabilities; means over classes.

    Classes that no row is of, or every row, are left out. Equal probabilities are one step of the curves.

    Source: Fawcett (2006), doi:10.1016/j.patrec.2005.10.010, algorithm 2; average precision is the sum of precisions
    weighted by the steps of recall.
    """
    areas, precisions = [], []
    n_at_once = max(1, RANKED_NUMBERS // len(y))
    for begin in range(0, scores.shape[1], n_at_once):
        part = scores[:, begin : begin + n_at_once]
        order = np.argsort(-part, axis=0, kind="stable")
        ordered = np.take_along_axis(part, order, 0)
        is_own = y[order] == np.arange(begin, begin + part.shape[1])
        own, others = np.where(is_own, weights[order], 0), np.where(is_own, 0, weights[order])
        own_so_far, others_so_far = own.cumsum(0), others.cumsum(0)
        places, is_new = np.arange(len(y))[:, None], np.ones(part.shape, dtype=bool)
        is_new[1:] = ordered[1:] != ordered[:-1]
        is_last = np.roll(is_new, -1, axis=0)
        first = np.maximum.accumulate(np.where(is_new, places, 0), axis=0)
        last = np.minimum.accumulate(np.where(is_last, places, len(y))[::-1], axis=0)[::-1]
        before = np.take_along_axis(own_so_far - own, first, 0)
        by_then, others_by_then = (np.take_along_axis(sums, last, 0) for sums in (own_so_far, others_so_far))
        n_own, n_others = own_so_far[-1], others_so_far[-1]
        exists = (n_own > 0) & (n_others > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            area = (others * (before + by_then)).sum(0) / 2 / (n_own * n_others)
            precision = (own * np.nan_to_num(by_then / (by_then + others_by_then))).sum(0) / n_own
        areas += area[exists].tolist()
        precisions += precision[exists].tolist()
    if not areas:
        return {}
    return {"roc_auc": float(np.mean(areas)), "average_precision": float(np.mean(precisions))}


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
