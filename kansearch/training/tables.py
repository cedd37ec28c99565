"""The rows of a study as the networks of one structure see them.

Letters: B training rows, V validation rows, F numbers of a row: inputs, or what is made of them.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch.data.splits import Split
from kansearch.models.stack import Stack
from kansearch.specs.trial import ModelSpec
from kansearch.training.batches import Padding
from kansearch.training.features import FeatureCache

PREPARED_NUMBERS = 2**26
"""Largest table of the features of raw inputs that is kept, in numbers."""

CURVE_ROWS, GRID_ROWS = 2048, 4096
CURVE_NUMBERS = 2**24
"""Training rows from which the learned activations are drawn, and to which grids are fitted; as many as give so many
numbers where rows are wide."""


def rows_to_look_at(n_rows: int, widest: int) -> int:
    """So many training rows, or fewer where the widest row of a network's nodes has many numbers."""
    return max(1, min(n_rows, CURVE_NUMBERS // widest))


class Tables:
    """The inputs, or what the first layer makes of them whatever its parameters are, if that is not too much.

    Args:
        split: In the type of numbers that networks compute in.
        stack: Of the networks; it lies where the tables shall lie.
        shared: The structure of the networks.
        padding: Of rows that are evaluated together.
        features: What backbones made of these rows.
        has_moves: Whether images are moved, so that nothing can be made of the training rows beforehand.

    Attributes:
        train_x: Of the training rows.
        train_y: Their targets.
        validation_x: Of the validation rows, and of what fills them up.
        validation_y: Their targets.
        train_weights: Of the training rows in the loss; None where all count alike.
        validation_weights: Likewise.
        are_prepared: Whether they are what `Stack.prepare` gives; otherwise they are inputs.
        are_features: Whether a backbone made them, so that also the networks of trials can go on from them.
    """

    def __init__(
        self,
        split: Split,
        stack: Stack,
        shared: ModelSpec,
        padding: Padding,
        device: torch.device,
        features: FeatureCache,
        *,
        has_moves: bool,
    ) -> None:
        self._split, self._padding = split, padding
        self.train_x, self.train_y = split.train_x.to(device), split.train_y.to(device)
        self.validation_x, self.validation_y = split.validation_x.to(device), split.validation_y.to(device)
        self.train_weights, self.validation_weights = (
            None if weights is None else weights.to(device)
            for weights in (split.train_weights, split.validation_weights)
        )
        self.validation_x = padding.filled(self.validation_x)
        self.are_prepared = not has_moves and _is_worth_it(stack, self.train_x, len(self.validation_x))
        self.are_features = self.are_prepared and stack.backbone is not None
        if self.are_prepared:
            self.train_x, self.validation_x = self._prepared(stack, shared, features)

    @torch.no_grad()
    def _prepared(self, stack: Stack, shared: ModelSpec, features: FeatureCache) -> tuple[Tensor, Tensor]:
        backbone, x, validation_x = stack.backbone, self.train_x, self.validation_x
        # Rows are looked up: each in one piece of memory.
        if backbone is None:
            return stack.prepare(x).contiguous(), stack.prepare(validation_x).contiguous()
        key = shared.backbone, shared.enlarge, backbone.n_fixed + backbone.n_frozen, x.dtype, len(validation_x)
        return features.get(key, lambda: (stack.prepare(x), stack.prepare(validation_x)))

    @cached_property
    def whole_train_x(self) -> Float[Tensor, "_ F"]:
        """The training rows, and what fills them up."""
        return self._padding.filled(self.train_x)

    def first_rows(self, n_rows: int) -> Float[Tensor, "_ F"]:
        """At most so many training rows that the network of a trial can learn from; on the CPU, as it is."""
        return (self.train_x if self.are_features else self._split.train_x)[:n_rows].cpu()

    def validation_rows(self) -> Float[Tensor, "V F"]:
        """The validation rows for the network of a trial, likewise."""
        if not self.are_features:
            return self._split.validation_x
        return self.validation_x[: self._split.n_validation].cpu()


@torch.no_grad()
def _is_worth_it(stack: Stack, x: Float[Tensor, "B _"], n_validation: int) -> bool:
    """Whether the first layer makes something of the rows, and not too much."""
    width = stack.prepare(x[:1]).shape[-1]
    makes_something = stack.backbone.does_work if stack.backbone else width != x.shape[-1]
    return makes_something and (len(x) + n_validation) * width <= PREPARED_NUMBERS
