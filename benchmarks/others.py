"""Layers of other libraries, written from their formulas; what kansearch is measured against.

Letters: B batch, I inputs, O outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Naive(nn.Module):
    """y_j = sum_i a_ji tanh(b_ji x_i + d_ji) + c_j, as a broadcast."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(n_outputs, n_inputs) / math.sqrt(n_inputs))
        self.b = nn.Parameter(torch.ones(n_outputs, n_inputs))
        self.d = nn.Parameter(torch.randn(n_outputs, n_inputs))
        self.c = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) to (B, O)."""
        return (self.a * torch.tanh(self.b * x.unsqueeze(1) + self.d)).sum(-1) + self.c


class Splines(nn.Module):
    """Cubic B-splines by the recursion, as efficient-kan's KANLinear has them: then one product, and one of silu."""

    def __init__(self, n_inputs: int, n_outputs: int, grid: int = 5, order: int = 3) -> None:
        super().__init__()
        self.order = order
        knots = torch.arange(-order, grid + order + 1) * (4 / grid) - 2
        self.register_buffer("grid", knots.expand(n_inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(n_outputs, n_inputs) / math.sqrt(n_inputs))
        self.spline = nn.Parameter(0.1 * torch.randn(n_outputs, n_inputs, grid + order) / math.sqrt(n_inputs))
        self.scaler = nn.Parameter(torch.ones(n_outputs, n_inputs))

    def bases(self, x: Tensor) -> Tensor:
        """The splines of each input."""
        x, grid = x.unsqueeze(-1), self.grid
        values = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * values[:, :, :-1]
            right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:(-k)]) * values[:, :, 1:]
            values = left + right
        return values

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) to (B, O)."""
        base = functional.linear(functional.silu(x), self.base)
        return base + functional.linear(self.bases(x).flatten(1), (self.spline * self.scaler.unsqueeze(-1)).flatten(1))


class SplinesOfEdges(Splines):
    """The same curves, each evaluated on its own edge and kept, as pykan does."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) to (B, O)."""
        curves = torch.einsum("bik,oik->boi", self.bases(x), self.spline)
        return (self.scaler * curves + self.base * functional.silu(x).unsqueeze(1)).sum(-1)


class Radial(nn.Module):
    """FastKAN's layer: layer norm (of more than two inputs), Gaussians, one product, and one of silu."""

    def __init__(self, n_inputs: int, n_outputs: int, n_centres: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_inputs) if n_inputs > 2 else nn.Identity()
        self.register_buffer("centres", torch.linspace(-2, 2, n_centres))
        self.spline = nn.Linear(n_inputs * n_centres, n_outputs, bias=False)
        self.base = nn.Linear(n_inputs, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) to (B, O)."""
        distance = 4 / (len(self.centres) - 1)
        values = torch.exp(-(((self.norm(x).unsqueeze(-1) - self.centres) / distance) ** 2))
        return self.spline(values.flatten(1)) + self.base(functional.silu(x))
