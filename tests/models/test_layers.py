"""KAN layers: gradients, amplitudes and curves, of every form with every base function."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from kansearch.errors import UserError
from kansearch.models import EdgeLayer, KANLayer, NodeLayer, SharedLayer, kernel
from kansearch.models.bases import BASE_FUNCTIONS
from kansearch.models.kaf import KAFLayer
from kansearch.models.layer import CurveLayer
from kansearch.models.moments import normal_quadrature

from .zoo import BRANCHES, FORMS, make_layer, normal, random, stir


def edge_outputs(layer: CurveLayer, x: Tensor) -> Tensor:
    """(B, O, S): every curve of a layer on what it sees, one by one."""
    seen = layer.curve_inputs(x)
    if not layer.one_curve_an_edge:
        return torch.stack([layer.curve(seen[:, j], 0, j) for j in range(layer.n_outputs)], 1).unsqueeze(-1)
    rows = [
        torch.stack([layer.curve(seen[:, i], i, j) for i in range(layer.n_inputs)], -1) for j in range(layer.n_outputs)
    ]
    return torch.stack(rows, 1)


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_gradients_are_right(form: str, name: str) -> None:
    """Outputs and amplitudes have the derivatives of finite differences, by every input and parameter."""
    layer = make_layer(form, name, 2, 2)
    stir(layer)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def outputs(x: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, values, strict=True))
        return functional_call(_Amplitudes(layer), {f"layer.{n}": v for n, v in given.items()}, (x,))

    assert gradcheck(outputs, (normal(4, 2, seed=5).requires_grad_(), *parameters))


class _Amplitudes(torch.nn.Module):
    """A layer whose forward pass is the one with amplitudes."""

    def __init__(self, layer: CurveLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.forward_with_amplitudes(x)


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_outputs_and_amplitudes_are_those_of_the_curves(form: str, name: str) -> None:
    """Outputs are sums of curves and constants; an amplitude is the root mean square of its curve."""
    layer = make_layer(form, name)
    stir(layer)
    x = normal(9, 3, seed=5)
    curves = edge_outputs(layer, x)
    y, amplitudes = layer.forward_with_amplitudes(x)
    torch.testing.assert_close(y, layer(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(y, curves.sum(-1) + layer.c)
    torch.testing.assert_close(amplitudes, curves.square().mean(0).sqrt())


@pytest.mark.parametrize("branch", BRANCHES)
def test_amplitudes_of_a_dictionary_include_its_base_branch(branch: str) -> None:
    """A curve is all that an edge adds: the dictionary and the base branch."""
    layer = make_layer("dictionary", "b_spline", base_branch=branch)
    stir(layer)
    x = normal(9, 3)
    amplitudes = layer.forward_with_amplitudes(x)[1]
    torch.testing.assert_close(amplitudes, edge_outputs(layer, x).square().mean(0).sqrt())


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_amplitudes_of_nothing_have_finite_gradients(form: str, name: str) -> None:
    """Where all weights are 0 amplitudes are 0, and a penalty on them does no harm."""
    layer = make_layer(form, name)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    amplitudes = layer.forward_with_amplitudes(normal(9, 3))[1]
    amplitudes.sum().backward()
    assert amplitudes.abs().max() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_new_layer_is_centred_with_unit_variance(form: str, name: str) -> None:
    """Over standard normal inputs outputs have mean 0 (within 0.1) and variance 1 (within 15 %)."""
    variances = []
    for seed in range(6):
        layer = make_layer(form, name, 40, 40, generator=random(seed))
        with torch.no_grad():
            y = layer(normal(1500, 40, seed=100 + seed))
        assert y.mean(0).square().mean().sqrt() < 0.1
        variances.append(y.var(0).mean())
    assert torch.stack(variances).mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("name", ["gaussian", "tanh", "sin", "b_spline", "chebyshev"])
def test_a_dictionary_keeps_variance_with_any_base_branch(name: str, branch: str) -> None:
    """Whether the base branch carries the signal or, without one, the coefficients."""
    layer = make_layer("dictionary", name, 60, 60, base_branch=branch)
    with torch.no_grad():
        y = layer(normal(2000, 60, seed=100))
    assert y.var(0).mean() == pytest.approx(1, abs=0.2)
    assert (layer.W == 0).all() == (branch != "none")


def test_a_dictionary_layer_is_one_matrix_product() -> None:
    """Outputs are features times weights; features of an input stand together, the base branch last."""
    layer = KANLayer(3, 2, "rbf", n_basis=4, generator=random(0), dtype=torch.float64)
    stir(layer)
    x = normal(5, 3)
    features, weight = layer.features(x), layer.weight()
    assert features.shape == (5, 15)
    assert weight.shape == (2, 15)
    torch.testing.assert_close(layer(x), features @ weight.T + layer.c)
    torch.testing.assert_close(features.view(5, 3, 5)[..., :4], layer.basis(x))
    torch.testing.assert_close(features.view(5, 3, 5)[..., 4], torch.nn.functional.silu(x))


def test_activation_parameters_of_dictionaries() -> None:
    """Atoms where they are learned; of a fixed basis its coefficients, unless nothing else carries the signal."""
    learned = make_layer("dictionary", "tanh")
    assert [p.shape for p in learned.activation_parameters()] == [(3, 4), (3, 4)]
    fixed = make_layer("dictionary", "b_spline")
    (only,) = fixed.activation_parameters()
    assert only is fixed.W
    assert make_layer("dictionary", "b_spline", base_branch="none").activation_parameters() == []


@pytest.mark.parametrize("shift", [True, False])
def test_activation_parameters_of_kernels(shift: bool) -> None:
    """Scales and shifts; in the node form, which has no weights after f, amplitudes and constants too."""
    for form, letters in (("edge", "sd"), ("shared", "sd"), ("node", "asdc")):
        layer = make_layer(form, "tanh", shift=shift)
        expected = [getattr(layer, letter) for letter in letters if shift or letter != "d"]
        assert list(map(id, layer.activation_parameters())) == list(map(id, expected))


def test_weight_decay_acts_on_weight_matrices_only() -> None:
    """W and V of a dictionary, a of edges, W of nodes; nothing that scales, shifts or adds."""
    dictionary, edge, shared, node = (make_layer(form, "silu") for form in ("dictionary", "edge", "shared", "node"))
    expected = {dictionary: [dictionary.W, dictionary.V], edge: [edge.a], shared: [shared.a], node: [node.W]}
    for layer, parameters in expected.items():
        assert list(map(id, layer.decayed_parameters())) == list(map(id, parameters))


def test_an_unknown_base_function_is_refused_with_the_known_ones() -> None:
    """A wrong name is answered with all right ones."""
    with pytest.raises(UserError, match='"cos"; allowed: gaussian, mexican_hat, relu_bump, tanh'):
        NodeLayer(2, 2, "cos")
    with pytest.raises(UserError, match='"tanh"; allowed: silu, identity, none'):
        KANLayer(2, 2, base_branch="tanh")


class TestEdges:
    """The edge form, whose every edge is evaluated on every row."""

    @pytest.mark.parametrize("shift", [True, False])
    def test_pieces_equal_the_naive_broadcast(self, shift: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few outputs fit into a piece, kept or not: all is what one broadcast gives, gradients too."""
        layer = EdgeLayer(3, 4, "silu", shift=shift, generator=random(0), dtype=torch.float64)
        stir(layer)
        x = normal(10, 3).requires_grad_()

        def naive() -> tuple[Tensor, Tensor]:
            phase = layer.s.exp() * x.unsqueeze(1) + (0 if layer.d is None else layer.d)
            curves = layer.a * torch.nn.functional.silu(phase)
            return curves.sum(-1) + layer.c, curves.square().mean(0).sqrt()

        def with_gradients(outputs: tuple[Tensor, Tensor]) -> list[Tensor]:
            loss = outputs[0].square().sum() + outputs[1].sum()
            return [*outputs, *torch.autograd.grad(loss, [x, *layer.parameters()])]

        expected = with_gradients(naive())
        for piece, kept in ((1, 0), (30, 10**6), (60, 0), (90, 10**6), (10**6, 10**6)):
            monkeypatch.setattr(kernel, "PIECE_NUMBERS", piece)
            monkeypatch.setattr(kernel, "KEPT_NUMBERS", kept)
            torch.testing.assert_close(with_gradients(layer.forward_with_amplitudes(x)), expected)
            torch.testing.assert_close(layer(x), expected[0])

    @pytest.mark.parametrize("kept", [False, True])
    def test_no_more_values_are_kept_than_the_limit(self, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pieces are small, and what is beyond the limit is evaluated again instead of kept."""
        monkeypatch.setattr(kernel, "PIECE_NUMBERS", 300)
        monkeypatch.setattr(kernel, "KEPT_NUMBERS", 5 * 4 * 64 if kept else 5 * 4 * 64 - 1)
        layer = EdgeLayer(4, 5, "tanh", generator=random(0), dtype=torch.float64)
        x = normal(64, 4)

        def alive() -> int:
            """Of tensors with the values of one output."""
            return sum(type(t) is Tensor and t.shape == (1, 1, 4, 64) for t in gc.get_objects())

        before = alive()
        outputs = layer(x)
        assert (alive() > before) == kept
        outputs.sum().backward()
        del outputs
        assert alive() == before
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            layer(x)
        assert max(sizes) == 4 * 64  # the inputs, and the values of one output

    def test_without_shift_an_odd_function_makes_an_odd_layer(self) -> None:
        """The literal form a tanh(b x) + c is odd but for c: it cannot learn x^2, so shifts are the default."""
        x = normal(6, 3)
        literal, shifted = (make_layer("edge", "tanh", shift=shift) for shift in (False, True))
        torch.testing.assert_close(literal(-x) - literal.c, -(literal(x) - literal.c))
        assert (shifted(-x) - shifted.c + shifted(x) - shifted.c).abs().max() > 0.1
        assert literal.d is None

    def test_scales_stay_positive_and_bounded(self) -> None:
        """Between 1/20 and 20, however far s is driven."""
        layer = make_layer("edge", "tanh")
        with torch.no_grad():
            layer.s.copy_(torch.linspace(-100, 100, 6).view(2, 3))
        assert 0.049 < layer.scale().min() < layer.scale().max() < 20.1


def test_shared_layers_are_edge_layers_with_equal_scales() -> None:
    """An edge layer whose edges of an input have the same b and d is the shared form."""
    shared = SharedLayer(3, 4, "gelu", generator=random(0), dtype=torch.float64)
    edge = EdgeLayer(3, 4, "gelu", generator=random(1), dtype=torch.float64)
    edge.load_state_dict({name: value.expand_as(getattr(edge, name)) for name, value in shared.state_dict().items()})
    x = normal(5, 3)
    for ours, theirs in zip(shared.forward_with_amplitudes(x), edge.forward_with_amplitudes(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_node_layers_begin_as_a_standardised_activation() -> None:
    """Before training y = (f(W x) - mean) / deviation, both over standard normal inputs."""
    layer = make_layer("node", "sigmoid")
    x = normal(5, 3)
    nodes, weights = normal_quadrature()
    mean = (weights * nodes.sigmoid()).sum()
    deviation = (weights * (nodes.sigmoid() - mean).square()).sum().sqrt()
    torch.testing.assert_close(layer(x), ((x @ layer.W.T).sigmoid() - mean) / deviation)


@pytest.mark.parametrize("branch", ["silu", "none"])
@pytest.mark.parametrize("name", ["gaussian", "b_spline", "tanh"])
def test_initialisations_of_dictionaries(name: str, branch: str) -> None:
    """`glorot` from mean squares of features and slopes, `power` from their number; both centred."""
    sizes = {"n_inputs": 40, "n_outputs": 60, "n_basis": 5, "base_branch": branch}
    n_features = 5 + (branch != "none")
    z = normal(200_000).requires_grad_()
    basis = make_layer("dictionary", name, 1, 1, n_basis=5, base_branch=branch)
    parts = basis.features(z.unsqueeze(-1)).T
    slopes = [torch.autograd.grad(part.sum(), z, retain_graph=True)[0] for part in parts]
    for scheme in ("glorot", "power"):
        layer = make_layer("dictionary", name, initialisation=scheme, **sizes)
        wanted = [40 * part.square().mean() + 60 * s.square().mean() for part, s in zip(parts, slopes, strict=True)]
        for weight, both_ways, power in (
            (layer.W, sum(wanted[:5]) / 5, 1.75), (layer.V, wanted[-1], 0.25),
        ):  # fmt: skip
            if weight is not None:
                glorot = (2 / (n_features * both_ways)).sqrt().item()
                deviation = glorot if scheme == "glorot" else (40 * n_features) ** -power
                assert weight.std().item() == pytest.approx(deviation, rel=0.05)
        outputs = layer(normal(20_000, 40))
        assert (outputs.mean(0).abs() < 0.1).all()


@pytest.mark.parametrize("grid_range", [0.1, 2.0, 100.0])
@pytest.mark.parametrize("n_basis", [1, 8, 64])
@pytest.mark.parametrize("name", BASE_FUNCTIONS)
def test_mixtures_of_a_node_never_begin_loudly(name: str, n_basis: int, grid_range: float) -> None:
    """Variance 1 where the functions fit the inputs; less where they are too wide or too narrow, and never more."""
    layer = KAFLayer(16, 32, name, n_basis=n_basis, grid_range=grid_range, generator=random(1), dtype=torch.float64)
    outputs = layer(normal(1000, 16)).detach()
    assert outputs.var().item() < 1.5
    assert abs(outputs.mean().item()) < 0.2
    if grid_range == 2.0 and n_basis > 1:
        assert outputs.var().item() > 0.6
