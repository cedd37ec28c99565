"""Edges with a scale of their own, at the price of a few matrix products.

    y_j = sum_i a_ji f(b_ji x_i) + c_j

f(e^s x) bends so little in s that a polynomial through K nodes follows it: f(b x) = sum_k l_k(log b) f(b_k x), nearly.
So the layer is one matrix product of K numbers of each input, whose weights are a_ji l_k(log b_ji). What is between the
nodes is the polynomial; it is what the layer has, trains and shows. On [-4, 4] and with K = 4, 6, 8 it is within 4e-2,
5e-3 and 8e-4 of tanh, and 9e-3, 4e-4 and 8e-5 of silu (in their largest values there); sin bends too much for it.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, O outputs, K nodes; a, b, c, s as above.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch.models.bases import base_function, copies_of
from kansearch.models.flops import Cost
from kansearch.models.kernel import S_DEVIATION, ProductOfFeatures
from kansearch.models.layer import columns_of

LARGEST_LOG = math.log(4)
"""So b lies between 1/4 and 4."""


class ScaledLayer(ProductOfFeatures):
    """b_ji = 4^tanh(s_ji); of relu, which is its own multiple, the product has one number of each input and is exact.

    Args:
        n_inputs: I.
        n_outputs: O.
        function: Name of the base function.
        n_basis: K.
        generator: Of the weights; None is torch's global one.
        dtype: None is torch's default.

    Raises:
        UserError: If there is no such base function.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        function: str = "tanh",
        *,
        n_basis: int = 6,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.n_basis = n_basis  # before the start, which evaluates the layer
        super().__init__(n_inputs, n_outputs, function, shift=False, generator=generator, dtype=dtype)

    @staticmethod
    def _shape(n_inputs: int, n_outputs: int) -> tuple[int, ...]:
        return n_outputs, n_inputs

    def _spread_scales(self, b: float, generator: torch.Generator | None) -> None:
        u = math.log(b) / LARGEST_LOG
        self.s.normal_(math.atanh(u), S_DEVIATION / LARGEST_LOG / (1 - u * u), generator=generator)

    def scale(self) -> Tensor:
        """All b, shaped like s."""
        return (LARGEST_LOG * self.s.tanh()).exp()

    def features(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B IK"]:
        """f(b_k x_i): those of input 0, those of input 1, and so on."""
        columns = columns_of(x)
        if self.is_exact:
            return self.function(columns).mT
        scales, _ = self._nodes
        return copies_of(self.function, columns, scales, torch.zeros_like(scales)).flatten(-3, -2).mT

    def weight(self) -> Float[Tensor, "*P O IK"]:
        """All a l_k(log b), in the same order."""
        if self.is_exact:
            return self.a * self.scale()
        a, s = (t.flatten(-2) for t in (self.a, self.s))
        of_edges = columns_of(a.unsqueeze(-2) * self._shares_of_nodes(s.tanh()))
        return of_edges.view(*self.a.shape[:-1], -1)

    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """a_ji times the polynomial in log b_ji."""
        a, s = self.a[target, source], self.s[target, source]
        if self.is_exact:
            return a * self.scale()[target, source] * self.function(points)
        at_nodes = self.function(points.unsqueeze(-1) * self._nodes[0])
        return a * (at_nodes @ self._shares_of_nodes(s.tanh().view(1)).squeeze(-1))

    @staticmethod
    def cost(n_inputs: int, n_outputs: int, function: str, n_basis: int = 6, *, shift: bool = False) -> Cost:
        """Of every input K products and values of f (of relu one value); and one matrix product."""
        del shift
        n_edges, f = n_inputs * n_outputs, base_function(function).flops
        n_features, of_feature = (n_inputs, f) if function == "relu" else (n_inputs * n_basis, 1 + f)
        return Cost(2 * n_edges + n_outputs, n_features * of_feature + 2 * n_outputs * n_features)

    @property
    def _nodes(self) -> tuple[Float[Tensor, " K"], Float[Tensor, "K K"]]:
        """In the precision, and on the device, of the layer."""
        return nodes_of(self.n_basis, self.s.dtype, self.s.device)

    @property
    def is_exact(self) -> bool:
        """Whether f is relu, whose multiples are multiples of itself: then there are no nodes."""
        return self.function is base_function("relu")

    def _shares_of_nodes(self, u: Float[Tensor, "*P N"]) -> Float[Tensor, "*P K N"]:
        """l_k at log b / log 4, from Chebyshev polynomials."""
        polynomials = [torch.ones_like(u), u]
        while len(polynomials) < self.n_basis:
            polynomials.append(2 * u * polynomials[-1] - polynomials[-2])
        of_all = torch.stack(polynomials[: self.n_basis], dim=-2)
        to_nodes = self._nodes[1].mT
        if u.dim() == 1:
            return to_nodes @ of_all
        # One product for each network: how one for all of them sums depends on how many they are; and one network
        # alone takes another way through BLAS than in company.
        in_company = of_all.expand(max(2, len(u)), -1, -1)
        return torch.bmm(to_nodes.expand(len(in_company), -1, -1), in_company)[: len(u)]


@cache
def nodes_of(
    n_basis: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K K"]]:
    """The scales b_k at Chebyshev's nodes of log b, and from polynomials T_m to shares l_k.

    Source: Trefethen (2019), Approximation Theory and Approximation Practice, ch. 2 and 4 (points of the first kind).
    """
    angles = (torch.arange(n_basis, dtype=torch.float64) + 0.5) * math.pi / n_basis
    to_nodes = 2 / n_basis * (torch.arange(n_basis).unsqueeze(-1) * angles).cos()
    to_nodes[0] /= 2
    return (LARGEST_LOG * angles.cos()).exp().to(device, dtype), to_nodes.to(device, dtype)
