"""The dictionary layer, the default KAN layer, and networks of it.

    y_j = sum_i sum_k W_jik B_k(x_i) + sum_i V_ji base(x_i) + c_j

Every edge keeps a curve of its own, while the layer is one matrix product over features of its inputs.

Letters: *P nothing, or the networks of a stack; B batch, I inputs, O outputs, K functions of each input,
K' = K + 1 with a base branch, else K.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kansearch.errors import UserError
from kansearch.models import curves
from kansearch.models.bases import BASE_BRANCHES, BaseFunction, FittedGrid, FixedBasis, basis_cost, make_basis
from kansearch.models.flops import Cost
from kansearch.models.layer import CurveLayer, affine, columns_of, product_amplitudes, product_moments
from kansearch.models.moments import normal_moments
from kansearch.models.network import Network

STEP = 1e-4
"""Between the points from which a slope is taken."""

N_POINTS, POINTS_SHARE, RIDGE = 256, 1e-3, 1e-12
"""Where curves are moved from grid to grid: points spread over the grid, their weight beside the rows, and what is
added to the mean squares of features."""

FEW_OUTPUTS = 4
"""With so many at most it is faster not to keep what the basis gives."""

BASIS_POWER, BRANCH_POWER = 1.75, 0.25
"""Of one over the number of features of an output."""


class KANLayer(CurveLayer):
    """The dictionary layer.

    With the `default` initialisation W = 0 at first and the base branch V ~ N(0, g^2 / I) carries the signal; without a
    base branch W does, with the same variance. (Random W beside a base branch is up to ten times worse on smooth
    functions.) `glorot` keeps variances of signals and gradients alike, `power` makes W much smaller than V by powers
    of the number of features; in wide and deep networks they may be far better.

    Source: of the last two Rigas et al. (2025), arXiv:2509.03417, equations 9 and 10.

    Args:
        n_inputs: I.
        n_outputs: O.
        base_function: Name of a base function (learnable atoms) or of a fixed basis.
        n_basis: K.
        base_branch: `silu`, `identity` or `none`.
        grid_range: The K functions are spread over [-grid_range, grid_range].
        initialisation: `default`, `glorot` or `power`.
        grid: `fixed`, or `fitted` where the basis has no parameters: then `kansearch.models.grids` fits it to data.
        generator: Of the weights; None is torch's global one.
        dtype: None is torch's default.

    Raises:
        UserError: If there is no such base function or base branch, or the basis cannot have so few functions.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        base_function: str = "gaussian",
        *,
        n_basis: int = 8,
        base_branch: str = "silu",
        grid_range: float = 2.0,
        initialisation: str = "default",
        grid: str = "fixed",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_inputs, n_outputs)
        self.basis = make_basis(base_function, n_inputs, n_basis, grid_range, dtype, grid=grid)
        self.base = _base_branch(base_branch)
        moments = _feature_moments(base_function, n_basis, base_branch, grid_range)
        self.W = nn.Parameter(torch.zeros(n_outputs, n_inputs, n_basis, dtype=dtype))
        self.V = nn.Parameter(torch.zeros(n_outputs, n_inputs, dtype=dtype)) if self.base else None
        self.c = nn.Parameter(torch.empty(n_outputs, dtype=dtype))
        of_basis, of_base = _deviations(initialisation, moments, n_basis, n_inputs, n_outputs)
        with torch.no_grad():
            for carrier, deviation in ((self.W, of_basis), (self.V, of_base)):
                if carrier is not None and deviation:
                    carrier.normal_(std=deviation, generator=generator)
            means = torch.tensor(moments.means, dtype=self.c.dtype)
            self.c.copy_(-(self.weight() @ means.repeat(n_inputs)))

    def features(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B IK"]:
        """What the matrix product mixes: K' numbers of input 0, K' of input 1, and so on."""
        columns = columns_of(x)
        values = self.basis.columns(columns)
        if self.base is not None:
            values = torch.cat([values, self.base(columns).unsqueeze(-2)], dim=-2)
        return values.flatten(-3, -2).mT

    def weight(self) -> Float[Tensor, "*P O IK"]:
        """How it mixes them, in the same order."""
        weight = self.W if self.V is None else torch.cat([self.W, self.V.unsqueeze(-1)], dim=-1)
        return weight.flatten(-2)

    def prepare(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B F"]:
        """The features, unless they are learned."""
        return self.features(x) if isinstance(self.basis, FixedBasis) else x

    def forward(self, x: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B O"]:
        """One matrix product, or two: the base branch's stands apart, for joining the features would copy them."""
        columns = columns_of(x)
        mixed = self._mixed(columns)
        if mixed is None:
            y = affine(self.basis.columns(columns).flatten(-3, -2).mT, self.W.flatten(-2), self.c)
        else:
            y = mixed + self.c.unsqueeze(-2)
        if self.base is None or self.V is None:
            return y
        return y + affine(self.base(columns).mT, self.V)

    def _mixed(self, columns: Float[Tensor, "*P I B"]) -> Float[Tensor, "*P B O"] | None:
        """The basis and its product in one go, where compiled code serves and outputs are few."""
        copies = self.basis.copies()
        if self.n_outputs > FEW_OUTPUTS or copies is None:
            return None
        functions, scales, shifts = copies
        if not curves.serves_mixtures(functions, columns, scales, shifts, self.W):
            return None
        return curves.mixtures(functions, columns, scales, shifts, self.W)

    def mix(self, prepared: Float[Tensor, "*P B F"]) -> Float[Tensor, "*P B O"]:
        """The same, from what `prepare` gave."""
        if isinstance(self.basis, FixedBasis):
            return affine(prepared, self.weight(), self.c)
        return self.forward(prepared)

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B F"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B O"], Float[Tensor, "*P O I"]]:
        """The same product; amplitudes from second moments of the features."""
        features, weight = self._features(prepared), self.weight()
        return affine(features, weight, self.c), product_amplitudes(features, weight, self.n_inputs, shares)

    def _features(self, prepared: Tensor) -> Tensor:
        return prepared if isinstance(self.basis, FixedBasis) else self.features(prepared)

    def activation_parameters(self) -> list[nn.Parameter]:
        """The atoms; of a fixed basis the coefficients, if a base branch carries the signal without them."""
        if isinstance(self.basis, FixedBasis | FittedGrid):
            return [self.W] if self.base else []
        return list(self.basis.parameters())

    def decayed_parameters(self) -> list[nn.Parameter]:
        """W, and V if there is a base branch."""
        return [self.W] if self.V is None else [self.W, self.V]

    @torch.no_grad()
    def curve_moments(self, x: Float[Tensor, "B I"]) -> tuple[Float[Tensor, "O I"], Float[Tensor, "O I"]]:
        """From the moments of the features."""
        return product_moments(self.features(x), self.weight(), self.n_inputs)

    @torch.no_grad()
    def drop(self, curves: Bool[Tensor, "O I"], means: Float[Tensor, "O I"]) -> None:
        """Set their weights to 0."""
        self.c.add_((means * curves).sum(-1))
        self.W[curves] = 0
        if self.V is not None:
            self.V[curves] = 0

    def curve(self, points: Float[Tensor, " P"], source: int, target: int) -> Float[Tensor, " P"]:
        """The curve of an edge, base branch included."""
        features = self.features(points.unsqueeze(-1).expand(-1, self.n_inputs))
        n_each = features.shape[-1] // self.n_inputs
        place = slice(source * n_each, (source + 1) * n_each)
        return features[:, place] @ self.weight()[target, place]

    @torch.no_grad()
    def follow(self, other: KANLayer, x: Float[Tensor, "B I"]) -> None:
        """Take over the curves of a layer of another grid, by least squares over rows on this grid; W alone is changed.

        Points spread evenly over the grid count a little too, so that curves stay what they are where no row is.
        """
        points = self.basis.span(N_POINTS).to(x)
        on_grid = (x >= points[0]) & (x <= points[-1])
        weights = torch.cat([on_grid / len(x), torch.full_like(points, POINTS_SHARE / N_POINTS)]).double().sqrt()
        rows = torch.cat([x, points])
        old, new = ((layer.basis(rows).double() * weights.unsqueeze(-1)).movedim(-2, 0) for layer in (other, self))
        moments = new.mT @ new
        ridge = RIDGE * moments.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        moved = torch.linalg.solve(moments + torch.diag_embed(ridge.expand(moments.shape[:-1])), new.mT @ old)
        self.W.copy_(torch.einsum("oik,imk->oim", other.W.double(), moved))

    @staticmethod
    def cost(
        n_inputs: int, n_outputs: int, base_function: str, n_basis: int, base_branch: str, grid: str = "fixed"
    ) -> Cost:
        """The basis, the base branch and one matrix product."""
        base = _base_branch(base_branch)
        n_features = n_inputs * (n_basis + 1 if base else n_basis)
        return basis_cost(base_function, n_inputs, n_basis, grid) + Cost(
            n_outputs * n_features + n_outputs,
            (n_inputs * base.flops if base else 0) + 2 * n_outputs * n_features,
        )


class KAN(Network):
    """A network of dictionary layers.

    >>> network = KAN((2, 5, 1), base_function="tanh", n_basis=4)
    >>> network(torch.zeros(3, 2)).shape
    torch.Size([3, 1])

    Args:
        widths: Nodes of every row, inputs and outputs included.
        base_function: As of KANLayer, like all that follows.
    """

    def __init__(
        self,
        widths: Sequence[int],
        base_function: str = "gaussian",
        *,
        n_basis: int = 8,
        base_branch: str = "silu",
        grid_range: float = 2.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        layers = [
            KANLayer(
                n_inputs,
                n_outputs,
                base_function,
                n_basis=n_basis,
                base_branch=base_branch,
                grid_range=grid_range,
                generator=generator,
                dtype=dtype,
            )
            for n_inputs, n_outputs in pairwise(widths)
        ]
        super().__init__(layers, generator=generator)


def _base_branch(name: str) -> BaseFunction | None:
    if name != "none" and name not in BASE_BRANCHES:
        raise UserError(f'no base branch is called "{name}"; allowed: {", ".join(BASE_BRANCHES)}, none')
    return BASE_BRANCHES.get(name)


@dataclass(frozen=True)
class _Moments:
    """Of the K' features of a standard normal input: means, variances, and mean squares of their slopes."""

    means: tuple[float, ...]
    variances: tuple[float, ...]
    slopes: tuple[float, ...]

    def mean_squares(self, part: slice) -> float:
        """Of some features, on average."""
        return statistics.fmean(m**2 + v for m, v in zip(self.means[part], self.variances[part], strict=True))


@cache
def _feature_moments(base_function: str, n_basis: int, base_branch: str, grid_range: float) -> _Moments:
    basis = make_basis(base_function, 1, n_basis, grid_range, torch.float64)
    base = _base_branch(base_branch)

    def features(z: Tensor) -> Tensor:
        values: Tensor = basis(z.unsqueeze(-1)).squeeze(-2)
        return values if base is None else torch.cat([values, base(z).unsqueeze(-1)], dim=-1)

    def slopes(z: Tensor) -> Tensor:
        return (features(z + STEP) - features(z - STEP)) / (2 * STEP)

    with torch.no_grad():
        means, variances = normal_moments(features)
        mean_slopes, slope_variances = normal_moments(slopes)
    return _Moments(*(tuple(t.tolist()) for t in (means, variances, mean_slopes.square() + slope_variances)))


def _deviations(scheme: str, moments: _Moments, n_basis: int, n_inputs: int, n_outputs: int) -> tuple[float, float]:
    """Standard deviations of W and of V; the latter is 0 without a base branch."""
    n_features = len(moments.means)
    has_base = n_features > n_basis
    if scheme == "default":
        variance = moments.variances[-1] if has_base else sum(moments.variances)
        carried = 1 / math.sqrt(n_inputs * variance)
        return (0.0, carried) if has_base else (carried, 0.0)
    if scheme == "power":
        base = 1 / (n_inputs * n_features)
        return base**BASIS_POWER, has_base * base**BRANCH_POWER

    def of_part(part: slice) -> float:
        both_ways = n_inputs * moments.mean_squares(part) + n_outputs * statistics.fmean(moments.slopes[part])
        return math.sqrt(2 / (n_features * both_ways))

    return of_part(slice(n_basis)), of_part(slice(n_basis, None)) if has_base else 0.0
