"""Backbones: networks that were trained on other data, as the first layer of a network.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, S numbers behind the frozen stages, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from kansearch.models.layer import Layer
from kansearch.models.shapes import Maps

ROWS_AT_ONCE = 64
"""Rows that frozen stages see at once."""


class Backbone(Layer):
    """Stages of a trained network, of which the last ones may learn; then each row is normalised.

    Stages that learn have parameters; those of the others are buffers that are no part of `state_dict`. Batch norms
    keep their statistics, and nothing is dropped: rows depend on nothing but themselves.

    Args:
        stages: First to last, trained.
        source: What it sees.
        seen: Shape of what each stage sees of one row, and of what comes out of the last.
        n_tuned: How many of the last stages learn.
        dtype: Of all numbers.

    Attributes:
        n_frozen: Of the stages that learn one day, how many (the first ones) still are as they were trained. `prepare`
            does their work too, once for all networks of a stack.
    """

    of_stem = True

    def __init__(
        self,
        stages: Sequence[nn.Module],
        source: Maps,
        seen: Sequence[tuple[int, ...]],
        n_tuned: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(source.nodes, math.prod(seen[-1]))
        self.source = source
        self.seen = tuple(seen)
        n_tuned = min(n_tuned, len(stages))
        self.n_fixed = len(stages) - n_tuned
        self.n_frozen = 0
        self.tuned = nn.ModuleList(deepcopy(stage).to(dtype) for stage in stages[self.n_fixed :])
        self.fixed = nn.ModuleList(_without_parameters(stage).to(dtype) for stage in stages)
        self.tuned.eval()
        self.fixed.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Only the flag: what stages do never depends on it."""
        self.training = mode
        return self

    def prepare(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B S"]:
        """What frozen stages give, without gradients."""
        with torch.no_grad():
            # So many rows for each network of a stack, whoever else is in it: they decide the last bit.
            parts = [part for rows in x.reshape(-1, *x.shape[-2:]) for part in rows.split(ROWS_AT_ONCE)]
            given = torch.cat([self._frozen(part) for part in parts])
        return given.view(*x.shape[:-1], -1)

    def mix(self, prepared: Float[Tensor, "*P B S"]) -> Float[Tensor, "*P B F"]:
        """The stages that learn."""
        first = self.n_fixed + self.n_frozen
        stages = list(self.tuned)[self.n_frozen :]
        x = prepared
        if stages and prepared.dim() == 2:
            x = prepared.reshape(-1, *self.seen[first])
            for stage in stages:
                x = stage(x)
            x = x.flatten(1)
        elif stages:
            x = self._each(stages, prepared.reshape(*prepared.shape[:2], *self.seen[first]))
        return functional.layer_norm(x, x.shape[-1:])

    @property
    def does_work(self) -> bool:
        """Whether `prepare` spares others some work."""
        return self.n_fixed + self.n_frozen > 0

    def stage_parameters(self) -> list[list[nn.Parameter]]:
        """Of each stage that learns, first to last."""
        return [list(stage.parameters()) for stage in self.tuned]

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The weights of convolutions and matrices in stages that learn; a stage of kansearch's layers says itself."""
        found: list[nn.Parameter] = []
        for stage in self.tuned:
            own = getattr(stage, "decayed_parameters", None)
            found += own() if own else [parameter for parameter in stage.parameters() if parameter.dim() > 1]
        return found

    def _frozen(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B S"]:
        x = self._entry(x)
        for stage in list(self.fixed)[: self.n_fixed + self.n_frozen]:
            x = stage(x)
        return x.flatten(1)

    def _entry(self, x: Float[Tensor, "B I"]) -> Tensor:
        """As the first stage sees it: images of three channels, enlarged."""
        if len(self.seen[0]) == 1:
            return x
        images = x.view(-1, self.source.channels, self.source.height, self.source.width)
        size = self.seen[0][1:]
        if images.shape[-2:] != size:
            images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return images.expand(-1, self.seen[0][0], -1, -1)

    def _each(self, stages: Sequence[nn.Module], x: Float[Tensor, "P B *maps"]) -> Float[Tensor, "P B F"]:
        """One network of a stack after the other, with its own parameters."""
        rows = list(x.unbind())
        for stage in stages:
            parameters = {name: parameter.unbind() for name, parameter in stage.named_parameters()}
            own = ({name: of_networks[index] for name, of_networks in parameters.items()} for index in range(len(rows)))
            rows = [
                cast("Tensor", functional_call(stage, of_one, (row,))) for of_one, row in zip(own, rows, strict=True)
            ]
        return torch.stack([row.flatten(1) for row in rows])


def _without_parameters(stage: nn.Module) -> nn.Module:
    """The stage with its parameters as buffers that nobody saves; they share the memory."""
    for module in stage.modules():
        for name, parameter in list(module._parameters.items()):  # noqa: SLF001 - no other way to make them buffers
            if parameter is not None:
                del module._parameters[name]  # noqa: SLF001 - likewise
                module.register_buffer(name, parameter.detach(), persistent=False)
        module._non_persistent_buffers_set.update(module._buffers)  # noqa: SLF001 - likewise
    return stage
