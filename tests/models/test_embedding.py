"""Words to numbers, alone and in stacks."""

from __future__ import annotations

import pytest
import torch

from kansearch.models.build import build, why_unbuildable
from kansearch.models.cost import Cost, cost
from kansearch.models.embedding import Embedding
from kansearch.models.stack import Stack, structure
from kansearch.specs.data import ImageShape, TextShape
from kansearch.specs.trial import ModelSpec

from .zoo import random

TEXTS = TextShape(4, 9)
WORDS = torch.tensor([[2.0, 3, 2, 8], [5, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.float64)


def test_the_sum_over_the_words_of_a_text() -> None:
    """Over the root of how many they are; a text without words is 0, and word 0 learns nothing."""
    layer = Embedding(4, 9, 3, random(0), torch.float64)
    outputs = layer(WORDS)
    v = layer.vectors.T
    assert torch.allclose(outputs[0], (2 * v[2] + v[3] + v[8]) / 2)
    assert torch.allclose(outputs[1], v[5])
    assert not outputs[2].any()
    assert torch.allclose(outputs[3], 2 * v[1] / 2**0.5)
    (gradient,) = torch.autograd.grad(outputs.sum(), layer.vectors)
    assert not gradient[:, 0].any()
    assert gradient[:, 2].any()


@pytest.mark.parametrize("model", [{"family": "mlp"}, {"layer_norm": True}, {"family": "hybrid", "depth": 3}], ids=str)
def test_networks_of_texts(model: dict[str, object]) -> None:
    """Their cost in closed form, and the same outputs in a stack of padded ones."""
    spec = ModelSpec(**{"stem": "embedding", "embedding": 5, "width": 6, "n_basis": 3, **model})
    networks = [build(spec, TEXTS, 2, random(seed), torch.float64).eval() for seed in range(2)]
    assert cost(spec, TEXTS, 2).parameters == sum(p.numel() for p in networks[0].parameters())
    stack = Stack(structure(spec), TEXTS, 2, torch.float64).eval()
    stack.attach(torch.stack([stack.embed(network) for network in networks]), [spec] * 2)
    for outputs, network in zip(stack(WORDS.expand(2, -1, -1)), networks, strict=True):
        assert torch.allclose(outputs, network(WORDS))


def test_cost_by_hand() -> None:
    """9 words of 5 numbers; of a text a weighted sum of 4 of them; then 2 outputs."""
    spec = ModelSpec(family="mlp", stem="embedding", embedding=5, depth=1)
    assert cost(spec, TEXTS, 2) == Cost(9 * 5 + 5 * 2 + 2, 2 * 4 * 5 + 2 * 5 * 2)


def test_texts_need_an_embedding_and_nothing_else_can_have_one() -> None:
    """The reason says what is needed, what is there and what is allowed."""
    spec = ModelSpec(stem="embedding")
    assert why_unbuildable(spec, TEXTS) is None
    assert why_unbuildable(spec, 7) == (
        "stem embedding needs texts, and these data are rows of 7 numbers; allowed: stem none, attention or backbone"
    )
    of_images = str(why_unbuildable(spec, ImageShape(1, 8, 8)))
    assert of_images.endswith("these data are images; allowed: stem none, convolution, attention or backbone")
    assert why_unbuildable(ModelSpec(), TEXTS) == (
        "stem none needs numbers, and these data are texts; allowed: stem embedding, recurrent, attention or backbone"
    )
