"""Dominance and hypervolume on plain arrays.

Shapes: N vectors, D objectives. All functions take *losses*: smaller is better in every column, so turn
round what is maximised with `as_losses` first. One vector dominates another if it is nowhere worse and
somewhere better; equal vectors do not dominate each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Losses = NDArray[np.float64]


def as_losses(values: ArrayLike, maximize: Sequence[bool]) -> Losses:
    """Objective values (N, D) with the maximised columns turned round; a NaN becomes the worst, +inf."""
    signs = np.where(np.asarray(maximize, dtype=bool), -1.0, 1.0)
    losses = np.asarray(values, dtype=np.float64).reshape(-1, len(signs)) * signs
    return np.where(np.isnan(losses), np.inf, losses)


def dominance(losses: Losses) -> NDArray[np.bool_]:
    """Matrix (N, N) whose entry [i, j] says that vector i dominates vector j."""
    nowhere_worse = np.ones((len(losses), len(losses)), dtype=np.bool_)
    # A column at a time: a reduction over a last axis of two or three is many times slower.
    for column in losses.T:
        nowhere_worse &= column[:, None] <= column[None, :]
    return nowhere_worse & ~nowhere_worse.T


def front_mask(losses: Losses) -> NDArray[np.bool_]:
    """Which vectors no other one dominates: a mask (N,)."""
    return np.asarray(~dominance(losses).any(axis=0))


def non_dominated_ranks(dominates: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The front to which each vector belongs (N,): 0 is not dominated, 1 only by those of front 0, and so on.

    Args:
        dominates: The matrix (N, N) of `dominance`.

    Source: Deb et al. (2002), NSGA-II, section III.A.
    """
    n_above = np.count_nonzero(dominates, axis=0)
    ranks = np.full(len(dominates), -1, dtype=np.int64)
    for rank in range(len(dominates)):
        front = (ranks < 0) & (n_above == 0)
        if not front.any():
            break
        ranks[front] = rank
        n_above -= np.count_nonzero(dominates[front], axis=0)
    return ranks


@dataclass(frozen=True)
class Standings:
    """How each of some vectors stands among the others; arrays (N,).

    Attributes:
        ranks: The front to which it belongs, as in `non_dominated_ranks`.
        n_dominators: How many dominate it.
        n_dominated: How many it dominates.
    """

    ranks: NDArray[np.int64]
    n_dominators: NDArray[np.int64]
    n_dominated: NDArray[np.int64]


def standings(losses: Losses) -> Standings:
    """How different vectors (N, D) stand among each other; quick for thousands of them where D is one or two."""
    if losses.shape[1] > 2:
        dominates = dominance(losses)
        return Standings(non_dominated_ranks(dominates), dominates.sum(axis=0), dominates.sum(axis=1))
    # In the order of the first objective, then the second, a vector is dominated by those before it that are nowhere
    # higher in the last one.
    order = np.lexsort(losses.T[::-1])
    heights = (losses[order, 1] if losses.shape[1] == 2 else np.zeros(len(losses))).tolist()
    ranks, above, below = [], [], []
    seen: list[float] = []
    lowest: list[float] = []  # of each front so far; never falls from one to the next
    for height in heights:
        above.append(bisect_right(seen, height))
        insort(seen, height)
        rank = bisect_right(lowest, height)
        lowest[rank : rank + 1] = [height]
        ranks.append(rank)
    seen.clear()
    for height in reversed(heights):
        below.append(len(seen) - bisect_left(seen, height))
        insort(seen, height)
    place = np.argsort(order)
    return Standings(np.array(ranks)[place], np.array(above)[place], np.array(below[::-1])[place])


def hypervolume(losses: Losses, reference: ArrayLike) -> float:
    """The volume that the vectors dominate, bounded by a reference vector (D,).

    Vectors that do not lie below the reference in every objective add nothing; no vectors have volume 0.

    Raises:
        ValueError: If the reference is not finite.

    Source: Zitzler & Thiele (1999); computed by slicing along the last objective (While et al. 2006).
    """
    bound: Losses = np.asarray(reference, dtype=np.float64)
    if not np.isfinite(bound).all():
        raise ValueError(f"the reference of a hypervolume is {bound.tolist()}; it must be finite")
    inside = losses[(losses < bound).all(axis=1)]
    return _volume(inside, bound)


def _volume(losses: Losses, bound: Losses) -> float:
    if not len(losses):
        return 0.0
    if losses.shape[1] == 1:
        return float(bound[0] - losses.min())
    losses = losses[np.argsort(losses[:, -1], kind="stable")]
    heights = np.append(losses[1:, -1], bound[-1]) - losses[:, -1]
    if losses.shape[1] == 2:
        widths = bound[0] - np.minimum.accumulate(losses[:, 0])
        return float(widths @ heights)
    return sum(
        float(height) * _volume(_front(losses[: position + 1, :-1]), bound[:-1])
        for position, height in enumerate(heights)
        if height > 0
    )


def _front(losses: Losses) -> Losses:
    unique = np.unique(losses, axis=0)
    return unique[front_mask(unique)]
