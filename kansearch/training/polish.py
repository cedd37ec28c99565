"""L-BFGS for packs: every row of numbers is a trial with a step of its own, and one evaluation serves them all.

Letters: P trials, N numbers of a trial, M steps that are remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kansearch.training.gauss_newton import FIRST_DAMPING

MEMORY = 10
"""M."""

ARMIJO, CURVATURE = 1e-4, 0.9
"""How much of the promised decrease a step must bring, and how much of the slope may be left."""

MAX_EVALUATIONS = 10
"""Of a step: what has not met both conditions then takes the best that met the first, or stays."""

Evaluate = Callable[[], tuple[Float[Tensor, " P"], Float[Tensor, "P N"]]]
"""Objectives and gradients at the weights as they are."""


class PolishState(NamedTuple):
    """What polishers remember of each trial.

    Attributes:
        steps: The last steps, the newest first.
        changes: Of the gradient along them.
        counts: How many of them there are.
        damping: Of Levenberg-Marquardt.
    """

    steps: Float[Tensor, "P M N"]
    changes: Float[Tensor, "P M N"]
    counts: Int64[Tensor, " P"]
    damping: Float[Tensor, " P"]

    @staticmethod
    def fresh(n_numbers: int, dtype: torch.dtype, device: torch.device) -> PolishState:
        """Of one trial that has not begun."""
        zeros = torch.zeros(1, MEMORY, n_numbers, dtype=dtype, device=device)
        counts = torch.zeros(1, dtype=torch.int64, device=device)
        return PolishState(zeros, zeros.clone(), counts, torch.full((1,), FIRST_DAMPING, dtype=dtype, device=device))


@torch.no_grad()
def polish(
    weights: Float[Tensor, "P N"], free: Float[Tensor, "P N"], state: PolishState, evaluate: Evaluate
) -> Float[Tensor, " P"]:
    """One step of L-BFGS of each trial; returns the objectives there.

    Args:
        weights: Moved in place.
        free: 1 for numbers that move, 0 for others.
        state: Of the trials.
        evaluate: At the weights as they are.

    Source: Nocedal & Wright (2006), Numerical Optimization, algorithm 7.4, with the weak Wolfe conditions met by
    bisection as in Lewis & Overton (2013), doi:10.1007/s10107-012-0514-2, algorithm 2.6.
    """
    start = weights.clone()
    objectives, gradients = evaluate()
    gradients = gradients * free
    directions = -_inverse_hessian(gradients, state)
    slopes = _dot(gradients, directions)
    uphill = ~(slopes < 0)  # NaN too
    directions = torch.where(uphill.unsqueeze(-1), -gradients, directions)
    slopes = torch.where(uphill, -_dot(gradients, gradients), slopes)
    state.counts[uphill] = 0

    lower, upper = torch.zeros_like(slopes), torch.full_like(slopes, torch.inf)
    # The first step has no curvature to go by: as far as a unit of the whole gradient.
    sizes = torch.where(state.counts > 0, 1, 1 / gradients.abs().sum(-1).clamp(min=1))
    best_sizes, best_objectives = torch.zeros_like(slopes), objectives.clone()
    best_gradients = gradients.clone()
    done = torch.zeros_like(uphill)
    for _ in range(MAX_EVALUATIONS):
        weights.copy_(start + sizes.unsqueeze(-1) * directions)
        found, found_gradients = evaluate()
        found_gradients = found_gradients * free
        falls = found <= objectives + ARMIJO * sizes * slopes
        flat = _dot(found_gradients, directions) >= CURVATURE * slopes
        better = falls & ~done & (found <= best_objectives)
        best_sizes = torch.where(better, sizes, best_sizes)
        best_objectives = torch.where(better, found, best_objectives)
        best_gradients = torch.where(better.unsqueeze(-1), found_gradients, best_gradients)
        done |= falls & flat
        if done.all():
            break
        upper = torch.where(~falls, torch.minimum(upper, sizes), upper)
        lower = torch.where(falls & ~flat, torch.maximum(lower, sizes), lower)
        sizes = torch.where(done, sizes, torch.where(upper.isinf(), 2 * lower, (lower + upper) / 2))
    step = best_sizes.unsqueeze(-1) * directions
    # Where no step falls the weights stay to the bit, also where a direction is no number.
    moved = best_sizes > 0
    weights.copy_(torch.where(moved.unsqueeze(-1), start + step, start))
    _remember(state, step, best_gradients - gradients, moved)
    return best_objectives


def _inverse_hessian(gradients: Float[Tensor, "P N"], state: PolishState) -> Float[Tensor, "P N"]:
    """The two loops over the remembered steps; the gradient itself where there are none."""
    known = torch.arange(MEMORY, device=gradients.device) < state.counts.unsqueeze(-1)
    products = torch.where(known, _dot(state.steps, state.changes), 1)
    q, factors = gradients, []
    for i in range(MEMORY):
        factor = torch.where(known[:, i], _dot(state.steps[:, i], q) / products[:, i], 0)
        q = q - factor.unsqueeze(-1) * state.changes[:, i]
        factors.append(factor)
    newest = _dot(state.changes[:, 0], state.changes[:, 0])
    q = q * torch.where(known[:, 0], products[:, 0] / newest, 1).unsqueeze(-1)
    for i in reversed(range(MEMORY)):
        other = torch.where(known[:, i], _dot(state.changes[:, i], q) / products[:, i], 0)
        q = q + (factors[i] - other).unsqueeze(-1) * state.steps[:, i]
    return q


def _remember(state: PolishState, step: Tensor, change: Tensor, moved: Bool[Tensor, " P"]) -> None:
    """Keep steps along which the objective bends upwards; forget all of a trial that could not move."""
    bends = moved & (_dot(step, change) > 1e-10 * _dot(change, change))
    for memory, newest in ((state.steps, step), (state.changes, change)):
        shifted = torch.cat([newest.unsqueeze(1), memory[:, :-1]], dim=1)
        memory.copy_(torch.where(bends.view(-1, 1, 1), shifted, memory))
    state.counts.copy_(torch.where(moved, (state.counts + bends).clamp(max=MEMORY), 0))


def _dot(a: Float[Tensor, "... N"], b: Float[Tensor, "... N"]) -> Float[Tensor, ...]:
    return (a * b).sum(-1)
