"""Dominance and hypervolume on plain arrays.

Shapes: N vectors, D objectives. All functions take *losses*: smaller is better in every column, so turn
round what is maximised with `as_losses` first. One vector dominates another if it is nowhere worse and
somewhere better; equal vectors do not dominate each other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Losses = NDArray[np.float64]


def as_losses(values: ArrayLike, maximize: Sequence[bool]) -> Losses:
    """Objective values (N, D) with the maximised columns turned round; a NaN becomes the worst, +inf."""
    signs = np.where(np.asarray(maximize, dtype=bool), -1.0, 1.0)
    losses = np.asarray(values, dtype=np.float64).reshape(-1, len(signs)) * signs
    return np.where(np.isnan(losses), np.inf, losses)


def distinct(losses: Losses) -> Losses:
    """The different ones of some vectors (N, D), by the first objective, then the second, and so on."""
    ordered: Losses = losses[np.lexsort(losses.T[::-1])]
    # np.unique does the same, several times slower.
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(ordered)]
    kept: Losses = ordered[is_new]
    return kept


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


def non_dominated_ranks(losses: Losses) -> NDArray[np.int64]:
    """The front to which each vector belongs (N,): 0 is not dominated, 1 only by those of front 0, and so on.

    Quick for thousands of vectors of one or two objectives; of more it compares each with each.

    Args:
        losses: Different vectors (N, D).

    Source: Deb et al. (2002), NSGA-II, section III.A; for two objectives Jensen (2003), section III.
    """
    ranks = np.full(len(losses), -1, dtype=np.int64)
    if losses.shape[1] > 2:
        dominates = dominance(losses)
        n_above = np.count_nonzero(dominates, axis=0)
        for rank in range(len(losses)):
            front = (ranks < 0) & (n_above == 0)
            if not front.any():
                break
            ranks[front] = rank
            n_above -= np.count_nonzero(dominates[front], axis=0)
        return ranks
    # In the order of the first objective, then the second, only vectors before one can dominate it, and a front does
    # so with its lowest one.
    lowest: list[float] = []
    order = np.lexsort(losses.T[::-1])
    heights = losses[order, 1] if losses.shape[1] == 2 else np.zeros(len(losses))
    for place, height in zip(order.tolist(), heights.tolist(), strict=True):
        rank = bisect_right(lowest, height)
        lowest[rank : rank + 1] = [height]
        ranks[place] = rank
    return ranks


class Fronts:
    """The first fronts of vectors that come one after another.

    A new vector pushes those that it dominates one front back, these push others, and so on; which front it enters
    is found by halving. Vectors behind the last of these fronts are left unsorted until they are asked for.

    Args:
        losses: Different vectors (N, D), to begin with.

    Attributes:
        fronts: Vectors (M, D) of the first front, the second, and so on.
        behind: All others.

    Source: Li et al. (2014), Efficient non-domination level update, section III.
    """

    def __init__(self, losses: Losses) -> None:
        self.fronts: list[Losses] = []
        self.behind = losses

    @property
    def losses(self) -> Losses:
        """All vectors (N, D)."""
        return np.concatenate([*self.fronts, self.behind])

    def front_of(self, vector: Losses) -> int:
        """The front to which a vector (D,) belongs, if it is there, or would belong; their number means behind all."""
        first, last = 0, len(self.fronts)
        while first < last:
            middle = (first + last) // 2
            among = self.fronts[middle]
            if ((among <= vector).all(axis=1) & (among < vector).any(axis=1)).any():
                first = middle + 1
            else:
                last = middle
        return first

    def add(self, vector: Losses) -> None:
        """Let another vector (D,) in, one that is not there yet."""
        coming = vector[None]
        for place in range(self.front_of(vector), len(self.fronts)):
            front = self.fronts[place]
            pushed = (coming[:, None] <= front).all(axis=2).any(axis=0)
            self.fronts[place] = np.concatenate([front[~pushed], coming])
            coming = front[pushed]
            if not len(coming):
                return
        self.behind = np.concatenate([self.behind, coming])

    def hold(self, n_vectors: int) -> None:
        """Keep as many fronts as hold so many vectors, if there are so many, and no more."""
        n_held = sum(map(len, self.fronts))
        while self.fronts and n_held - len(self.fronts[-1]) >= n_vectors:
            n_held -= len(self.fronts[-1])
            self.behind = np.concatenate([self.behind, self.fronts.pop()])
        while n_held < n_vectors and len(self.behind):
            self.fronts.append(self._next_front())
            n_held += len(self.fronts[-1])

    def _next_front(self) -> Losses:
        """Those that no other one behind the fronts dominates."""
        left = self.behind[np.lexsort(self.behind.T[::-1])]
        front, dominated = [], []
        while len(left):
            # Whoever is first in this order is dominated by nobody.
            front.append(left[0])
            is_dominated = (left[0] <= left).all(axis=1)
            is_dominated[0] = False
            dominated.append(left[is_dominated])
            is_dominated[0] = True
            left = left[~is_dominated]
        self.behind = np.concatenate(dominated)
        return np.stack(front)


def dominance_counts(losses: Losses, among: Losses) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By how many of the second vectors (N, D) each of the first (M, D) is dominated, and how many it dominates: (M,).

    Both are different vectors, and the first are among the second.
    """
    above = np.ones((len(losses), len(among)), dtype=np.bool_)
    below = above.copy()
    for own, other in zip(losses.T, among.T, strict=True):
        above &= other[None, :] <= own[:, None]
        below &= own[:, None] <= other[None, :]
    # Each is there itself, too.
    return np.count_nonzero(above, axis=1) - 1, np.count_nonzero(below, axis=1) - 1


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
    different = distinct(losses)
    return different[front_mask(different)]
