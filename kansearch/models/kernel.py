"""Activations with learned amplitudes, scales and shifts: one base function f, scaled and shifted.

    edge    y_j = sum_i a_ji f(b_ji x_i + d_ji) + c_j      every edge has its own
    shared  y_j = sum_i a_ji f(b_i x_i + d_i) + c_j        all edges of an input share b and d
    node    y_j = a_j f(b_j (W x)_j + d_j) + c_j           every output node has its own

b = exp(s) with s clamped to [-MAX_S, MAX_S]: scales stay positive (the sign of an odd f lives in a, and of W).
Without the shift d an odd f makes every layer odd: it cannot learn x^2.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, O outputs; a, b, c, d, s as above.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kansearch.models import curves
from kansearch.models.bases import BaseFunction, base_function
from kansearch.models.flops import Cost
from kansearch.models.layer import (
    CurveLayer,
    affine,
    columns_of,
    differentiable_once,
    product_amplitudes,
    product_moments,
    safe_sqrt,
)
from kansearch.models.moments import normal_moments, normal_quadrature

MAX_S = 3.0
"""So b lies between 1/20 and 20."""

S_DEVIATION = 0.3
D_DEVIATION = 1.0
"""Spread of s and d around the base function's start, where nothing else makes curves differ."""

N_NODES = 49
"""Of the quadratures of curves that are about as wide as their inputs."""

PIECE_NUMBERS = 2**16
"""Curve values that an edge layer evaluates at once for each network: few fit a cache, but every call costs."""

KEPT_NUMBERS = 2**24
"""Curve values of a stack that an edge layer keeps for the backward pass; of more it evaluates all once again."""


class KernelActivation(CurveLayer):
    """A layer of scaled and shifted copies of one base function.

    Args:
        n_inputs: I.
        n_outputs: O.
        function: Name of the base function.
        shift: With d; without it the literal forms, such as a f(b x) + c.
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
        shift: bool = True,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_inputs, n_outputs)
        self.function = base_function(function)
        self.s = nn.Parameter(torch.zeros(self._shape(n_inputs, n_outputs), dtype=dtype))
        self.d = nn.Parameter(torch.zeros_like(self.s)) if shift else None
        self.c = nn.Parameter(torch.zeros(n_outputs, dtype=dtype))
        self._start(function, generator)

    @staticmethod
    @abstractmethod
    def _shape(n_inputs: int, n_outputs: int) -> tuple[int, ...]:
        """Of s and d."""

    @abstractmethod
    def _start(self, function: str, generator: torch.Generator | None) -> None:
        """Make a, and whatever else starts at random, and centre the outputs by c."""

    @staticmethod
    @abstractmethod
    def cost(n_inputs: int, n_outputs: int, function: str, *, shift: bool = True) -> Cost:
        """In closed form."""

    def scale(self) -> Tensor:
        """All b, shaped like s."""
        return self.s.clamp(-MAX_S, MAX_S).exp()

    def activation_parameters(self) -> list[nn.Parameter]:
        """What scales and shifts inside f."""
        return [self.s] if self.d is None else [self.s, self.d]

    def _activated(self, x: Tensor) -> Tensor:
        """f(b x + d) of rows, where b and d have one place for each column."""
        phase = self.scale().unsqueeze(-2) * x
        return self.function(phase if self.d is None else phase + self.d.unsqueeze(-2))

    def _activated_at(self, place: Any, points: Tensor) -> Tensor:
        """f(b x + d) of points, with the b and d of one place."""
        phase = self.scale()[place] * points
        return self.function(phase if self.d is None else phase + self.d[place])


class EdgeWeights(KernelActivation):
    """The forms whose every edge has a weight: a ~ N(0, g^2 / I) at first, s and d spread."""

    def _start(self, function: str, generator: torch.Generator | None) -> None:
        _, variance = _moments(function, shift=self.d is not None, spread=True)
        shape = (self.n_outputs, self.n_inputs)
        deviation = 1 / math.sqrt(self.n_inputs * variance)
        self.a = nn.Parameter(deviation * torch.randn(shape, generator=generator, dtype=self.s.dtype))
        with torch.no_grad():
            b, d = self.function.start
            self._spread_scales(b, generator)
            if self.d is not None:
                self.d.normal_(d, D_DEVIATION, generator=generator)
            # The mean of a sum is the sum of the means, so all inputs may take the same value at once.
            nodes, weights = (t.to(self.s.dtype) for t in normal_quadrature(N_NODES))
            self.c.copy_(-(weights @ self(nodes.unsqueeze(-1).expand(-1, self.n_inputs))))

    def _spread_scales(self, b: float, generator: torch.Generator | None) -> None:
        """Let s spread around the base function's own scale."""
        self.s.normal_(math.log(b), S_DEVIATION, generator=generator)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """All a."""
        return [self.a]

    @torch.no_grad()
    def drop(self, curves: Bool[Tensor, "O I"], means: Float[Tensor, "O I"]) -> None:
        """Set their a to 0."""
        self.c.add_((means * curves).sum(-1))
        self.a[curves] = 0


class EdgeLayer(EdgeWeights):
    """y_j = sum_i a_ji f(b_ji x_i + d_ji) + c_j: every edge on every row, exactly, some outputs at a time."""

    @staticmethod
    def _shape(n_inputs: int, n_outputs: int) -> tuple[int, ...]:
        return n_outputs, n_inputs

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """Sums over the edges."""
        return self._sums(prepared, None)[0] + self.c.unsqueeze(-2)

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B I"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P O I"]]:
        """The same sums; amplitudes from squares summed on the way."""
        sums, squares = self._sums(prepared, shares)
        return sums + self.c.unsqueeze(-2), self.a.abs() * safe_sqrt(squares)

    @torch.no_grad()
    def curve_moments(self, x: Float[Tensor, "B I"]) -> tuple[Float[Tensor, "O I"], Float[Tensor, "O I"]]:
        """Output by output."""
        b = self.scale()
        moments = []
        for j in range(self.n_outputs):
            values = self.a[j] * self.function(b[j] * x if self.d is None else b[j] * x + self.d[j])
            moments.append((values.mean(0), values.std(0, correction=0)))
        means, deviations = zip(*moments, strict=True)
        return torch.stack(means), torch.stack(deviations)

    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """a_ji f(b_ji x + d_ji)."""
        return self.a[target, source] * self._activated_at((target, source), points)

    @staticmethod
    def cost(n_inputs: int, n_outputs: int, function: str, *, shift: bool = True) -> Cost:
        """Of every edge: b x, + d, f, a f, and its part of the sum."""
        n_edges = n_inputs * n_outputs
        return Cost((2 + shift) * n_edges + n_outputs, n_edges * (3 + shift + base_function(function).flops))

    def _sums(self, x: Float[Tensor, "*P B I"], shares: Float[Tensor, " B"] | None) -> tuple[Tensor, Tensor]:
        alone = self.a.dim() == 2
        rows, a, b = (t.unsqueeze(0) if alone else t for t in (x, self.a, self.scale()))
        d = self.d.unsqueeze(0) if alone and self.d is not None else self.d
        if curves.serves_edges(self.function.compiled, shares, rows, a, b, d):
            of_all = curves.edge_sums(self.function.compiled, shares, rows, a, b, d)
        else:
            arguments = (self.function, torch.is_grad_enabled(), shares, rows, a, b, d)
            of_all = _EdgeSums.apply(*arguments)  # type: ignore[no-untyped-call]  # apply has no types
        sums, squares = (t[0] for t in of_all) if alone else of_all
        return sums, squares


class _EdgeSums(torch.autograd.Function):
    """Sums over the edges, and weighted sums over the rows of the squares of f where the rows have shares.

    Autograd's own chain takes twice as long: it goes through memory once more for each of a, b, d and f.
    Rows lie side by side in memory (last), for few layers have as many inputs as vectorised code likes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        function: BaseFunction,
        keep: bool,
        shares: Float[Tensor, " B"] | None,
        x: Float[Tensor, "P B I"],
        a: Float[Tensor, "P O I"],
        b: Float[Tensor, "P O I"],
        d: Float[Tensor, "P O I"] | None,
    ) -> tuple[Float[Tensor, "P B O"], Float[Tensor, "P O I"]]:
        columns = columns_of(x)
        keep = keep and a.numel() * x.shape[-2] <= KEPT_NUMBERS
        ctx.kept, ctx.function = [], function
        ctx.save_for_backward(shares, columns, a, b, d)
        sums, squares = [], []
        for outputs in _pieces(a, columns):
            if keep:
                phase, values = _edge_values(function, columns, b, d, outputs)
                ctx.kept.append((phase, values))
                values = values.detach()
            else:
                values = function(_phases(columns, b, d, outputs))
            sums.append((a[:, outputs].unsqueeze(-2) @ values).squeeze(-2))
            if shares is not None:
                squares.append((values.square() * shares).sum(-1))
        return torch.cat(sums, dim=1).mT.contiguous(), torch.cat(squares, dim=1) if squares else torch.zeros_like(a)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_sums: Float[Tensor, "P B O"], of_squares: Float[Tensor, "P O I"]) -> tuple[Any, ...]:
        shares, columns, a, b, d = ctx.saved_tensors
        of_sums = of_sums.mT.contiguous()
        of_a, of_b = torch.empty_like(a), torch.empty_like(b)
        of_d = None if d is None else torch.empty_like(d)
        of_columns = torch.zeros_like(columns) if ctx.needs_input_grad[3] else None
        for piece, outputs in enumerate(_pieces(a, columns)):
            phase, values = ctx.kept[piece] if ctx.kept else _edge_values(ctx.function, columns, b, d, outputs)
            of_output = of_sums[:, outputs].unsqueeze(-2)
            of_values = a[:, outputs].unsqueeze(-1) * of_output
            if shares is not None:
                of_values += values.detach() * (2 * of_squares[:, outputs].unsqueeze(-1) * shares)
            (of_phase,) = torch.autograd.grad(values, phase, of_values, retain_graph=True)
            of_a[:, outputs] = torch.mul(values.detach(), of_output, out=of_values).sum(-1)
            if of_d is not None:
                of_d[:, outputs] = of_phase.sum(-1)
            if of_columns is not None:
                of_columns += torch.mul(of_phase, b[:, outputs].unsqueeze(-1), out=of_values).sum(1)
            of_b[:, outputs] = torch.mul(of_phase, columns.unsqueeze(1), out=of_values).sum(-1)
        return None, None, None, None if of_columns is None else of_columns.mT.contiguous(), of_a, of_b, of_d


def _pieces(a: Float[Tensor, "P O I"], columns: Float[Tensor, "P I B"]) -> list[slice]:
    """Which outputs are evaluated at once: as many for one network as for a stack."""
    n_outputs = max(1, PIECE_NUMBERS // max(1, columns[0].numel()))
    return [slice(begin, begin + n_outputs) for begin in range(0, a.shape[1], n_outputs)]


def _edge_values(
    function: BaseFunction,
    columns: Float[Tensor, "P I B"],
    b: Float[Tensor, "P O I"],
    d: Float[Tensor, "P O I"] | None,
    outputs: slice,
) -> tuple[Float[Tensor, "P _ I B"], Float[Tensor, "P _ I B"]]:
    """For some outputs: all b x + d, and f of them, which autograd can follow back."""
    phase = _phases(columns, b, d, outputs)
    with torch.enable_grad():
        return phase, function(phase.requires_grad_())


def _phases(
    columns: Float[Tensor, "P I B"], b: Float[Tensor, "P O I"], d: Float[Tensor, "P O I"] | None, outputs: slice
) -> Float[Tensor, "P _ I B"]:
    """All b x + d of some outputs."""
    phase = b[:, outputs].unsqueeze(-1) * columns.unsqueeze(1)
    return phase if d is None else phase.add_(d[:, outputs].unsqueeze(-1))


class ProductOfFeatures(EdgeWeights):
    """A form whose curves are weighted sums of features: one matrix product."""

    @abstractmethod
    def features(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B IK"]:
        """What the matrix product mixes: K numbers of input 0, K of input 1, and so on."""

    @abstractmethod
    def weight(self) -> Float[Tensor, "*P O IK"]:
        """How it mixes them, in the same order."""

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """One matrix product."""
        return affine(self.features(prepared), self.weight(), self.c)

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B I"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P O I"]]:
        """The same product; amplitudes from second moments of the features."""
        features, weight = self.features(prepared), self.weight()
        return affine(features, weight, self.c), product_amplitudes(features, weight, self.n_inputs, shares)

    @torch.no_grad()
    def curve_moments(self, x: Float[Tensor, "B I"]) -> tuple[Float[Tensor, "O I"], Float[Tensor, "O I"]]:
        """From the moments of the features."""
        return product_moments(self.features(x), self.weight(), self.n_inputs)


class SharedLayer(ProductOfFeatures):
    """y_j = sum_i a_ji f(b_i x_i + d_i) + c_j, one matrix product."""

    @staticmethod
    def _shape(n_inputs: int, n_outputs: int) -> tuple[int, ...]:
        del n_outputs
        return (n_inputs,)

    def features(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B I"]:
        """f(b_i x_i + d_i), one number of each input."""
        return self._activated(x)

    def weight(self) -> Float[Tensor, "*P O I"]:
        """All a."""
        return self.a

    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """a_ji f(b_i x + d_i)."""
        return self.a[target, source] * self._activated_at(source, points)

    @staticmethod
    def cost(n_inputs: int, n_outputs: int, function: str, *, shift: bool = True) -> Cost:
        """Of every input: b x, + d, f; and one matrix product."""
        n_edges = n_inputs * n_outputs
        of_input = 1 + shift + base_function(function).flops
        return Cost(n_edges + (1 + shift) * n_inputs + n_outputs, n_inputs * of_input + 2 * n_edges)


class NodeCurves(CurveLayer):
    """y_j = g_j(u_j) + c_j with u = W x: one matrix product, then a curve of each node's own, made of its a_j.

    Attributes:
        W: (O, I).
        a: (O, ...); a curve whose a is 0 is 0.
        c: (O,).
    """

    one_curve_an_edge = False
    W: nn.Parameter
    a: nn.Parameter
    c: nn.Parameter

    @abstractmethod
    def _curves(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """g(W x)."""

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """One matrix product, then the curves."""
        return self._curves(prepared) + self.c.unsqueeze(-2)

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B I"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P O 1"]]:
        """The same, and one amplitude a node."""
        values = self._curves(prepared)
        return values + self.c.unsqueeze(-2), safe_sqrt(shares @ values.square()).unsqueeze(-1)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """W alone: a is no matrix of weights but part of the activations."""
        return [self.W]

    @torch.no_grad()
    def curve_moments(self, x: Float[Tensor, "B I"]) -> tuple[Float[Tensor, "O 1"], Float[Tensor, "O 1"]]:
        """Of each node."""
        values = self._curves(x)
        return values.mean(0).unsqueeze(-1), values.std(0, correction=0).unsqueeze(-1)

    @torch.no_grad()
    def drop(self, curves: Bool[Tensor, "O 1"], means: Float[Tensor, "O 1"]) -> None:
        """Set their a to 0."""
        self.c.add_((means * curves).squeeze(-1))
        self.a[curves.squeeze(-1)] = 0

    def curve_inputs(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """W x."""
        return affine(x, self.W)


class NodeLayer(NodeCurves, KernelActivation):
    """y_j = a_j f(b_j u_j + d_j) + c_j with u = W x: one matrix product, then each node's own activation.

    W ~ N(0, 1 / I) at first. The nodes differ by it, so all begin with the same curve: b and d where the base
    function starts, a and c such that outputs have mean 0 and variance 1.
    """

    @staticmethod
    def _shape(n_inputs: int, n_outputs: int) -> tuple[int, ...]:
        del n_inputs
        return (n_outputs,)

    def _start(self, function: str, generator: torch.Generator | None) -> None:
        mean, variance = _moments(function, shift=self.d is not None, spread=False)
        gain = 1 / math.sqrt(variance)
        weight = torch.randn(self.n_outputs, self.n_inputs, generator=generator, dtype=self.s.dtype)
        self.W = nn.Parameter(weight / math.sqrt(self.n_inputs))
        self.a = nn.Parameter(torch.full_like(self.c, gain))
        with torch.no_grad():
            b, d = self.function.start
            self.s.fill_(math.log(b))
            if self.d is not None:
                self.d.fill_(d)
            self.c.fill_(-gain * mean)

    def _curves(self, x: Tensor) -> Tensor:
        return self.a.unsqueeze(-2) * self._activated(self.curve_inputs(x))

    def activation_parameters(self) -> list[nn.Parameter]:
        """a, s, d and c."""
        return [self.a, *super().activation_parameters(), self.c]

    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """a_j f(b_j u + d_j)."""
        del source
        return self.a[target] * self._activated_at(target, points)

    @staticmethod
    def cost(n_inputs: int, n_outputs: int, function: str, *, shift: bool = True) -> Cost:
        """Of every node: its sum of products (no bias); b u, + d, f, a f, + c."""
        of_node = 2 * n_inputs - 1 + 3 + shift + base_function(function).flops
        return Cost(n_inputs * n_outputs + (3 + shift) * n_outputs, n_outputs * of_node)


KERNELS: dict[str, type[KernelActivation]] = {"edge": EdgeLayer, "shared": SharedLayer, "node": NodeLayer}
"""The forms by name."""


@cache
def _moments(function: str, *, shift: bool, spread: bool) -> tuple[float, float]:
    """Mean and variance over z ~ N(0, 1) of f(b z + d), each on average over the s and d of a start."""
    nodes, weights = normal_quadrature(N_NODES)
    b, d = base_function(function).start
    scales = b * (spread * S_DEVIATION * nodes).exp().unsqueeze(-1)
    shifts = shift * (d + spread * D_DEVIATION * nodes)
    curves = partial(_scaled_and_shifted, base_function(function), scales, shifts)
    means, variances = normal_moments(curves, N_NODES)
    return (weights @ means @ weights).item(), (weights @ variances @ weights).item()


def _scaled_and_shifted(function: BaseFunction, b: Tensor, d: Tensor, z: Tensor) -> Tensor:
    return function(b * z.reshape(-1, 1, 1) + d)
