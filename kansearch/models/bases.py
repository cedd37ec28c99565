"""Base functions, and bases: the K curves into which a dictionary layer expands every input.

A new base function is one line of BASE_FUNCTIONS, a new basis one class and its line of EXPANSIONS.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, K functions of each input, R grid_range,
f a base function.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from kansearch.errors import UserError
from kansearch.models import curves
from kansearch.models.flops import Cost
from kansearch.models.layer import columns_of, differentiable_once

MAX_SPLINE_ORDER = 3
LEAST_EXPONENT = -80.0
"""exp of it is 2e-35; float32 has no normal numbers below exp(-87)."""

RAMP_SLOPE = 4.0
"""Of relu atoms, in units of 1 / R; steeper ones fitted functions better (0.5 to 4 tried)."""

# Autograd functions of this package have no setup_context: with one, each call costs 50 us more.

# --- base functions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaseFunction:
    """A curve, and how K scaled and shifted copies f(beta x + gamma) of it cover a range.

    Attributes:
        evaluate: Element by element.
        flops: Operations of one evaluation.
        spread: K and R to the beta and gamma of the K copies, in float64.
        start: The scale and shift b, d with which f(b x + d) bends gently over inputs of unit variance; a single
            copy starts there or near.
        compiled: Its name in the compiled code, or its names, where it is another one for each network of a stack;
            none where it is not there.
    """

    evaluate: Callable[[Tensor], Tensor]
    flops: int
    spread: Callable[[int, float], tuple[Float[Tensor, " K"], Float[Tensor, " K"]]]
    start: tuple[float, float] = (1.0, 0.0)
    compiled: tuple[str, ...] = ()

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Evaluate the curve element by element."""
        return self.evaluate(x)


class _Tanh(torch.autograd.Function):
    """2 sigmoid(2 x) - 1, exact to 1e-7 in float32: torch's own tanh takes twice as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.mul(x, 2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.tanh_backward(gradient, y)
        return slope


class _Gaussian(torch.autograd.Function):
    """exp(-x^2) in few passes over memory, and its gradient in three: autograd's own chain takes twice as many."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # Where results are too small for normal numbers exp takes five times as long.
        y = torch.square(x).neg_().clamp_(min=LEAST_EXPONENT).exp_()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        slope: Tensor = (gradient * y).mul_(x).mul_(-2)
        return slope


class _CubicBSpline(torch.autograd.Function):
    """The cubic B-spline with knots -2, -1, 0, 1, 2: (max(2 - |x|, 0)^3 - 4 max(1 - |x|, 0)^3) / 6."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        wide, narrow = _distances(x)
        return torch.pow(wide, 3).sub_(narrow.pow_(3), alpha=4).mul_(1 / 6)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        wide, narrow = _distances(x)
        return wide.square_().sub_(narrow.square_(), alpha=4).mul_(-0.5).mul_(torch.sign(x)).mul_(gradient)


def _distances(x: Tensor) -> tuple[Tensor, Tensor]:
    """max(2 - |x|, 0) and max(1 - |x|, 0)."""
    wide = torch.abs(x).neg_().add_(2).clamp_(min=0)
    return wide, (wide - 1).clamp_(min=0)


def _gaussian(x: Tensor) -> Tensor:
    y: Tensor = _Gaussian.apply(x)  # type: ignore[no-untyped-call]  # apply has no types
    return y


def _tanh(x: Tensor) -> Tensor:
    y: Tensor = _Tanh.apply(x)  # type: ignore[no-untyped-call]  # apply has no types
    return y


def _mexican_hat(x: Tensor) -> Tensor:
    squares = x.square()
    return (1 - squares) * (squares * -0.5).clamp(min=LEAST_EXPONENT).exp()


def _relu_bump(x: Tensor) -> Tensor:
    return (1 - x.square()).clamp(min=0).square()


def _identity(x: Tensor) -> Tensor:
    return x


def _centres(n_basis: int, grid_range: float) -> tuple[Tensor, float]:
    """Evenly spaced from -R to R, and their distance (R's own where there is but one, in the middle)."""
    if n_basis == 1:
        return torch.zeros(1, dtype=torch.float64), grid_range
    return torch.linspace(-grid_range, grid_range, n_basis, dtype=torch.float64), 2 * grid_range / (n_basis - 1)


def _places(n_basis: int, grid_range: float) -> tuple[Tensor, Tensor]:
    """Bumps or steps at even distances, each as wide as its distance to the next."""
    centres, distance = _centres(n_basis, grid_range)
    return torch.full_like(centres, 1 / distance), -centres / distance


def _places_of_sigmoid(n_basis: int, grid_range: float) -> tuple[Tensor, Tensor]:
    """The steps of tanh: tanh(x) = 2 sigmoid(2 x) - 1."""
    scales, shifts = _places(n_basis, grid_range)
    return 2 * scales, 2 * shifts


def _ramps(n_basis: int, grid_range: float) -> tuple[Tensor, Tensor]:
    """Kinks in the middles of K equal cells, rising to the right and to the left in turn.

    So an input beyond either end of the range still meets slopes that can be learned.
    """
    cells = torch.arange(n_basis, dtype=torch.float64)
    kinks = grid_range * ((2 * cells + 1) / n_basis - 1)
    scales = (1 - 2 * (cells % 2)) * RAMP_SLOPE / grid_range
    return scales, -scales * kinks


def _frequencies(n_basis: int, grid_range: float) -> tuple[Tensor, Tensor]:
    """cos(k pi (x + R) / 2 R), k = 1..K: the cosine basis of [-R, R], which asks for no periodicity."""
    k = torch.arange(1, n_basis + 1, dtype=torch.float64)
    return k * math.pi / (2 * grid_range), (k + 1) * math.pi / 2


BASE_FUNCTIONS: dict[str, BaseFunction] = {
    # On the slope of the bump: an even start forgets the sign of its inputs (digits, node form: 27 % errors, not 7 %).
    "gaussian": BaseFunction(_gaussian, 2, _places, start=(0.5, -math.sqrt(0.5)), compiled=("gaussian",)),
    # The second derivative of a Gaussian: Bozorgasl & Chen (2024), Wav-KAN, arXiv:2405.12832; on its slope too.
    "mexican_hat": BaseFunction(
        _mexican_hat, 5, _places, start=(0.5, -math.sqrt(3 - math.sqrt(6))), compiled=("mexican_hat",)
    ),
    # (relu(e - x) relu(x - s))^2 with learned ends s and e, at height 1: Qiu et al. (2024), ReLU-KAN, arXiv:2406.02075.
    "relu_bump": BaseFunction(_relu_bump, 4, _places, start=(0.35, -math.sqrt(1 / 3)), compiled=("relu_bump",)),
    "tanh": BaseFunction(_tanh, 1, _places, compiled=("tanh",)),
    "sigmoid": BaseFunction(torch.sigmoid, 1, _places_of_sigmoid, compiled=("sigmoid",)),
    "relu": BaseFunction(torch.relu, 1, _ramps, compiled=("relu",)),
    "silu": BaseFunction(functional.silu, 2, _ramps, compiled=("silu",)),
    "gelu": BaseFunction(functional.gelu, 5, _ramps, compiled=("gelu",)),
    "sin": BaseFunction(torch.sin, 1, _frequencies, compiled=("sin",)),
}
"""The curves that layers scale and shift by learned amounts, by name."""

BASE_BRANCHES: dict[str, BaseFunction] = {
    "silu": BASE_FUNCTIONS["silu"],
    "identity": BaseFunction(_identity, 0, _ramps),
}
"""The fixed curves that may stand beside a basis, by name; `none` is none of them."""


def base_function(name: str) -> BaseFunction:
    """The base function of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in BASE_FUNCTIONS:
        raise UserError(f'no base function is called "{name}"; allowed: {", ".join(BASE_FUNCTIONS)}')
    return BASE_FUNCTIONS[name]


def copies_of(
    function: BaseFunction, x: Float[Tensor, "*P I B"], scales: Float[Tensor, " K"], shifts: Float[Tensor, " K"]
) -> Float[Tensor, "*P I K B"]:
    """f(scale_k x_i + shift_k): the same K copies for every input, none of them learned."""
    if (found := curves.copies(function.compiled, x, scales, shifts)) is not None:
        return found
    # In order: torch is free to let sums of so few numbers lie otherwise, and one network otherwise than many.
    return function(torch.addcmul(shifts.unsqueeze(-1), x.unsqueeze(-2), scales.unsqueeze(-1)).contiguous())


COVERED = (0.005, 0.995)
"""The share of the values of an input at both ends of a grid that was fitted."""


# --- bases ----------------------------------------------------------------------------------------------


class Basis(nn.Module, ABC):
    """K functions of each of I inputs, spread over [-R, R]; learnable parameters only where it has atoms."""

    def __init__(self, n_inputs: int, n_basis: int, grid_range: float) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.n_basis = n_basis
        self.grid_range = grid_range

    def forward(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B I K"]:
        """Evaluate the K functions of each input."""
        return self.columns(columns_of(x)).movedim(-1, -3)

    def span(self, n_points: int) -> Float[Tensor, "N I"]:
        """Points spread evenly over the grid of each input."""
        return torch.linspace(-self.grid_range, self.grid_range, n_points).unsqueeze(-1).expand(-1, self.n_inputs)

    @abstractmethod
    def columns(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """The same with rows side by side in memory, where vectorised code is at its best: they are many."""

    def copies(self) -> tuple[Sequence[str], Tensor, Tensor] | None:
        """Compiled name of f, scales and shifts, where the functions are f(scale_ik x_i + shift_ik); else None."""
        return None


class Atoms(Basis):
    """f(beta_ik x_i + gamma_ik): copies of a base function whose scales and shifts are learned input by input."""

    def __init__(
        self, function: BaseFunction, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(n_inputs, n_basis, grid_range)
        self.function = function
        scales, shifts = function.spread(n_basis, grid_range)
        dtype = dtype or torch.get_default_dtype()
        self.beta = nn.Parameter(scales.to(dtype).repeat(n_inputs, 1))
        self.gamma = nn.Parameter(shifts.to(dtype).repeat(n_inputs, 1))

    def columns(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """f(beta x + gamma)."""
        if curves.serves_atoms(self.function.compiled, x, self.beta, self.gamma):
            return curves.atoms(self.function.compiled, x, self.beta, self.gamma)
        return self.function(torch.addcmul(self.gamma.unsqueeze(-1), x.unsqueeze(-2), self.beta.unsqueeze(-1)))

    def copies(self) -> tuple[Sequence[str], Tensor, Tensor]:
        """Of the base function."""
        return self.function.compiled, self.beta, self.gamma

    @staticmethod
    def cost(function: BaseFunction, n_inputs: int, n_basis: int) -> Cost:
        """Two parameters an atom."""
        return Cost(2 * n_inputs * n_basis, n_inputs * n_basis * (2 + function.flops))


def _from_places(x: Float[Tensor, "*P I B"], places: Float[Tensor, " K"]) -> Float[Tensor, "*P I K B"]:
    """x_i - place_k, in order for the reason that `copies_of` has."""
    return (x.unsqueeze(-2) - places.unsqueeze(-1)).contiguous()


class FixedBasis(Basis):
    """A basis without parameters, the same for every input."""

    @abstractmethod
    def __init__(self, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None) -> None:
        super().__init__(n_inputs, n_basis, grid_range)

    @staticmethod
    @abstractmethod
    def cost(n_inputs: int, n_basis: int) -> Cost:
        """No parameters; operations of one evaluation."""


class _Copies(FixedBasis):
    """Copies of one function: f(scale_k x_i + shift_k)."""

    scales: Tensor
    shifts: Tensor
    compiled_name: ClassVar[str]

    def _copy(self, scales: Float[Tensor, " K"], shifts: Float[Tensor, " K"], dtype: torch.dtype | None) -> None:
        """Note the K copies, the same for every input."""
        for name, values in (("scales", scales), ("shifts", shifts)):
            of_inputs = values.to(dtype or torch.get_default_dtype()).repeat(self.n_inputs, 1)
            self.register_buffer(name, of_inputs, persistent=False)

    def copies(self) -> tuple[Sequence[str], Tensor, Tensor] | None:
        """Those that were noted."""
        return (self.compiled_name,), self.scales, self.shifts

    def columns(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """In one go where compiled code serves."""
        copies = self.copies()
        if copies is not None and curves.serves_atoms(copies[0], x, *copies[1:]):
            return curves.atoms(copies[0], x, *copies[1:])
        return self._plain(x)

    @abstractmethod
    def _plain(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """The same by torch's operators."""


class BSpline(_Copies):
    """B-splines on G equal intervals of [-R, R]; K = G + S with S = 3, or less where K is small.

    The knots go on beyond both ends. Inside [-R, R] the K functions add up to 1; outside they fade to 0 within
    S intervals, so that an input which drifts off the grid falls silent instead of failing.

    Raises:
        UserError: If n_basis is 1: that function would be a constant.

    Source: Cox-de Boor recursion; de Boor (1978), A Practical Guide to Splines, ch. X.
    """

    compiled_name = "cubic_b_spline"

    def __init__(self, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None) -> None:
        super().__init__(n_inputs, n_basis, grid_range)
        if n_basis < 2:
            raise UserError("a b_spline basis needs at least 2 functions: 1 is a constant")
        self.spline_order = min(MAX_SPLINE_ORDER, n_basis - 1)
        self.grid_size = n_basis - self.spline_order
        self.spacing = 2 * grid_range / self.grid_size
        self.first_knot = -grid_range - self.spline_order * self.spacing
        n_knots = self.grid_size + 2 * self.spline_order + 1
        self.places: Tensor
        self.register_buffer("places", torch.arange(n_knots).to(dtype or torch.get_default_dtype()), persistent=False)
        # Cubic splines on equal intervals are copies of one function, two intervals wide on both sides.
        self.offset = self.first_knot / self.spacing + 2
        scales = torch.full((n_basis,), 1 / self.spacing, dtype=torch.float64)
        self._copy(scales, -self.offset - torch.arange(n_basis, dtype=torch.float64), dtype)

    @property
    def knots(self) -> Float[Tensor, " knots"]:
        """All G + 2 S + 1 of them."""
        return self.first_knot + self.spacing * self.places

    def copies(self) -> tuple[Sequence[str], Tensor, Tensor] | None:
        """Of the cubic one; splines of a lower order, where K is small, are computed otherwise."""
        return super().copies() if self.spline_order == MAX_SPLINE_ORDER else None

    def _plain(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """The recursion, for all intervals at once."""
        if self.spline_order == MAX_SPLINE_ORDER:
            u = x * (1 / self.spacing) - self.offset
            beyond = _from_places(u, self.places[: self.n_basis])
            values: Tensor = _CubicBSpline.apply(beyond)  # type: ignore[no-untyped-call]  # apply has no types
            return values
        # With knots at 0, 1, 2, ... it is B_m,p(u) = ((u - m) B_m,p-1 + (m + p + 1 - u) B_m+1,p-1) / p.
        u = ((x - self.first_knot) * (1 / self.spacing)).unsqueeze(-2)
        beyond = u - self.places.unsqueeze(-1)
        values = (u.floor() == self.places[:-1, None]).to(x.dtype)
        for p in range(1, self.spline_order + 1):
            n = values.shape[-2] - 1
            values = (beyond[..., :n, :] * values[..., :-1, :] - beyond[..., p + 1 :, :] * values[..., 1:, :]) * (1 / p)
        return values

    @staticmethod
    def cost(n_inputs: int, n_basis: int) -> Cost:
        """Position 2; of a cubic function 12.

        Else the distance to each knot, one rounding and a comparison a cell, 4 a value of the recursion.
        """
        order = min(MAX_SPLINE_ORDER, n_basis - 1)
        if order == MAX_SPLINE_ORDER:
            # Distance, 2 - |x|, 1 - |x| and their maxima, 2 cubes, their weighted difference and its share.
            return Cost(0, n_inputs * (2 + 12 * n_basis))
        n_cells = n_basis + order
        recursion = sum(4 * (n_cells - p) for p in range(1, order + 1))
        return Cost(0, n_inputs * (2 + (n_cells + 1) + 1 + n_cells + recursion))


class GaussianRBF(_Copies):
    """exp(-((x - t_k) / h)^2) at K centres t_k from -R to R, h apart.

    Source: Li (2024), FastKAN, arXiv:2405.06721.
    """

    compiled_name = "gaussian"

    def __init__(self, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None) -> None:
        super().__init__(n_inputs, n_basis, grid_range)
        centres, self.distance = _centres(n_basis, grid_range)
        self.places: Tensor
        self.register_buffer(
            "places", (centres / self.distance).to(dtype or torch.get_default_dtype()), persistent=False
        )
        self._copy(torch.full_like(centres, 1 / self.distance), -centres / self.distance, dtype)

    def _plain(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """One Gaussian a centre."""
        return _gaussian(_from_places(x * (1 / self.distance), self.places))

    @staticmethod
    def cost(n_inputs: int, n_basis: int) -> Cost:
        """Scaling once; a subtraction and a Gaussian each."""
        return Cost(0, n_inputs * (1 + n_basis * 3))


class Chebyshev(FixedBasis):
    """T_1 ... T_K of tanh(x / R); T_0 is the layer's bias.

    Source: SS et al. (2024), Chebyshev polynomial-based KAN, arXiv:2405.07200.
    """

    def __init__(self, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None) -> None:
        del dtype  # nothing to store
        super().__init__(n_inputs, n_basis, grid_range)

    def columns(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """The recursion T_k = 2 t T_k-1 - T_k-2."""
        t = torch.tanh(x * (1 / self.grid_range))
        twice = 2 * t
        values = [torch.ones_like(t), t]
        while len(values) <= self.n_basis:
            values.append(twice * values[-1] - values[-2])
        return torch.stack(values[1:], dim=-2)

    @staticmethod
    def cost(n_inputs: int, n_basis: int) -> Cost:
        """Scaling, tanh and its double; 2 for each polynomial from T_2 on."""
        return Cost(0, n_inputs * (3 + 2 * (n_basis - 1)))


class Fourier(_Copies):
    """sin(g pi x / R) and cos(g pi x / R) for g = 1, 2, ...: K functions with period 2 R.

    Source: Xu et al. (2024), FourierKAN-GCF, arXiv:2406.01034, equation 4, with the period of the grid.
    """

    compiled_name = "sin"

    def __init__(self, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None) -> None:
        super().__init__(n_inputs, n_basis, grid_range)
        place = torch.arange(n_basis)
        # cos is sin, a quarter of a period later.
        self._copy((place // 2 + 1) * math.pi / grid_range, (place % 2) * math.pi / 2, dtype)

    def _plain(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """One sine each."""
        return torch.sin((x.unsqueeze(-2) * self.scales.unsqueeze(-1) + self.shifts.unsqueeze(-1)).contiguous())

    @staticmethod
    def cost(n_inputs: int, n_basis: int) -> Cost:
        """Scale, shift and sine."""
        return Cost(0, 3 * n_inputs * n_basis)


class FittedGrid(Basis):
    """A fixed basis whose grid has a centre and a width of its own for every input; at first those of the basis.

    They are numbers of the network that no gradient moves: `fit` does, from data.

    Source: grids from samples as in Liu et al. (2024), KAN, arXiv:2404.19756, appendix A.8 of version 4; of equal
    intervals.
    """

    def __init__(self, inner: FixedBasis, dtype: torch.dtype | None = None) -> None:
        super().__init__(inner.n_inputs, inner.n_basis, inner.grid_range)
        self.inner = inner
        self.centre = nn.Parameter(torch.zeros(inner.n_inputs, dtype=dtype))
        self.stretch = nn.Parameter(torch.ones(inner.n_inputs, dtype=dtype))

    def columns(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """Those of the inner basis, for inputs brought to its range."""
        centre, stretch = (t.detach().unsqueeze(-1) for t in (self.centre, self.stretch))
        return self.inner.columns((x - centre) * stretch)

    def span(self, n_points: int) -> Float[Tensor, "N I"]:
        """On the grids that were fitted."""
        return super().span(n_points).to(self.centre) / self.stretch.detach() + self.centre.detach()

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "B I"]) -> None:
        """Cover what each input shows, but for its outermost values; one that is constant keeps its grid."""
        low, high = torch.quantile(x.double(), torch.tensor(COVERED, dtype=torch.float64, device=x.device), dim=0)
        varies = high - low > 1e-6 * (1 + x.double().abs().amax(0))
        stretch = 2 * self.grid_range / torch.where(varies, high - low, 1)
        self.stretch.copy_(torch.where(varies, stretch.to(x.dtype), self.stretch))
        self.centre.copy_(torch.where(varies, ((low + high) / 2).to(x.dtype), self.centre))

    @staticmethod
    def cost(inner: Cost, n_inputs: int) -> Cost:
        """A centre and a width for each input, and where it lies between."""
        return inner + Cost(2 * n_inputs, 2 * n_inputs)


class Rational(Basis):
    """P(u) / (1 + |Q(u)|) at K places u = (x - t_k) / h, with P of degree 5 and Q of degree 4 without a constant.

    Coefficients are learned, and shared by every eighth input. At first all are bumps 1 / (1 + u^2 + u^4 / 2), which is
    exp(-u^2) as far as a rational function of this degree has it.

    Source: Molina et al. (2020), Pade activation units, arXiv:1907.06732, equation 3; groups of inputs as in Yang
    & Wang (2024), Kolmogorov-Arnold Transformer, arXiv:2409.10594, section 4.2.
    """

    N_GROUPS = 8
    NUMERATOR = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    DENOMINATOR = (0.0, 1.0, 0.0, 0.5)

    def __init__(self, n_inputs: int, n_basis: int, grid_range: float, dtype: torch.dtype | None = None) -> None:
        super().__init__(n_inputs, n_basis, grid_range)
        dtype = dtype or torch.get_default_dtype()
        centres, self.distance = _centres(n_basis, grid_range)
        self.places: Tensor
        self.register_buffer("places", (centres / self.distance).to(dtype), persistent=False)
        n_groups = min(self.N_GROUPS, n_inputs)
        self.p = nn.Parameter(torch.tensor(self.NUMERATOR, dtype=dtype).repeat(n_groups, n_basis, 1))
        self.q = nn.Parameter(torch.tensor(self.DENOMINATOR, dtype=dtype).repeat(n_groups, n_basis, 1))

    def columns(self, x: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P I K B"]:
        """The quotients, by Horner's rule."""
        u = _from_places(x * (1 / self.distance), self.places)
        group = torch.arange(self.n_inputs, device=x.device) % self.p.shape[-3]
        p, q = (t.index_select(-3, group).unsqueeze(-2).unbind(-1) for t in (self.p, self.q))
        numerator, denominator = p[-1], q[-1]
        for coefficient in reversed(p[:-1]):
            numerator = torch.addcmul(coefficient, numerator, u)
        for coefficient in reversed(q[:-1]):
            denominator = torch.addcmul(coefficient, denominator, u)
        return numerator / (1 + (denominator * u).abs())

    @staticmethod
    def cost(n_inputs: int, n_basis: int) -> Cost:
        """Ten coefficients a function and group; place 1 (and the scale of an input), P 10, Q 7, 1 + |Q|, quotient."""
        return Cost(10 * min(Rational.N_GROUPS, n_inputs) * n_basis, n_inputs * (1 + 20 * n_basis))


FIXED_BASES: dict[str, type[FixedBasis]] = {
    "b_spline": BSpline,
    "rbf": GaussianRBF,
    "chebyshev": Chebyshev,
    "fourier": Fourier,
}
"""The bases without parameters, by name."""

EXPANSIONS: dict[str, type[FixedBasis | Rational]] = {**FIXED_BASES, "rational": Rational}
"""All bases that are no copies of one base function, by name."""


def make_basis(
    name: str,
    n_inputs: int,
    n_basis: int,
    grid_range: float,
    dtype: torch.dtype | None = None,
    *,
    grid: str = "fixed",
) -> Basis:
    """The basis of that name: one of EXPANSIONS, or learnable atoms of one of BASE_FUNCTIONS.

    Raises:
        UserError: If there is none of that name, it cannot have so few functions, or no `fitted` grid.
    """
    if grid == "fitted":
        if name not in FIXED_BASES:
            raise UserError(f"a fitted grid needs a basis without parameters: {', '.join(FIXED_BASES)}; it is {name}")
        return FittedGrid(FIXED_BASES[name](n_inputs, n_basis, grid_range, dtype), dtype)
    if name in EXPANSIONS:
        return EXPANSIONS[name](n_inputs, n_basis, grid_range, dtype)
    if name not in BASE_FUNCTIONS:
        raise UserError(f'no basis is called "{name}"; allowed: {", ".join([*BASE_FUNCTIONS, *EXPANSIONS])}')
    return Atoms(BASE_FUNCTIONS[name], n_inputs, n_basis, grid_range, dtype)


def basis_cost(name: str, n_inputs: int, n_basis: int, grid: str = "fixed") -> Cost:
    """What the basis that `make_basis` gives for these arguments costs."""
    if grid == "fitted":
        return FittedGrid.cost(FIXED_BASES[name].cost(n_inputs, n_basis), n_inputs)
    if name in EXPANSIONS:
        return EXPANSIONS[name].cost(n_inputs, n_basis)
    return Atoms.cost(BASE_FUNCTIONS[name], n_inputs, n_basis)
