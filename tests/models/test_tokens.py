"""Tokens and attention: against torch's own, with padding, alone and in stacks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from kansearch.models.build import build, why_unbuildable
from kansearch.models.cost import cost
from kansearch.models.shapes import Maps, layer_shapes
from kansearch.models.stack import Stack, structure
from kansearch.models.tokens import Attention, Columns, MeanToken, Patches, TokenNorm, Words
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import ModelSpec

from .zoo import TOKEN_SPECS, normal, random, stir

TEXTS = TextShape(5, 9)
WORDS = torch.tensor([[2.0, 3, 2, 8, 1], [5, 7, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.float64)
IMAGE = ImageShape(2, 4, 6)


def inputs_for(spec: ModelSpec) -> list[tuple[Inputs, Tensor]]:
    """Data that a stem can see."""
    texts: list[tuple[Inputs, Tensor]] = [(TEXTS, WORDS)]
    return texts if spec.stem == "recurrent" else [*texts, (IMAGE, normal(3, 48)), (4, normal(3, 4))]


@pytest.mark.parametrize("length", [5, 70])
def test_attention_is_torchs(length: int) -> None:
    """With its heads, and with tokens that are none; few and many."""
    maps = Maps(6, 1, length)
    layer = Attention(maps, 3, generator=random(0), dtype=torch.float64)
    own = nn.MultiheadAttention(6, 3, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        own.in_proj_weight.copy_(layer.in_weight)
        own.out_proj.weight.copy_(layer.out_weight)
    x = normal(4, length, 6)
    x[1, 3:] = 0
    wanted = own(x, x, x, key_padding_mask=(x == 0).all(-1), need_weights=False)[0]
    assert torch.allclose(layer(x.mT.flatten(1)).view(4, 6, length).mT, wanted)


def test_tokens_by_hand() -> None:
    """Words are looked up and placed, patches are a product at each place, columns a line each."""
    words = Words(5, 9, 4, placed=True, generator=random(0), dtype=torch.float64)
    tokens = words(WORDS).view(3, 4, 5)
    assert torch.allclose(tokens[0, :, 1], words.vectors[3] + words.places[1])
    assert not tokens[1, :, 2:].any()
    plain = Words(5, 9, 4, placed=False, generator=random(0), dtype=torch.float64)
    assert torch.equal(plain(WORDS).view(3, 4, 5)[1, :, 1], plain.vectors[7])

    spec = ModelSpec(stem="attention", embedding=4, heads=2, patch_size=2)
    patches = build(spec, IMAGE, 1, random(1), torch.float64).layers[0]
    assert isinstance(patches, Patches)
    image = normal(1, 48)
    square = image.view(2, 4, 6)[:, 2:4, 0:2].flatten().unsqueeze(0)
    (layer,) = patches.groups
    assert torch.allclose(patches(image).view(4, 6)[:, 3], layer(square)[0] + patches.places[:, 3])

    columns = Columns(3, 4, random(2), torch.float64)
    x = normal(2, 3)
    assert torch.allclose(columns(x).view(2, 4, 3)[1, :, 2], x[1, 2] * columns.scale[:, 2] + columns.shift[:, 2])


def test_norm_and_mean_leave_out_what_is_none() -> None:
    """Mean square 1 for each token; the mean is that of the tokens that are there."""
    maps = Maps(4, 1, 3)
    x = 5 * normal(2, 4, 3)
    x[1, :, 1:] = 0
    tokens = TokenNorm(maps, torch.float64)(x.flatten(1)).view(2, 4, 3)
    assert torch.allclose(tokens[0].square().mean(0), torch.ones(3, dtype=torch.float64), atol=1e-5)
    assert not tokens[1, :, 1:].any()
    mean = MeanToken(maps)
    assert torch.allclose(mean(x.flatten(1))[1], x[1, :, 0])
    assert torch.allclose(mean(x.flatten(1))[0], x[0].mean(-1))
    assert not mean(torch.zeros(1, 12)).any()


@pytest.mark.parametrize("spec", TOKEN_SPECS, ids=str)
def test_padding_says_nothing(spec: ModelSpec) -> None:
    """The same texts in longer rows: the same outputs; and a text without words is no accident."""
    network = build(spec, TEXTS, 2, random(0), torch.float64).eval()
    stir(network)
    longer = build(spec, TextShape(8, 9), 2, random(0), torch.float64).eval()
    state = network.state_dict()
    if "layers.0.places" in state:
        state["layers.0.places"] = torch.cat([state["layers.0.places"], longer.state_dict()["layers.0.places"][5:]])
    longer.load_state_dict(state)
    outputs = network(WORDS)
    assert outputs.isfinite().all()
    assert torch.allclose(longer(nn.functional.pad(WORDS, (0, 3))), outputs)
    assert not torch.allclose(outputs[0], outputs[1])


@pytest.mark.parametrize("spec", TOKEN_SPECS, ids=str)
def test_networks_of_tokens(spec: ModelSpec) -> None:
    """Cost in closed form, and the same outputs and amplitudes in a stack of padded networks."""
    for inputs, x in inputs_for(spec):
        networks = [build(spec, inputs, 2, random(seed), torch.float64).eval() for seed in range(2)]
        for seed, network in enumerate(networks):
            stir(network, seed)
        assert cost(spec, inputs, 2).parameters == sum(p.numel() for p in networks[0].parameters())
        assert len(layer_shapes(spec, inputs, 2)) == len(networks[0].layers)
        stack = Stack(structure(spec), inputs, 2, torch.float64).eval()
        stack.attach(torch.stack([stack.embed(network) for network in networks]), [spec] * 2)
        both = stack.forward_with_amplitudes(x.expand(2, *x.shape))
        assert torch.allclose(stack(x.expand(2, *x.shape)), both[0])
        for place, network in enumerate(networks):
            outputs, amplitudes = network.forward_with_amplitudes(x)
            assert torch.allclose(outputs, network(x))
            assert torch.allclose(both[0][place], outputs)
            for of_stack, own, real in zip(both[1], amplitudes, stack.real_edges, strict=True):
                assert torch.allclose(of_stack[place][tuple(slice(n) for n in own.shape)], own)
                assert real[place].sum() in (own.numel(), own.shape[0])


@pytest.mark.parametrize("spec", TOKEN_SPECS[::3], ids=str)
def test_gradients_are_right(spec: ModelSpec) -> None:
    """Of outputs and amplitudes, by all parameters, in a stack of two."""
    networks = [build(spec, TEXTS, 1, random(seed), torch.float64).eval() for seed in range(2)]
    stack = Stack(structure(spec), TEXTS, 1, torch.float64).eval()
    rows = torch.stack([stack.embed(network) for network in networks])
    rows = rows + 0.1 * normal(*rows.shape) * stack.real_numbers(networks[0])

    def loss(weights: Tensor) -> Tensor:
        parameters = stack.attach(weights.detach().clone(), [spec] * 2)
        outputs, amplitudes = stack.forward_with_amplitudes(WORDS.expand(2, -1, -1))
        total = outputs.square().sum() + sum(a.sum() for a in amplitudes)
        gradients = torch.autograd.grad(total, parameters)
        flat = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
        # As a function of the whole row: its value, with the gradient that packs use.
        value: Tensor = _Known.apply(weights, total.detach(), flat)
        return value

    assert gradcheck(loss, (rows.requires_grad_(),), eps=1e-6, atol=1e-4, fast_mode=True)


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weights: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        del weights
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *of_value: Tensor) -> tuple[Tensor, None, None]:
        return of_value[0] * ctx.saved_tensors[0], None, None  # type: ignore[attr-defined]


def test_what_cannot_be_built() -> None:
    """Each reason names the value and what is allowed."""
    attention = ModelSpec(stem="attention", embedding=6, heads=4)
    assert why_unbuildable(attention) == "heads must divide embedding, and 4 does not divide 6"
    patches = ModelSpec(stem="attention", patch_size=4)
    assert why_unbuildable(patches, ImageShape(1, 4, 6)) == (
        "patch_size must divide height and width, and 4 does not divide 4 x 6"
    )
    assert why_unbuildable(patches, 6) is None
    assert str(why_unbuildable(ModelSpec(stem="recurrent"), 6)) == (
        "stem recurrent needs texts, and these data are rows of 6 numbers; allowed: stem none, attention or backbone"
    )
