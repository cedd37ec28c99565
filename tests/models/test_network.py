"""Networks: what stands between layers, dropout, groups of parameters, learned curves."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch

from kansearch.models import KAN
from kansearch.models.build import build
from kansearch.models.kan import KANLayer
from kansearch.models.network import Network
from kansearch.specs.trial import ModelSpec

from .zoo import SPECS, normal, random, stir


def make(spec: ModelSpec, seed: int = 0, n_inputs: int = 3, n_outputs: int = 2) -> Network:
    return build(spec, n_inputs, n_outputs, random(seed), torch.float64)


class TestBetweenLayers:
    """Activations, normalisation and dropout."""

    def test_an_activation_stands_only_between_ordinary_layers(self) -> None:
        """Ordinary, ordinary, KAN, ordinary, ordinary: after the first and the fourth, and never at the end."""
        for depth, pattern, expected in (
            (5, "middle", [False, False, False, False]),
            (5, "first", [False, True, True, True]),
            (5, "last", [True, True, True, False]),
            (4, "alternate", [False, False, False]),
        ):
            network = make(ModelSpec(family="hybrid", depth=depth, pattern=pattern))
            assert list(network.activated) == expected
        assert make(ModelSpec(family="mlp", depth=3)).activated == (True, True)
        assert make(ModelSpec(depth=3)).activated == (False, False)

    def test_an_mlp_is_what_everybody_calls_one(self) -> None:
        """Linear, norm, relu, linear: the same numbers as plain PyTorch."""
        network = make(ModelSpec(family="mlp", depth=2, width=5, layer_norm=True))
        first, last = network.layers
        plain = torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.LayerNorm(5), torch.nn.ReLU(), torch.nn.Linear(5, 2)
        ).double()
        plain[0].load_state_dict(first.state_dict())
        plain[3].load_state_dict(last.state_dict())
        x = normal(4, 3)
        torch.testing.assert_close(network(x), plain(x))

    def test_raw_inputs_and_outputs_are_never_normalised(self) -> None:
        """Layer norm on one input makes it 0: only hidden rows get one, so a network of one layer has none."""
        assert len(make(ModelSpec(depth=1, layer_norm=True)).norms) == 0
        deep = make(ModelSpec(depth=3, width=5, layer_norm=True))
        assert [tuple(norm.weight.shape) for norm in deep.norms.values()] == [(5,), (5,)]

    def test_dropout_only_while_training_and_only_on_hidden_rows(self) -> None:
        """Prediction is deterministic; a network without hidden rows has nothing to drop."""
        network = make(ModelSpec(family="mlp", depth=3, width=20, dropout=0.5))
        x = normal(6, 3)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))
        single = make(ModelSpec(depth=1, dropout=0.5))
        assert torch.equal(single(x), single(x))

    def test_dropout_keeps_the_mean(self) -> None:
        """Those that are left are scaled up to make up for the silenced ones."""
        network = make(ModelSpec(family="mlp", depth=2, width=4, dropout=0.25))
        mask = network._mask(torch.ones(20_000, 4, dtype=torch.float64))
        assert mask.mean() == pytest.approx(1, abs=0.02)
        assert set(mask.unique().tolist()) == {0.0, 1 / 0.75}


class TestDropoutMasks:
    """They come from the network's own stream and from nowhere else."""

    SPEC = ModelSpec(depth=3, width=20, dropout=0.3)

    def test_the_same_seed_gives_the_same_masks(self) -> None:
        """Two networks of one seed stay equal pass by pass; another seed differs."""
        one, same, other = (make(self.SPEC, seed) for seed in (0, 0, 1))
        other.load_state_dict(one.state_dict())
        x = normal(6, 3)
        for _ in range(3):
            assert torch.equal(one(x), same(x))
        assert not torch.equal(one(x), other(x))

    def test_the_global_generator_is_neither_read_nor_advanced(self) -> None:
        """A trial's result depends on nothing else in the process, and disturbs nothing."""
        one, same = make(self.SPEC), make(self.SPEC)
        x = normal(6, 3)
        torch.manual_seed(1)
        before = torch.get_rng_state()
        expected = one(x)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(same(x), expected)

    def test_dropout_draws_leave_the_trials_generator_alone(self) -> None:
        """The batch order, drawn from the same generator after building, is the same with dropout and without."""
        generators = [random(0), random(0)]
        for generator, dropout in zip(generators, (0.0, 0.3), strict=True):
            build(self.SPEC.model_copy(update={"dropout": dropout}), 3, 2, generator)(normal(6, 3).float())
        assert torch.equal(generators[0].get_state(), generators[1].get_state())

    def test_a_stream_can_be_saved_and_resumed(self) -> None:
        """With its generator's state a network goes on as if it had never stopped."""
        network, resumed = make(self.SPEC), make(self.SPEC)
        x = normal(6, 3)
        network(x)
        resumed.generator.set_state(network.generator.get_state())
        assert torch.equal(resumed(x), network(x))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_network_gives_outputs_amplitudes_and_curves(spec: ModelSpec) -> None:
    """All kinds of networks answer all questions, and groups hold each parameter at most once."""
    network = make(spec)
    stir(network)
    network.eval()
    x = normal(8, 3)
    y, amplitudes = network.forward_with_amplitudes(x)
    assert y.shape == (8, 2)
    torch.testing.assert_close(y, network(x))
    groups = network.activation_groups()
    assert len(groups) == len(amplitudes)
    grouped = [id(parameter) for group in groups for parameter in group]
    decayed = [id(parameter) for parameter in network.decayed_parameters()]
    everything = {id(parameter) for parameter in network.parameters()}
    assert len(set(grouped)) == len(grouped)
    assert len(set(decayed)) == len(decayed)
    assert everything >= set(grouped) | set(decayed)
    assert len({curve.layer for curve in network.curves(x)}) == len(amplitudes)
    (y.sum() + sum(a.sum() for a in amplitudes)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_weight_decay_spares_constants_norms_and_activations() -> None:
    """Of a hybrid: the ordinary weights and W and V of the dictionary."""
    network = make(ModelSpec(family="hybrid", depth=3, pattern="last", layer_norm=True))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {names[id(parameter)] for parameter in network.decayed_parameters()}
    assert decayed == {"layers.0.weight", "layers.1.weight", "layers.2.W", "layers.2.V"}


class TestCurves:
    """The learned activations, for the report."""

    def test_the_strongest_edges_are_drawn_where_they_were_used(self) -> None:
        """Amplitudes fall; points go from the 1st to the 99th percentile of the edge's input."""
        network = KAN((3, 4, 2), n_basis=4, generator=random(0), dtype=torch.float64)
        stir(network)
        x = normal(500, 3)
        curves = network.curves(x, per_layer=5, n_points=11)
        amplitudes = network.forward_with_amplitudes(x)[1][0]
        first = [curve for curve in curves if curve.layer == 0]
        assert [len(first), len(curves)] == [5, 10]
        expected = amplitudes.flatten().sort(descending=True).values[:5]
        np.testing.assert_allclose([curve.amplitude for curve in first], expected.detach(), rtol=1e-4)
        for curve in first:
            assert curve.amplitude == pytest.approx(amplitudes[curve.target, curve.source].item(), rel=1e-4)
            low, high = np.percentile(x[:, curve.source].numpy(), [1, 99])
            assert (len(curve.x), curve.x[0], curve.x[-1]) == (
                11,
                pytest.approx(low, rel=1e-4),
                pytest.approx(high, rel=1e-4),
            )

    def test_a_curve_is_the_layers_own(self) -> None:
        """Differences along a curve are those of the layer's output when only that input moves."""
        layer = KANLayer(2, 2, "tanh", n_basis=3, generator=random(0), dtype=torch.float64)
        network = Network([layer])
        stir(network)
        curve = network.curves(normal(300, 2))[0]
        x = torch.zeros(len(curve.x), 2, dtype=torch.float64)
        x[:, curve.source] = torch.tensor(curve.x)
        along = network(x)[:, curve.target].detach()
        np.testing.assert_allclose(np.diff(curve.y), along.diff(), atol=1e-3)

    def test_nodes_have_curves_without_a_source(self) -> None:
        """In the node form a curve belongs to its node."""
        network = make(ModelSpec(layer="node", base_function="tanh", width=3))
        curves = network.curves(normal(50, 3))
        assert {curve.source for curve in curves} == {None}
        assert [sum(curve.layer == layer for curve in curves) for layer in (0, 1)] == [3, 2]

    def test_numbers_are_short(self) -> None:
        """Five significant digits are enough to draw."""
        curve = make(ModelSpec(base_function="sin")).curves(normal(50, 3))[0]
        assert all(value == float(f"{value:.5g}") for value in (*curve.x, *curve.y, curve.amplitude))

    def test_drawing_changes_nothing(self) -> None:
        """A network that is training goes on training, its dropout stream untouched."""
        network = make(ModelSpec(depth=3, dropout=0.2))
        before = network.generator.get_state()
        network.curves(normal(50, 3))
        assert network.training
        assert torch.equal(network.generator.get_state(), before)

    def test_curves_that_are_not_finite_are_left_out(self) -> None:
        """A diverged layer has nothing to draw, which is no reason to fail."""
        network = make(ModelSpec(depth=1, base_function="tanh"))
        with torch.no_grad():
            network.layers[0].W[0] = torch.nan
        assert {curve.target for curve in network.curves(normal(50, 3))} == {1}


def test_networks_can_be_copied_and_saved() -> None:
    """A copy behaves as the original, dropout included; a state holds parameters alone."""
    network = make(ModelSpec(depth=3, dropout=0.2, base_function="b_spline"))
    x = normal(6, 3)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    buffer.seek(0)
    restored = make(ModelSpec(depth=3, dropout=0.2, base_function="b_spline"), seed=7)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    twin = copy.deepcopy(network)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
    assert torch.equal(twin(x), network(x))
    assert torch.equal(twin.eval()(x), restored.eval()(x))


def test_kan_is_usable_alone() -> None:
    """A KAN of given widths learns x^2 without anything else of kansearch."""
    network = KAN((1, 3, 1), "gaussian", n_basis=6, generator=random(0))
    assert [(layer.n_inputs, layer.n_outputs) for layer in network.layers] == [(1, 3), (3, 1)]
    x = torch.linspace(-2, 2, 64).unsqueeze(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (network(x) - x.square()).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
