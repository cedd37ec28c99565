"""Levenberg-Marquardt for packs: steps that know the curvature of a mean of squares.

Where L-BFGS needs thousands of steps to bring the error of a smooth function down by another digit, these need tens:
each solves the least squares problem that the network is to first order. It costs the square of the number of
parameters in memory, and its cube in time.

Letters: P trials, N numbers of a trial, R rows that are looked at at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kansearch.models.stack import Stack
from kansearch.specs.trial import ModelSpec

LARGEST = 1500
"""Numbers of a trial up to which it is done."""

FIRST_DAMPING, LEAST_DAMPING, LARGEST_DAMPING = 1e-2, 1e-12, 1e8
FALL, RISE = 0.25, 4.0
"""Damping at first and its bounds, and what it is multiplied by when a step lowers the error, and when it does not."""

MAX_TRIES = 8
"""Steps that are tried, ever shorter, before weights stay where they are."""

NUMBERS_AT_ONCE = 2**19
"""Of the derivatives of a trial."""


class NormalEquations:
    """J'J, J'r and r'r of each trial, where J are the derivatives of a network's output in every row.

    Every row is a network of its own in a stack, so that one backward pass gives the derivatives of each.

    Args:
        stack: Of the trials' structure; used by nobody else.
        multiple: Rows that are looked at at once are a multiple of it.
    """

    def __init__(self, stack: Stack, multiple: int) -> None:
        self._stack = stack.eval()
        self._n_rows = multiple * max(1, NUMBERS_AT_ONCE // stack.n_numbers // multiple)
        self._multiple = multiple
        self._seated: tuple[ModelSpec, ...] = ()
        self._weights = torch.empty(0)
        self._parameters: list[nn.Parameter] = []

    def of(
        self,
        weights: Float[Tensor, "P N"],
        specs: Sequence[ModelSpec],
        x: Float[Tensor, "B _"],
        y: Float[Tensor, "B 1"],
        row_weights: Float[Tensor, " B"] | None = None,
        *,
        prepared: bool = False,
    ) -> Float[Tensor, "P N1 N1"]:
        """Means over the rows: J'J, then J'r in the last column and row, and r'r in the corner.

        Args:
            weights: Of the trials.
            specs: Likewise.
            x: Inputs, or what `Stack.prepare` made of them.
            y: Targets.
            row_weights: Of the rows in the means, 1 on average; None where all count alike.
            prepared: Which of them `x` is.
        """
        n_rows = min(self._n_rows, -(-len(y) // self._multiple) * self._multiple)
        if self._seated != tuple(specs) or len(self._weights) != n_rows * len(specs):
            self._weights = weights.repeat_interleave(n_rows, 0)
            self._parameters = self._stack.attach(self._weights, [spec for spec in specs for _ in range(n_rows)])
            self._seated = tuple(specs)
        else:
            self._weights.copy_(weights.repeat_interleave(n_rows, 0))
        total = weights.new_zeros(len(specs), weights.shape[1] + 1, weights.shape[1] + 1)
        for begin in range(0, len(y), n_rows):
            there = torch.arange(begin, begin + n_rows, device=y.device)
            rows = there.clamp(max=len(y) - 1)
            share = (there < len(y)).to(weights.dtype) / len(y)
            share = (share if row_weights is None else share * row_weights[rows]).sqrt()
            seen = x[rows] if prepared else self._stack.prepare(x[rows])
            total += self._of_rows(seen, y[rows], share, len(specs))
        return total

    def _of_rows(
        self, prepared: Tensor, y: Tensor, share: Float[Tensor, " R"], n_trials: int
    ) -> Float[Tensor, "P N1 N1"]:
        with torch.enable_grad():
            seen = prepared.unsqueeze(1).expand(n_trials, -1, -1, -1).flatten(0, 1)
            outputs = self._stack.mix(seen)[:, 0]
            gradients = torch.autograd.grad(outputs.sum(), self._parameters, materialize_grads=True)
        errors = outputs.detach() - y.repeat(n_trials, 1)
        joined = torch.cat([*(gradient.flatten(1) for gradient in gradients), errors], dim=1)
        scaled = torch.unflatten(joined, 0, (n_trials, -1)) * share.unsqueeze(-1)
        return torch.bmm(scaled.mT, scaled)


@torch.no_grad()
def gauss_newton(
    weights: Float[Tensor, "P N"],
    free: Float[Tensor, "P N"],
    damping: Float[Tensor, " P"],
    equations: Callable[[], Float[Tensor, "P N1 N1"]],
    evaluate: Callable[[], Float[Tensor, " P"]],
) -> Float[Tensor, " P"]:
    """One step of each trial; returns the mean squared errors there.

    Args:
        weights: Moved in place; where no step lowers the error they stay to the bit.
        free: 1 for numbers that move, 0 for others.
        damping: Changed in place.
        equations: At the weights as they are.
        evaluate: Mean squared errors, likewise.

    Source: Marquardt (1963), doi:10.1137/0111030, with the damping scaled by the diagonal.
    """
    start, lowest = weights.clone(), evaluate()
    augmented = equations()
    curvature, slope = augmented[:, :-1, :-1], augmented[:, :-1, -1] * free
    curvature = curvature * free.unsqueeze(-1) * free.unsqueeze(-2)
    diagonal = curvature.diagonal(dim1=-2, dim2=-1)
    # What is not free, or does nothing, has a row of zeros, and stays.
    least = torch.finfo(weights.dtype).eps * diagonal.amax(-1, keepdim=True) + torch.finfo(weights.dtype).tiny
    done = torch.zeros_like(lowest, dtype=torch.bool)
    for _ in range(MAX_TRIES):
        added = damping.unsqueeze(-1) * diagonal + least
        factor, failed = torch.linalg.cholesky_ex(curvature + torch.diag_embed(added))
        step = torch.cholesky_solve(slope.unsqueeze(-1), factor).squeeze(-1)
        weights.copy_(torch.where(done.unsqueeze(-1), weights, start - step * free))
        found = evaluate()
        better = ~done & (failed == 0) & (found < lowest)
        lowest = torch.where(better, found, lowest)
        done |= better
        damping.mul_(torch.where(better, FALL, torch.where(done, 1.0, RISE)).to(damping.dtype))
        damping.clamp_(LEAST_DAMPING, LARGEST_DAMPING)
        if done.all():
            break
    weights.copy_(torch.where(done.unsqueeze(-1), weights, start))
    return lowest
