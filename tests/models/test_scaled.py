"""Edges whose scales are interpolated: against edges that are evaluated one by one."""

from __future__ import annotations

import pytest
import torch

from kansearch.models.build import why_unbuildable
from kansearch.models.kernel import EdgeLayer
from kansearch.models.scaled import ScaledLayer
from kansearch.specs.trial import ModelSpec

from .zoo import normal, random, stir


def exact_and_interpolated(function: str, n_basis: int) -> tuple[EdgeLayer, ScaledLayer]:
    """The same a, b and c."""
    interpolated = ScaledLayer(6, 4, function, n_basis=n_basis, generator=random(0), dtype=torch.float64)
    stir(interpolated)
    exact = EdgeLayer(6, 4, function, shift=False, dtype=torch.float64)
    with torch.no_grad():
        exact.a.copy_(interpolated.a)
        exact.s.copy_(interpolated.scale().log())
        exact.c.copy_(interpolated.c)
    return exact, interpolated


@pytest.mark.parametrize(
    ("function", "n_basis", "bound"),
    [
        ("tanh", 4, 4e-2), ("tanh", 6, 5e-3), ("tanh", 8, 8e-4), ("sigmoid", 6, 5e-3),
        ("silu", 4, 9e-3), ("silu", 6, 4e-4), ("silu", 8, 8e-5), ("gelu", 6, 8e-4), ("gaussian", 8, 1e-2),
        ("relu", 1, 1e-12), ("relu", 6, 1e-12),
    ],
)  # fmt: skip
def test_curves_are_as_near_as_is_said(function: str, n_basis: int, bound: float) -> None:
    """On [-4, 4], at every scale, in the largest value of the base function there; and so are sums and amplitudes."""
    exact, interpolated = (layer.requires_grad_(False) for layer in exact_and_interpolated(function, n_basis))
    points = torch.linspace(-4, 4, 201, dtype=torch.float64)
    with torch.no_grad():
        interpolated.s[0] = torch.linspace(-20, 20, 6)  # up to both ends
        exact.s.copy_(interpolated.scale().log())
        largest = exact.function(4 * points).abs().max()
        for target in range(4):
            for source in range(6):
                curves = [layer.curve(points, source, target) for layer in (exact, interpolated)]
                assert (curves[0] - curves[1]).abs().max() <= bound * largest * exact.a[target, source].abs()
    x = normal(200, 6).clamp(-4, 4)
    outputs, amplitudes = exact.forward_with_amplitudes(x)
    near, near_amplitudes = interpolated.forward_with_amplitudes(x)
    weights = exact.a.abs().sum(-1)
    assert ((near - outputs).abs() <= bound * largest * weights + 1e-12).all()
    assert torch.allclose(near_amplitudes, amplitudes, atol=float(bound * largest * exact.a.abs().max()) + 1e-12)


def test_scales_stay_within_their_range() -> None:
    """From 1/4 to 4, wherever the parameter goes."""
    layer = ScaledLayer(2, 3, "tanh", dtype=torch.float64)
    with torch.no_grad():
        layer.s.copy_(torch.tensor([[-1e6, 1e6], [-3.0, 3.0], [0.0, 0.1]]))
    assert layer.scale().min() >= 0.25 - 1e-12
    assert layer.scale().max() <= 4 + 1e-12
    assert layer(normal(5, 2)).isfinite().all()


def test_a_base_function_starts_at_its_own_scale() -> None:
    """Gaussians are wider than sigmoids."""
    for function, wanted in (("gaussian", 0.5), ("tanh", 1.0)):
        layer = ScaledLayer(30, 30, function, generator=random(0), dtype=torch.float64)
        assert layer.scale().log().mean().exp().item() == pytest.approx(wanted, rel=0.05)


def test_nothing_lies_between_one_scale() -> None:
    """But for relu, which needs none to lie between."""
    one = ModelSpec(layer="scaled", n_basis=1, base_function="tanh")
    assert why_unbuildable(one) == "layer scaled needs n_basis 2 or more to interpolate between: it is 1"
    assert why_unbuildable(one.model_copy(update={"base_function": "relu"})) is None
    assert why_unbuildable(one.model_copy(update={"family": "mlp"})) is None
