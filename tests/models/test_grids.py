"""Grids that follow the data, and become finer."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from kansearch.errors import UserError
from kansearch.models.bases import FittedGrid
from kansearch.models.build import build
from kansearch.models.cost import cost
from kansearch.models.grids import fit_grids, refined
from kansearch.models.kan import KANLayer
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import FIXED_BASES, ModelSpec

from .zoo import normal, random, stir

FITTED: list[tuple[dict[str, Any], Inputs]] = [
    ({"depth": 3, "width": 5}, 4),
    ({"depth": 2, "width": 5, "base_branch": "none"}, 4),
    ({"family": "hybrid", "depth": 3, "width": 5, "layer_norm": True}, 4),
    ({"stem": "convolution", "channels": 2, "width": 5}, ImageShape(1, 5, 4)),
    ({"stem": "recurrent", "embedding": 3, "state": 4, "width": 5}, TextShape(6, 20)),
    ({"stem": "attention", "embedding": 4, "heads": 2, "feed_forward": 5, "width": 5}, 4),
]


def rows_of(inputs: Inputs, n: int = 2000) -> torch.Tensor:
    if isinstance(inputs, TextShape):
        return torch.randint(0, inputs.vocabulary, (n, inputs.length), generator=random(3)).double()
    return normal(n, inputs if isinstance(inputs, int) else inputs.channels * inputs.height * inputs.width)


@pytest.mark.parametrize("base_function", FIXED_BASES)
@pytest.mark.parametrize(("fields", "inputs"), FITTED)
def test_a_finer_network_computes_the_same(base_function: str, fields: dict[str, Any], inputs: Inputs) -> None:
    """From 4 intervals of splines to 8, whose knots hold the old ones; of other bases as well as they can."""
    coarse, fine = (7, 11) if base_function == "b_spline" else (4, 8)
    spec = ModelSpec(base_function=base_function, n_basis=fine, grid="fitted", **fields)
    network = build(spec.model_copy(update={"n_basis": coarse}), inputs, 3, random(1), torch.float64)
    stir(network)
    x = rows_of(inputs)
    for _ in range(4):  # until no layer moves the grids of those behind it
        fit_grids(network, x)
    before = network.outputs(x, len(x))
    finer = refined(network, spec, inputs, 3, x)
    assert sum(p.numel() for p in finer.parameters()) == cost(spec, inputs, 3).parameters
    # A Gaussian is no sum of narrower ones; and one value in a hundred lies beyond the grid, of which a row has many.
    apart = (finer.outputs(x, len(x)) - before).abs().amax(-1) / before.std()
    assert float(apart.quantile(0.1)) < (0.2 if base_function == "rbf" else 1e-5)
    assert finer.generator is network.generator


@pytest.mark.parametrize(("fields", "inputs"), FITTED)
def test_fitted_grids_cover_what_layers_see(fields: dict[str, Any], inputs: Inputs) -> None:
    """Nearly all values lie on the grid of their layer."""
    spec = ModelSpec(base_function="b_spline", n_basis=8, grid="fitted", **fields)
    network = build(spec, inputs, 3, random(1), torch.float64)
    stir(network)
    x = rows_of(inputs)
    for _ in range(3):  # the layers before it change a little what a layer sees
        fit_grids(network, x)
    seen = 0
    for layer in (module for module in network.modules() if isinstance(module, KANLayer)):
        assert isinstance(layer.basis, FittedGrid)
        shown: list[torch.Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, given, shown=shown: shown.append(given[0]))
        network.rows(x)
        handle.remove()
        values = torch.cat([rows.flatten(0, -2) for rows in shown])
        on_grid = ((values - layer.basis.centre) * layer.basis.stretch).abs() <= spec.grid_range * (1 + 1e-9)
        assert float(on_grid.double().mean()) > 0.9
        seen += 1
    assert seen


@pytest.mark.parametrize(("low", "high"), [(-1.5, 1.0), (0.0, 0.5), (-2.5, 2.5)])
def test_a_smooth_curve_survives_a_new_grid(low: float, high: float) -> None:
    """A sine, learned on one grid and moved to another, narrower or wider."""
    layer = KANLayer(1, 1, "b_spline", n_basis=19, grid="fitted", base_branch="none", dtype=torch.float64)
    x = torch.linspace(-2, 2, 400, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        layer.W.copy_(torch.linalg.lstsq(layer.features(x), torch.sin(2 * x)).solution.T.unsqueeze(0))
    seen = torch.linspace(low, high, 400, dtype=torch.float64).unsqueeze(1)
    before = deepcopy(layer)
    assert isinstance(layer.basis, FittedGrid)
    layer.basis.fit(seen)
    layer.follow(before, seen)
    inside = x[(x > low) & (x < high)]
    apart = (layer.curve(inside, 0, 0) - before.curve(inside, 0, 0)).abs().max()
    assert apart.item() < (2e-3 if high < 2 else 2e-2)


def test_a_layer_on_its_own_scale_gains_most() -> None:
    """Inputs from 10 to 14 fall off a fixed grid; a fitted one follows a curve over them."""
    x = 10 + 4 * torch.rand(500, 1, generator=random(0), dtype=torch.float64)
    target = torch.sin(3 * x)
    errors = []
    for grid in ("fixed", "fitted"):
        layer = KANLayer(1, 1, "b_spline", n_basis=19, grid=grid, base_branch="none", dtype=torch.float64)
        if isinstance(layer.basis, FittedGrid):
            layer.basis.fit(x)
        features = layer.features(x)
        errors.append(float((features @ torch.linalg.lstsq(features, target, driver="gelsd").solution - target).std()))
    assert errors[0] > 0.5
    assert errors[1] < 0.01


def test_a_constant_input_keeps_its_grid() -> None:
    """There is nothing to fit it to, and no division by nothing."""
    layer = KANLayer(2, 1, "rbf", grid="fitted", dtype=torch.float64)
    x = torch.stack([torch.linspace(0, 8, 50, dtype=torch.float64), torch.full((50,), 7.0, dtype=torch.float64)], 1)
    assert isinstance(layer.basis, FittedGrid)
    layer.basis.fit(x)
    assert layer.basis.centre.tolist() == pytest.approx([4.0, 0.0])
    assert layer.basis.stretch[1] == 1.0


def test_curves_stay_where_no_row_is() -> None:
    """Rows on one half of the grid: the other half is what it was too, and no coefficient runs away."""
    coarse, fine = (KANLayer(1, 1, "b_spline", n_basis=n, dtype=torch.float64) for n in (7, 11))
    stir(coarse)
    fine.load_state_dict({**fine.state_dict(), "V": coarse.V, "c": coarse.c})
    fine.follow(coarse, torch.linspace(-2, 0, 100, dtype=torch.float64).unsqueeze(1))
    everywhere = torch.linspace(-2, 2, 50, dtype=torch.float64)
    assert torch.allclose(fine.curve(everywhere, 0, 0), coarse.curve(everywhere, 0, 0), atol=1e-6)


def test_no_gradient_moves_a_grid() -> None:
    """Centres and widths are the network's numbers, but no weights."""
    layer = KANLayer(3, 2, "b_spline", grid="fitted")
    with torch.no_grad():
        layer.W.normal_()
    layer(torch.randn(10, 3)).sum().backward()
    assert layer.basis.centre.grad is None
    assert layer.W.grad is not None
    assert layer.activation_parameters() == [layer.W]
    before = deepcopy(layer.basis.state_dict())
    assert before.keys() == {"centre", "stretch"}


def test_learned_atoms_have_no_grid_to_fit() -> None:
    with pytest.raises(UserError, match="b_spline, rbf, chebyshev, fourier; it is gaussian"):
        KANLayer(1, 1, "gaussian", grid="fitted")
