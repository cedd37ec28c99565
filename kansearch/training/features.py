"""What frozen parts of networks make of the rows of a study, kept for the trials that come."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor

MOST_NUMBERS = 2**27
"""Of all that is kept together."""


class FeatureCache:
    """Tables of features, as many as `MOST_NUMBERS` allows; what was not asked for longest goes first."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def get(self, key: Hashable, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Features of the training and of the validation rows.

        Args:
            key: Whatever they depend on.
            make: Computes them where they are not known.
        """
        tables = self._kept.pop(key, None) or make()
        self._kept[key] = tables
        while len(self._kept) > 1 and sum(t.numel() for pair in self._kept.values() for t in pair) > MOST_NUMBERS:
            del self._kept[next(iter(self._kept))]
        return tables
