"""Bases: one contract for all, and oracles for those that others have too."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline as ScipyBSpline
from scipy.special import eval_chebyt

from kansearch.errors import UserError
from kansearch.models.bases import BASE_FUNCTIONS, EXPANSIONS, BSpline, basis_cost, make_basis
from kansearch.specs import trial

from .zoo import BASES, normal


def test_every_declared_base_function_is_here() -> None:
    """The names that a study file may use are exactly the base functions and the bases that exist."""
    assert set(BASES) == set(get_args(trial.BaseFunction))
    assert set(EXPANSIONS) == set(trial.EXPANSIONS)


@pytest.mark.parametrize(
    ("name", "n_basis"), [(name, n) for name in BASES for n in (1, 2, 5, 8) if (name, n) != ("b_spline", 1)]
)
class TestContract:
    """What layers rely on, whatever the basis."""

    def test_gives_k_functions_of_each_input(self, name: str, n_basis: int) -> None:
        """(B, I) becomes (B, I, K), in the inputs' dtype; far from the grid values stay finite."""
        for dtype in (torch.float32, torch.float64):
            x = torch.cat([normal(7, 3, dtype=dtype), torch.full((1, 3), 1e4, dtype=dtype)])
            values = make_basis(name, 3, n_basis, 2.0, dtype)(x)
            assert values.shape == (8, 3, n_basis)
            assert values.dtype == dtype
            assert values.isfinite().all()

    def test_each_input_has_functions_of_its_own(self, name: str, n_basis: int) -> None:
        """What happens to one input changes nothing for another; at first all inputs have the same functions."""
        basis = make_basis(name, 2, n_basis, 2.0, torch.float64)
        x = normal(16, 2)  # whole vectors of rows, for the last of a row of numbers takes another way than the others
        changed = x.clone()
        changed[:, 1] += 1
        torch.testing.assert_close(basis(x)[:, 0], basis(changed)[:, 0], rtol=0, atol=0)
        torch.testing.assert_close(basis(x)[:, 1], basis(x.flip(1))[:, 0], rtol=0, atol=0)

    def test_functions_vary_over_the_grid_and_differ(self, name: str, n_basis: int) -> None:
        """On the grid no function is a constant, and the K functions are linearly independent."""
        for grid_range in (0.5, 3.0):
            x = torch.linspace(-grid_range, grid_range, 201, dtype=torch.float64).unsqueeze(1)
            values = make_basis(name, 1, n_basis, grid_range, torch.float64)(x).detach()[:, 0]
            assert values.std(0).min() > 1e-3
            assert torch.linalg.svdvals(values / values.norm(dim=0)).min() > 1e-4

    def test_counts_its_parameters(self, name: str, n_basis: int) -> None:
        """The closed form agrees with the module, and evaluation is never free."""
        closed_form = basis_cost(name, 3, n_basis)
        assert closed_form.parameters == sum(p.numel() for p in make_basis(name, 3, n_basis, 2.0).parameters())
        assert closed_form.flops >= 3 * n_basis


def test_a_b_spline_basis_of_one_function_is_refused() -> None:
    """One B-spline over the whole grid is a constant, which the bias is already."""
    with pytest.raises(UserError, match="at least 2"):
        make_basis("b_spline", 3, 1, 2.0)


def test_an_unknown_basis_is_refused_with_the_known_ones() -> None:
    """A wrong name is answered with all right ones."""
    with pytest.raises(UserError, match=r'"splines"; allowed: gaussian, .*chebyshev'):
        make_basis("splines", 3, 4, 2.0)


@given(n_basis=st.integers(2, 20), grid_range=st.floats(0.1, 50), seed=st.integers(0, 99))
def test_b_splines_equal_scipys_and_add_up_to_one(n_basis: int, grid_range: float, seed: int) -> None:
    """Inside the grid our B-splines are SciPy's on the same knots, and their sum is 1."""
    basis = BSpline(1, n_basis, grid_range, torch.float64)
    assert basis.grid_size + basis.spline_order == n_basis
    x = torch.from_numpy(np.random.default_rng(seed).uniform(-grid_range, grid_range, 50) * (1 - 1e-9))
    ours = basis(x.unsqueeze(1))[:, 0]
    theirs = ScipyBSpline.design_matrix(x.numpy(), basis.knots.numpy(), basis.spline_order).toarray()
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.sum(-1), torch.ones(50, dtype=torch.float64))


def test_b_splines_fade_to_nothing_beyond_the_grid() -> None:
    """An input that drifts off the grid falls silent, without a jump and without an error."""
    basis = BSpline(1, 8, 2.0, torch.float64)
    assert basis.spline_order == 3
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    total = basis(x.unsqueeze(1)).sum((1, 2))
    assert total[x.abs() > 2 + 3 * basis.spacing].abs().max() == 0
    assert total.diff().abs().max() < 0.01


def test_b_splines_lower_their_order_where_there_are_few() -> None:
    """K = G + S always holds with G of 1 or more, so few functions mean a low order."""
    orders = {k: BSpline(1, k, 2.0).spline_order for k in (2, 3, 4, 5, 12)}
    assert orders == {2: 1, 3: 2, 4: 3, 5: 3, 12: 3}


def test_chebyshev_equals_scipys() -> None:
    """T_1 to T_K of tanh(x / R)."""
    x = normal(20, 2)
    t = torch.tanh(x / 1.5).numpy()
    ours = make_basis("chebyshev", 2, 6, 1.5, torch.float64)(x)
    for k in range(6):
        np.testing.assert_allclose(ours[..., k].numpy(), eval_chebyt(k + 1, t), atol=1e-12)


def test_rbf_is_where_gaussian_atoms_start() -> None:
    """Fixed Gaussians and learnable ones are the same curves before training."""
    x = normal(20, 3)
    for n_basis in (1, 2, 8):
        fixed, learnable = (make_basis(name, 3, n_basis, 2.0, torch.float64)(x) for name in ("rbf", "gaussian"))
        torch.testing.assert_close(fixed, learnable)


def test_sines_start_as_the_cosine_basis_of_the_grid() -> None:
    """Frequencies rise by half a period over the grid, so no sum of them is forced to be periodic on it."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    values = make_basis("sin", 1, 4, 2.0, torch.float64)(x)[:, 0]
    for k in range(1, 5):
        torch.testing.assert_close(values[:, k - 1], torch.cos(k * math.pi * (x[:, 0] + 2) / 4))


@pytest.mark.parametrize("name", BASE_FUNCTIONS)
def test_base_functions_stay_finite_far_away(name: str) -> None:
    """No base function overflows where activations grow large."""
    x = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4])
    assert BASE_FUNCTIONS[name](x).isfinite().all()
