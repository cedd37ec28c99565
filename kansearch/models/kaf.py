"""Kernel activation functions: nodes whose activations are sums over a fixed dictionary.

    y_j = sum_k a_jk f(beta_k (W x)_j + gamma_k) + c_j

Source: Scardapane et al. (2017), arXiv:1707.04035, section 3, whose f is Gaussian; here it may be any base function.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, O outputs, K functions of each node.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kansearch.models.bases import base_function, copies_of
from kansearch.models.flops import Cost
from kansearch.models.kernel import NodeCurves
from kansearch.models.layer import columns_of
from kansearch.models.moments import REACH, normal_moments, normal_quadrature

RIDGE = 1e-4
"""Of the regression that gives the curves at first; the larger it is the smaller are their coefficients."""

NODES_OF_COPY, MOST_NODES = 20, 200_001
"""Of the quadrature: for each copy that is 1 / scale wide, and altogether."""

LEAST_VARIANCE = 1e-6
"""Of what the regression gives; of less nothing is made: the functions are too wide or too narrow for the inputs."""


class KAFLayer(NodeCurves):
    """One matrix product, then each node's own mixture of K fixed functions.

    W ~ N(0, 1 / I) at first. The nodes differ by it, so all begin with the same curve: the ridge regression of silu,
    scaled such that outputs have mean 0 and variance 1.

    Args:
        n_inputs: I.
        n_outputs: O.
        function: Name of the base function.
        n_basis: K.
        grid_range: The K functions are spread over [-grid_range, grid_range].
        generator: Of the weights; None is torch's global one.
        dtype: None is torch's default.

    Raises:
        UserError: If there is no such base function.
    """

    scales: Tensor
    shifts: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        function: str = "gaussian",
        *,
        n_basis: int = 8,
        grid_range: float = 2.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_inputs, n_outputs)
        self.function = base_function(function)
        dtype = dtype or torch.get_default_dtype()
        for name, values in zip(("scales", "shifts"), self.function.spread(n_basis, grid_range), strict=True):
            self.register_buffer(name, values.to(dtype), persistent=False)
        drawn = torch.randn(n_outputs, n_inputs, generator=generator, dtype=dtype)
        self.W = nn.Parameter(drawn / math.sqrt(n_inputs))
        coefficients, constant = _start(function, n_basis, grid_range)
        self.a = nn.Parameter(torch.tensor(coefficients, dtype=dtype).repeat(n_outputs, 1))
        self.c = nn.Parameter(torch.full((n_outputs,), constant, dtype=dtype))

    def _curves(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        functions = self._functions(columns_of(self.curve_inputs(x)))
        return columns_of((self.a.unsqueeze(-1) * functions).sum(-2))

    def _functions(self, u: Float[Tensor, "*P O B"]) -> Float[Tensor, "*P O K B"]:
        return copies_of(self.function, u, self.scales, self.shifts)

    def activation_parameters(self) -> list[nn.Parameter]:
        """The coefficients and the constants."""
        return [self.a, self.c]

    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """The mixture of one node."""
        del source
        return self.a[target] @ self._functions(points.unsqueeze(0))[0]

    @staticmethod
    def cost(n_inputs: int, n_outputs: int, function: str, n_basis: int) -> Cost:
        """Of every node: its sum of products (no bias); K times beta u + gamma, f, and its part of the sum; and + c."""
        of_node = 2 * n_inputs - 1 + n_basis * (2 + base_function(function).flops + 2)
        return Cost(n_outputs * (n_inputs + n_basis + 1), n_outputs * of_node)


@cache
def _start(function: str, n_basis: int, grid_range: float) -> tuple[list[float], float]:
    """The K coefficients and the constant with which a node begins."""
    f = base_function(function)
    scales, shifts = f.spread(n_basis, grid_range)

    def functions(z: Tensor) -> Tensor:
        return f(z.unsqueeze(-1) * scales + shifts)

    # Copies narrower than the distance of the nodes would fall between them.
    n_nodes = int(min(MOST_NODES, max(241, NODES_OF_COPY * 2 * REACH * scales.abs().max().item())))
    nodes, weights = normal_quadrature(n_nodes)
    features, wanted = functions(nodes), base_function("silu")(nodes)
    weighted = features.mT * weights
    ridge = RIDGE * torch.eye(n_basis, dtype=torch.float64)
    coefficients = torch.linalg.solve(weighted @ features + ridge, weighted @ wanted)
    mean, variance = normal_moments(lambda z: functions(z) @ coefficients, n_nodes)
    gain = 1 / math.sqrt(max(variance.item(), LEAST_VARIANCE))
    return (gain * coefficients).tolist(), -gain * mean.item()
