"""What every layer of a network can do, and the ordinary layer.

Letters: B batch, I inputs, O outputs, K functions of each input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from kansearch.models.flops import Cost


class Layer(nn.Module, ABC):
    """From one row of nodes to the next. No state beside parameters and buffers."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs

    @abstractmethod
    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """The next row of nodes."""

    @abstractmethod
    def decayed_parameters(self) -> list[nn.Parameter]:
        """The weight matrices, on which weight decay acts."""


class CurveLayer(Layer):
    """A KAN layer: a layer whose activation curves are learned.

    A layer starts with unit variance where its inputs are independent with mean 0 and variance 1: each output
    is a sum of curves with a constant that cancels their mean over standard normal inputs. (Curves with a mean,
    such as sigmoid's, would else pass on ever larger constants and ever less of the data, layer by layer.)
    """

    one_curve_an_edge: ClassVar[bool] = True
    """False where a curve belongs to an output node alone."""

    @abstractmethod
    def forward_with_amplitudes(
        self, x: Float[Tensor, "B I"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "O I"] | Float[Tensor, "O 1"]]:
        """The next row of nodes, and the root mean square of each curve over the batch, without constants."""

    @abstractmethod
    def activation_parameters(self) -> list[nn.Parameter]:
        """What shapes the curves beyond their weights; a schedule may freeze it at first."""

    def curve_inputs(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B S"]:
        """What the curves see: column i for those of input i or, where a curve is a node's, column j for node j's."""
        return x

    @abstractmethod
    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """One curve without constants; `source` says nothing where curves belong to nodes."""


class OrdinaryLayer(Layer):
    """y = W x + c, with W ~ N(0, gain^2 / I) and c = 0 at first.

    Args:
        n_inputs: I.
        n_outputs: O.
        gain: 1 / sqrt(mean square) of what the activation before the layer passes on.
        generator: Of the weights; None is torch's global one.
        dtype: None is torch's default.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        gain: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_inputs, n_outputs)
        deviation = gain / math.sqrt(n_inputs)
        self.weight = nn.Parameter(deviation * torch.randn(n_outputs, n_inputs, generator=generator, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(n_outputs, dtype=dtype))

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """W x + c."""
        return functional.linear(x, self.weight, self.bias)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """W."""
        return [self.weight]

    @staticmethod
    def cost(n_inputs: int, n_outputs: int) -> Cost:
        """One matrix product."""
        return Cost(n_outputs * n_inputs + n_outputs, 2 * n_outputs * n_inputs)


def product_amplitudes(features: Float[Tensor, "B IK"], weight: Float[Tensor, "O IK"], n_inputs: int) -> Tensor:
    """Root mean square over the batch of every edge's curve, where curves are weighted sums of features.

    Exact, from the second moments C_i of the features of each input: sqrt(w_ji^T C_i w_ji); no tensor has
    more than B I K, O I K or I K^2 numbers.

    Returns:
        (O, I).
    """
    z = features.reshape(*features.shape[:-1], n_inputs, -1).transpose(-3, -2)
    w = weight.reshape(*weight.shape[:-1], n_inputs, -1).transpose(-3, -2)
    moments = z.mT @ z / z.shape[-2]
    return safe_sqrt(((w @ moments) * w).sum(-1)).mT


def safe_sqrt(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square root, 0 where rounding left a number below 0; its gradient at 0 is 0 and not infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
