"""What every layer of a network can do, and the ordinary layer.

A layer works on one network or on a stack of them: with parameters of P networks on a leading axis it takes
inputs of P networks on a leading axis. What is said of shapes holds for each network of the stack.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, O outputs, K functions of each input.
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

    def forward(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """The next row of nodes."""
        return self.mix(self.prepare(x))

    def prepare(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B F"]:
        """All that depends on the inputs alone: for inputs that never change it is computed once."""
        return x

    @abstractmethod
    def mix(self, prepared: Float[Tensor, "*P B F"]) -> Float[Tensor, "*P B O"]:
        """The next row of nodes, from what `prepare` gave."""

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
    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B F"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P O I"] | Float[Tensor, "*P O 1"]]:
        """The next row of nodes, and the root mean square of each curve over the batch, without constants.

        Args:
            prepared: What `prepare` gave.
            shares: Weight of each row in the mean; they add up to 1.
        """

    def forward_with_amplitudes(
        self, x: Float[Tensor, "*P B I"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P O I"] | Float[Tensor, "*P O 1"]]:
        """The next row of nodes, and the amplitudes, every row of the batch weighted the same."""
        return self.mix_with_amplitudes(self.prepare(x), even_shares(x))

    @abstractmethod
    def activation_parameters(self) -> list[nn.Parameter]:
        """What shapes the curves beyond their weights; a schedule may freeze it at first."""

    def curve_inputs(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B S"]:
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

    def mix(self, prepared: Float[Tensor, "*P B F"]) -> Float[Tensor, "*P B O"]:
        """W x + c."""
        return affine(prepared, self.weight, self.bias)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """W."""
        return [self.weight]

    @staticmethod
    def cost(n_inputs: int, n_outputs: int) -> Cost:
        """One matrix product."""
        return Cost(n_outputs * n_inputs + n_outputs, 2 * n_outputs * n_inputs)


def affine(
    x: Float[Tensor, "*P B I"], weight: Float[Tensor, "*P O I"], constant: Float[Tensor, "*P O"] | None = None
) -> Float[Tensor, "*P B O"]:
    """W x + c for each row."""
    if weight.dim() == 2:
        return functional.linear(x, weight, constant)
    if weight.shape[:2] == (1, 1):
        # One product with one column takes another way through BLAS, and differs in its last bit from what it is in
        # company. test_a_trial_has_the_curve_that_it_has_alone watches it.
        columns = constant if constant is None else constant.expand(2, -1)
        return affine(x.expand(2, -1, -1), weight.expand(2, -1, -1), columns)[:1]
    if constant is None:
        return torch.bmm(x, weight.mT)
    return torch.baddbmm(constant.unsqueeze(-2), x, weight.mT)


def even_shares(x: Float[Tensor, "*P B I"]) -> Float[Tensor, " B"]:
    """Weights of the rows in a plain mean."""
    return x.new_full((x.shape[-2],), 1 / x.shape[-2])


def product_amplitudes(
    features: Float[Tensor, "*P B IK"], weight: Float[Tensor, "*P O IK"], n_inputs: int, shares: Float[Tensor, " B"]
) -> Float[Tensor, "*P O I"]:
    """Root mean square over the batch of every edge's curve, where curves are weighted sums of features.

    Exact, from the second moments C_i of the features of each input: sqrt(w_ji^T C_i w_ji); no tensor has
    more than B I K, O I K or I K^2 numbers.

    Args:
        features: K of input 0, K of input 1, and so on.
        weight: In the same order.
        n_inputs: I.
        shares: Weight of each row in the mean; they add up to 1.
    """
    z = torch.unflatten(features, -1, (n_inputs, -1)).transpose(-3, -2)
    w = torch.unflatten(weight, -1, (n_inputs, -1)).transpose(-3, -2)
    moments = z.mT @ (z * shares.unsqueeze(-1))
    return safe_sqrt(((w @ moments) * w).sum(-1)).mT


def safe_sqrt(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square root, 0 where rounding left a number below 0; its gradient at 0 is 0 and not infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
