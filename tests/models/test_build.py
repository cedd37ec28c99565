"""Building: hybrid patterns, what cannot be built, seeds, and variance through depth."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from kansearch.errors import UserError
from kansearch.models.build import build, why_unbuildable
from kansearch.models.hybrid import layer_plan
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KERNELS
from kansearch.specs.trial import EXPANSIONS, Activation, ModelSpec

from .zoo import BRANCHES, FORMS, PLAIN_PATTERNS, SPECS, normal, random


@pytest.mark.parametrize(
    ("pattern", "depth", "plan"),
    [
        ("first", 2, "K-"),
        ("first", 4, "K---"),
        ("last", 2, "-K"),
        ("last", 4, "---K"),
        ("alternate", 2, "K-"),
        ("alternate", 3, "K-K"),
        ("alternate", 5, "K-K-K"),
        ("middle", 3, "-K-"),
        ("middle", 5, "-KKK-"),
    ],
)
def test_hybrid_patterns(pattern: str, depth: int, plan: str) -> None:
    """Each pattern puts its KAN layers (K) where it says, among ordinary ones (-)."""
    spec = ModelSpec(family="hybrid", pattern=pattern, depth=depth)
    assert layer_plan(spec) == tuple(letter == "K" for letter in plan)
    kinds = "".join("K" if isinstance(layer, KANLayer) else "-" for layer in build(spec, 3, 2).layers)
    assert kinds == plan


def test_families_that_are_no_hybrid_have_one_kind_of_layer() -> None:
    """An mlp has no KAN layer, a kan nothing else, whatever pattern the spec happens to hold."""
    assert layer_plan(ModelSpec(family="mlp", depth=3)) == (False, False, False)
    assert layer_plan(ModelSpec(family="kan", depth=2)) == (True, True)


@pytest.mark.parametrize("pattern", PLAIN_PATTERNS)
def test_a_hybrid_that_can_be_built_has_both_kinds(pattern: str) -> None:
    """At every depth a pattern either gives both kinds of layers or is refused, with the depth it needs."""
    for depth in range(1, 8):
        spec = ModelSpec(family="hybrid", pattern=pattern, depth=depth)
        reason = why_unbuildable(spec)
        assert (reason is None) == (len(set(layer_plan(spec))) == 2)
        assert reason is None or f"pattern {pattern} needs depth {3 if pattern == 'middle' else 2}" in reason


@pytest.mark.parametrize("form", KERNELS)
@pytest.mark.parametrize("basis", EXPANSIONS)
def test_fixed_bases_need_the_dictionary(form: str, basis: str) -> None:
    """A fixed basis is no base function that could be scaled; the reason says so, and an mlp does not care."""
    spec = ModelSpec(layer=form, base_function=basis)
    assert why_unbuildable(spec) == f"base function {basis} needs layer dictionary; layer is {form}"
    with pytest.raises(UserError, match=f"cannot be built: base function {basis} needs layer dictionary"):
        build(spec, 3, 2)
    assert why_unbuildable(ModelSpec(family="mlp", layer=form, base_function=basis)) is None


def test_one_b_spline_is_too_few() -> None:
    """A single B-spline is a constant, so the spec is refused before anything is built."""
    reason = why_unbuildable(ModelSpec(base_function="b_spline", n_basis=1))
    assert reason == "base function b_spline needs n_basis 2 or more: 1 is a constant"
    assert why_unbuildable(ModelSpec(base_function="b_spline", n_basis=2)) is None


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_seed_decides_every_weight(spec: ModelSpec) -> None:
    """The same seed gives the same weights bit for bit, whatever torch's global generator holds; another does not."""
    torch.manual_seed(1)
    one = build(spec, 3, 2, random(0)).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    same = build(spec, 3, 2, random(0)).state_dict()
    other = build(spec, 3, 2, random(1)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert list(one) == list(same)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_without_a_generator_torchs_global_one_decides() -> None:
    """As everywhere in PyTorch: manual_seed makes it repeatable."""
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(build(ModelSpec(), 3, 2).layers[0].V)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_numbers_have_the_dtype(dtype: torch.dtype) -> None:
    """Parameters, buffers and outputs."""
    for spec in SPECS:
        network = build(spec, 3, 2, random(0), dtype)
        assert {t.dtype for t in (*network.parameters(), *network.buffers())} == {dtype}
        assert network(normal(2, 3, dtype=dtype)).dtype == dtype


def variance_after(spec: ModelSpec) -> float:
    """Variance over rows of what six layers of 64 nodes make of standard normal inputs; mean of 4 networks."""
    variances = []
    for seed in range(4):
        network = build(spec, 64, 64, random(seed))
        with torch.no_grad():
            variances.append(network(normal(512, 64, seed=100 + seed, dtype=torch.float32)).var(0).mean().item())
    return sum(variances) / len(variances)


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_six_kan_layers_keep_the_variance(form: str, name: str) -> None:
    """A factor of 2 at most, up or down, for every form and base function."""
    assert 0.5 < variance_after(ModelSpec(depth=6, width=64, layer=form, base_function=name)) < 2


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("name", sorted({name for _, name in FORMS}))
def test_six_dictionary_layers_keep_the_variance(name: str, branch: str) -> None:
    """A factor of 2 at most, up or down, for every base branch and for none."""
    assert 0.5 < variance_after(ModelSpec(depth=6, width=64, base_function=name, base_branch=branch)) < 2


@pytest.mark.parametrize("activation", get_args(Activation))
def test_six_ordinary_layers_keep_the_mean_square(activation: str) -> None:
    """He's rule: a factor of 2 at most, up or down."""
    squares = []
    for seed in range(4):
        network = build(ModelSpec(family="mlp", depth=6, width=64, activation=activation), 64, 64, random(seed))
        with torch.no_grad():
            squares.append(network(normal(512, 64, seed=100 + seed, dtype=torch.float32)).square().mean().item())
    assert 0.5 < sum(squares) / 4 < 2
