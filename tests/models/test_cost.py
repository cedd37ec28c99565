"""Costs: closed forms against the real networks and against counts by hand."""

from __future__ import annotations

from itertools import count
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kansearch.models.build import build, why_unbuildable
from kansearch.models.cost import Cost, cost, latency_ms
from kansearch.models.kernel import KERNELS
from kansearch.specs.trial import Activation, BaseFunction, Family, Layer, ModelSpec, Pattern

from .zoo import BRANCHES, SPECS, random


def n_parameters(spec: ModelSpec, n_inputs: int, n_outputs: int) -> int:
    return sum(p.numel() for p in build(spec, n_inputs, n_outputs, random(0)).parameters())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_parameters_are_those_of_the_network(spec: ModelSpec) -> None:
    """Counted without building, for every form, base function, branch and pattern."""
    assert cost(spec, 3, 2).parameters == n_parameters(spec, 3, 2)


@settings(max_examples=60)
@given(
    spec=st.builds(
        ModelSpec,
        family=st.sampled_from(get_args(Family)),
        layer=st.sampled_from(get_args(Layer)),
        base_function=st.sampled_from(get_args(BaseFunction)),
        base_branch=st.sampled_from(BRANCHES),
        activation=st.sampled_from(get_args(Activation)),
        pattern=st.sampled_from(get_args(Pattern)),
        layer_norm=st.booleans(),
        depth=st.integers(1, 5),
        width=st.integers(1, 12),
        n_basis=st.integers(1, 9),
        grid_range=st.floats(0.5, 4),
    ),
    n_inputs=st.integers(1, 9),
    n_outputs=st.integers(1, 5),
)
def test_parameters_are_right_for_any_spec(spec: ModelSpec, n_inputs: int, n_outputs: int) -> None:
    """Whatever can be declared and built."""
    assume(why_unbuildable(spec) is None)
    assert cost(spec, n_inputs, n_outputs).parameters == n_parameters(spec, n_inputs, n_outputs)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("form", KERNELS)
def test_kernels_without_shift_count_too(form: str, shift: bool) -> None:
    """The literal forms, which no spec asks for, have closed forms as well."""
    layer = KERNELS[form](3, 4, "tanh", shift=shift)
    assert KERNELS[form].cost(3, 4, "tanh", shift=shift).parameters == sum(p.numel() for p in layer.parameters())


def test_flops_of_an_mlp_by_hand() -> None:
    """4 inputs, two hidden rows of 8 with layer norm and gelu, 3 outputs."""
    products = 2 * 4 * 8 + 2 * 8 * 8 + 2 * 8 * 3  # each weight: one multiplication, one addition
    gelu = 8 * 5  # x / sqrt 2, erf, 1 + erf, times x, times 1/2
    mean = 7 + 1  # sum of 8, times 1/8
    variance = 8 + 8 + 7 + 1  # x - mean, squares, sum, times 1/8
    norm = mean + variance + 2 + 8 + 8 + 8  # + epsilon, 1/sqrt, then scaling, weight, bias
    spec = ModelSpec(family="mlp", depth=3, width=8, activation="gelu", layer_norm=True)
    assert cost(spec, 4, 3).flops == products + 2 * (norm + gelu)


def test_flops_of_a_b_spline_kan_by_hand() -> None:
    """2 inputs, a hidden row of 5, 1 output; 8 cubic B-splines (5 intervals) and a silu branch on each edge."""
    position = 2  # (x - first knot) / spacing
    maxima = 1 + 2 + 2  # d to the middle of the function; max(2 - |d|, 0), max(1 - |d|, 0)
    cubes = 2 * 2 + 3  # of both, the first less 4 times the second, over 6
    silu = 2  # sigmoid, times x
    of_input = position + 8 * (maxima + cubes) + silu
    products = 2 * (2 * 9) * 5 + 2 * (5 * 9) * 1  # 9 features of each input
    spec = ModelSpec(depth=2, width=5, base_function="b_spline", n_basis=8)
    assert cost(spec, 2, 1).flops == (2 + 5) * of_input + products


def test_flops_of_a_hybrid_of_edges_by_hand() -> None:
    """3 inputs, an ordinary layer to 6 nodes, relu, another, then Gaussian edges to 2 outputs."""
    ordinary = 2 * 3 * 6 + 2 * 6 * 6
    relu = 6
    edge = 1 + 1 + 2 + 1 + 1  # b x, + d, square and exp, times a, added up
    spec = ModelSpec(
        family="hybrid", depth=3, width=6, pattern="last", layer="edge", base_function="gaussian", dropout=0.1
    )
    assert cost(spec, 3, 2) == Cost(
        parameters=(3 * 6 + 6) + (6 * 6 + 6) + (3 * 12 + 2), flops=ordinary + relu + 12 * edge
    )


def test_flops_of_shared_and_node_layers_by_hand() -> None:
    """A single layer of each, 3 inputs and 4 outputs, with tanh."""
    shared = 3 * (1 + 1 + 1) + 2 * 12  # b x, + d, tanh; product and constant
    node = (12 + 4 * 2) + 4 * (1 + 1 + 1 + 1 + 1)  # 3 products and 2 additions a node; b u, + d, tanh, times a, + c
    assert cost(ModelSpec(depth=1, layer="shared", base_function="tanh"), 3, 4).flops == shared
    assert cost(ModelSpec(depth=1, layer="node", base_function="tanh"), 3, 4).flops == node


class NoTensors(TorchDispatchMode):
    """Nothing of torch is computed or made."""

    def __torch_dispatch__(self, func: Any, *_: Any) -> Any:
        raise AssertionError(f"{func} was called")


def test_costs_are_known_without_a_network() -> None:
    """A sampler may ask for thousands: no tensor is made for the largest network, nor looked at."""
    spec = ModelSpec(family="hybrid", pattern="alternate", depth=12, width=4096, n_basis=64, layer_norm=True)
    with NoTensors():
        assert cost(spec, 4096, 1000).parameters > 10**9


def test_latency_is_that_of_the_median_pass_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds of a single row; a network that is training goes on training, its dropout stream untouched."""
    network = build(ModelSpec(depth=3, dropout=0.5), 5, 2, random(0))
    before = network.generator.get_state()
    seen: list[int] = []
    network.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    # Passes of 1, 5 and 2 s: as many as must be.
    clock = iter([0.0, 1.0, 10.0, 15.0, 20.0, 22.0])
    monkeypatch.setattr("kansearch.models.cost.time.perf_counter", lambda: next(clock))
    assert latency_ms(network, 5) == 2000
    assert seen == [1] * 4  # the first sets things up
    assert network.training
    assert torch.equal(network.generator.get_state(), before)


def test_quick_passes_are_measured_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until three milliseconds are spent, and eleven times at most."""
    network = build(ModelSpec(), 5, 2, random(0))
    counts = []
    for seconds in (0.0001, 0.0005):
        ticks = count()
        monkeypatch.setattr("kansearch.models.cost.time.perf_counter", lambda s=seconds, t=ticks: next(t) * s)
        latency_ms(network, 5)
        counts.append(next(ticks) // 2)
    assert counts == [11, 6]
