"""The bar that every network has to pass: what one answer for all rows measures."""

from __future__ import annotations

from kansearch.specs.base import Spec


class ConstantAnswer(Spec):
    """What the best answer that is the same for every row measures on the validation rows.

    Training rows choose it: their most frequent class, for probabilities the shares of their classes; the mean of their
    targets, for mae the median.

    Attributes:
        metrics: By name; left out are those that cannot be measured there.
        n_validation: Validation rows.
    """

    metrics: dict[str, float]
    n_validation: int
