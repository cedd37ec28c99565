"""What every layer of a network can do, and the ordinary layer.

A layer works on one network or on a stack of them: with parameters of P networks on a leading axis it takes
inputs of P networks on a leading axis. What is said of shapes holds for each network of the stack.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, O outputs, K functions of each input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from kansearch.models.flops import Cost


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that refuses to be differentiated itself.

    torch's own `once_differentiable` does so only where the gradient that comes in needs one, and else leaves the
    second derivative out without a word.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("the layers of kansearch have first derivatives only; create_graph=True asks for more")
        return backward(ctx, *gradients)

    return checked


class Layer(nn.Module, ABC):
    """From one row of nodes to the next. No state beside parameters and buffers."""

    is_affine = False
    """Whether nothing of it bends: between two such layers stands an activation."""

    of_stem: ClassVar[bool] = False
    """Whether it stands before the layers that a network's depth counts."""

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
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P T S"]]:
        """The next row of nodes, and the root mean square of each curve over the batch, without constants.

        Curves are those of T outputs by S inputs; S is 1 where a curve is a node's, and T and S are a window's in a
        convolution.

        Args:
            prepared: What `prepare` gave.
            shares: Weight of each row in the mean; they add up to 1.
        """

    def forward_with_amplitudes(
        self, x: Float[Tensor, "*P B I"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P T S"]]:
        """The next row of nodes, and the amplitudes, every row of the batch weighted the same."""
        return self.mix_with_amplitudes(self.prepare(x), even_shares(x))

    @abstractmethod
    def activation_parameters(self) -> list[nn.Parameter]:
        """What shapes the curves beyond their weights; a schedule may freeze it at first."""

    def curve_inputs(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B S"]:
        """What the curves see: column i for those of input i or, where a curve is a node's, column j for node j's."""
        return x

    def curve_column(self, source: int, target: int) -> int:
        """Which column of `curve_inputs` a curve sees."""
        return source if self.one_curve_an_edge else target

    @abstractmethod
    def curve_moments(self, x: Float[Tensor, "B I"]) -> tuple[Float[Tensor, "T S"], Float[Tensor, "T S"]]:
        """Mean and standard deviation of each curve over the batch, without constants."""

    @abstractmethod
    def drop(self, curves: Bool[Tensor, "T S"], means: Float[Tensor, "T S"]) -> None:
        """Replace some curves by constants.

        Args:
            curves: Which.
            means: The constants, of which those of the other curves are not used.
        """

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

    is_affine = True

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
    x: Float[Tensor, "*P B I"], weight: Float[Tensor, "*Q O I"], constant: Float[Tensor, "*Q O"] | None = None
) -> Float[Tensor, "*P B O"]:
    """W x + c for each row; *Q is *P, or nothing where one network serves all rows."""
    if weight.dim() == 2:
        return functional.linear(x, weight, constant)
    y: Tensor = _Affine.apply(x, weight, constant)  # type: ignore[no-untyped-call]  # apply has no types
    return y


def columns_of(x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P I B"]:
    """Rows side by side, in memory too."""
    columns: Tensor = _Columns.apply(x)  # type: ignore[no-untyped-call]  # apply has no types
    return columns


class _Affine(torch.autograd.Function):
    """The affine map of a stack of networks.

    Autograd's own gradient of W is a transposed product, which costs up to half of the step more to put in order.
    And what leaves here lies row by row, and the gradient of x as x lies, row by row or rows side by side: through
    tensors of mixed order elementwise functions take other ways for one network than for many, and differ in their
    last bit.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, constant: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, constant)
        if _side_by_side(x):
            return _product(weight, x.mT, None if constant is None else constant.unsqueeze(-1)).mT.contiguous()
        return _product(x, weight.mT, None if constant is None else constant.unsqueeze(-2))

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, constant = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _product(weight.mT, gradient.mT).mT if _side_by_side(x) else _product(gradient, weight)
        return of_x, _product(gradient.mT, x), None if constant is None else gradient.sum(-2)


def _side_by_side(x: Float[Tensor, "P B I"]) -> bool:
    """Whether the rows of each network lie so in memory; those of all networks may be the same."""
    n_rows, n_inputs = x.shape[-2:]
    return n_rows > 1 and n_inputs > 1 and x.stride(-2) == 1 and x.stride(-1) == n_rows


class _Columns(torch.autograd.Function):
    """Rows side by side; the gradient comes back row by row, for the reason that _Affine has."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.mT.contiguous()

    @staticmethod
    @differentiable_once
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient.mT.contiguous()


def _product(
    a: Float[Tensor, "P M K"], b: Float[Tensor, "P K N"], addend: Float[Tensor, "P _ _"] | None = None
) -> Float[Tensor, "P M N"]:
    """Matrix products of a stack, with something added."""
    n_rows, n_terms, n_columns = *a.shape[1:], b.shape[2]
    if len(a) == 1 and (1 in (n_rows, n_columns) or (n_terms == 1 and addend is not None)):
        # One product with one column takes another way through BLAS than many such products, and differs in its last
        # bit; MKL on Intel's processors likewise rounds a sum of one term and an addend twice where it stands alone,
        # and once in company. test_a_product_has_in_company_the_bits_that_it_has_alone watches it.
        both = None if addend is None else addend.expand(2, -1, -1)
        return _product(a.expand(2, -1, -1), b.expand(2, -1, -1), both)[:1]
    return torch.bmm(a, b) if addend is None else torch.baddbmm(addend, a, b)


def _in_order(x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B I"]:
    """The same, whose gradient comes back in the order in which it lies, for the reason that _Affine has."""
    y: Tensor = _InOrder.apply(x)  # type: ignore[no-untyped-call]  # apply has no types
    return y


class _InOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.side_by_side = x.dim() > 2 and _side_by_side(x)
        return x.view_as(x)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.mT.contiguous().mT if ctx.side_by_side else gradient.contiguous()


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
    z = torch.unflatten(_in_order(features), -1, (n_inputs, -1)).transpose(-3, -2)
    w = torch.unflatten(weight, -1, (n_inputs, -1)).transpose(-3, -2)
    moments = z.mT @ (z * shares.unsqueeze(-1))
    return safe_sqrt(((w @ moments) * w).sum(-1)).mT


def product_moments(
    features: Float[Tensor, "B IK"], weight: Float[Tensor, "O IK"], n_inputs: int
) -> tuple[Float[Tensor, "O I"], Float[Tensor, "O I"]]:
    """Mean and standard deviation over the batch of every edge's curve, where curves are weighted sums of features."""
    mean = features.mean(0)
    means = torch.unflatten(weight * mean, -1, (n_inputs, -1)).sum(-1)
    return means, product_amplitudes(features - mean, weight, n_inputs, even_shares(features))


def safe_sqrt(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square root, 0 where rounding left a number below 0; its gradient at 0 is 0 and not infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
