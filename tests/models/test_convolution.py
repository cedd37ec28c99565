"""Convolutions: against torch's own, against curves one by one, and networks of them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from kansearch.errors import UserError
from kansearch.models.build import build, why_unbuildable
from kansearch.models.convolution import Convolution, CurveConvolution
from kansearch.models.cost import Cost, cost
from kansearch.models.hybrid import layer_plan
from kansearch.models.layer import OrdinaryLayer
from kansearch.models.shapes import Maps, Window, layer_shapes
from kansearch.models.stack import Stack, structure
from kansearch.specs.data import ImageShape
from kansearch.specs.trial import ModelSpec, Pattern

from .zoo import CONVOLUTIONAL_SPECS, FORMS, make_layer, normal, random, stir

IMAGE = ImageShape(2, 7, 6)


@pytest.mark.parametrize("window", [Window(3), Window(3, 2, 1), Window(5, 3, 2), Window(1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_an_ordinary_convolution_is_torchs(window: Window, groups: int) -> None:
    """With any size, stride, padding and groups."""
    source = Maps(4, 7, 6)
    layers = [OrdinaryLayer(4 // groups * window.size**2, 6 // groups, dtype=torch.float64) for _ in range(groups)]
    layer = Convolution(layers, source, window)
    stir(layer)
    x = normal(5, source.nodes)
    weight = torch.cat([one.weight for one in layers]).view(6, 4 // groups, window.size, window.size)
    bias = torch.cat([one.bias for one in layers])
    wanted = functional.conv2d(x.view(5, 4, 7, 6), weight, bias, window.stride, window.padding, groups=groups)
    assert layer.target == Maps(6, *wanted.shape[2:])
    assert torch.allclose(layer(x), wanted.flatten(1))


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_kan_convolution_is_its_curves_at_every_place(form: str, name: str) -> None:
    """Outputs are sums of the curves of what the window shows; amplitudes are those of the curves over all places."""
    window, source = Window(2, 2, 1), Maps(2, 3, 3)
    inner = make_layer(form, name, 2 * 4, 3)
    layer = CurveConvolution([inner], source, window)
    stir(layer)
    x = normal(4, source.nodes)
    padded = functional.pad(x.view(4, 2, 3, 3), (1, 1, 1, 1))
    outputs, amplitudes = layer.forward_with_amplitudes(x)
    assert torch.allclose(outputs, layer(x))
    seen = [padded[:, :, r : r + 2, c : c + 2].flatten(1) for r in (0, 2) for c in (0, 2)]
    at_places = torch.stack([inner(of_place) for of_place in seen], dim=-1)
    assert torch.allclose(outputs.view(4, 3, 4), at_places)
    everywhere = torch.cat(seen)
    assert torch.allclose(amplitudes, inner.forward_with_amplitudes(everywhere)[1])
    of_node = form in ("node", "kaf")
    curve = layer.curve(layer.curve_inputs(x)[:, 2 if of_node else 1], 1, 2)
    assert torch.allclose(curve.square().mean().sqrt(), amplitudes[2, 0 if of_node else 1])


@pytest.mark.parametrize("form", ["dictionary", "edge", "scaled", "shared", "node", "kaf"])
def test_gradients_are_right(form: str) -> None:
    """Of outputs and amplitudes, with two groups."""
    layer = CurveConvolution([make_layer(form, "tanh", 4, 1), make_layer(form, "sin", 4, 1)], Maps(2, 3, 3), Window(2))
    stir(layer)
    parameters = list(layer.parameters())

    def outputs(x: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return layer.forward_with_amplitudes(x)

    assert gradcheck(outputs, (normal(2, 18).requires_grad_(), *parameters))
    assert layer.activation_parameters()[0] is next(iter(layer.groups)).activation_parameters()[0]


def test_what_does_not_fit_is_refused() -> None:
    """Windows larger than maps, and layers that take something else than windows show."""
    with pytest.raises(UserError, match="a window of 5 does not fit into maps of 3 x 3"):
        Convolution([OrdinaryLayer(25, 1)], Maps(1, 3, 3), Window(5))
    with pytest.raises(UserError, match="windows of 3 over 2 channels show 18 numbers"):
        Convolution([OrdinaryLayer(9, 1)], Maps(2, 3, 3), Window(3))


@pytest.mark.parametrize("spec", CONVOLUTIONAL_SPECS, ids=str)
def test_networks_cost_what_their_closed_form_says(spec: ModelSpec) -> None:
    """Parameters, and outputs of the right shape; the network is right by itself and in a stack of padded ones."""
    network = build(spec, IMAGE, 3, random(0), torch.float64).eval()
    assert cost(spec, IMAGE, 3).parameters == sum(p.numel() for p in network.parameters())
    x = normal(5, 2 * 7 * 6)
    outputs = network(x)
    assert outputs.shape == (5, 3)
    stack = Stack(structure(spec), IMAGE, 3, torch.float64).eval()
    stack.attach(torch.stack([stack.embed(network)] * 2), [spec] * 2)
    assert torch.allclose(stack(x.expand(2, -1, -1)), outputs)
    if spec.family != "mlp":
        amplitudes = network.forward_with_amplitudes(x)[1]
        for alone, padded, real in zip(
            amplitudes, stack.forward_with_amplitudes(x.expand(2, -1, -1))[1], stack.real_edges, strict=True
        ):
            assert torch.allclose(padded[0][real[0]], alone.flatten())


@pytest.mark.parametrize(
    ("pattern", "plan"),
    [
        ("first", "K---"),
        ("last", "---K"),
        ("alternate", "K-K-"),
        ("middle", "-KK-"),
        ("stem", "KK--"),
        ("head", "--KK"),
    ],
)
def test_patterns_count_convolutions_as_layers(pattern: str, plan: str) -> None:
    """Two convolutions and two layers behind them."""
    spec = ModelSpec(family="hybrid", stem="convolution", pattern=pattern)
    assert layer_plan(spec) == tuple(letter == "K" for letter in plan)


def test_shapes_of_a_stem() -> None:
    """Each convolution after the first halves height and width and doubles the channels; the mean leaves channels."""
    spec = ModelSpec(stem="convolution", convolutions=3, channels=4, stride=2, depth=2, width=7, pooling="average")
    shapes = layer_shapes(spec, ImageShape(3, 32, 30), 10)
    assert [shape.target for shape in shapes] == [Maps(4, 16, 15), Maps(8, 8, 8), Maps(16, 4, 4), Maps(7), Maps(10)]
    assert shapes[3].source == Maps(16)


def test_flops_of_a_small_convolutional_network_by_hand() -> None:
    """One 3 x 3 convolution of a 4 x 4 image with 2 channels, relu, the mean of each map, 3 outputs."""
    spec = ModelSpec(family="mlp", stem="convolution", convolutions=1, channels=2, pooling="average", depth=1)
    window, relu, mean, last = 16 * 2 * 9 * 2, 32, 32, 2 * 2 * 3
    assert cost(spec, ImageShape(1, 4, 4), 3) == Cost(2 * 9 + 2 + 2 * 3 + 3, window + relu + mean + last)


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_convolutions_need_images(pattern: str) -> None:
    """And say so; patterns of the stem need a stem."""
    spec = ModelSpec(family="hybrid", stem="convolution", pattern=pattern)
    assert why_unbuildable(spec, ImageShape(1, 8, 8)) is None
    assert "needs images, and these data are rows of 64 numbers" in str(why_unbuildable(spec, 64))
    if pattern in ("stem", "head"):
        plain = ModelSpec(family="hybrid", pattern=pattern)
        assert (
            why_unbuildable(plain)
            == f"a hybrid of pattern {pattern} needs stem convolution, recurrent or attention; stem is none"
        )
