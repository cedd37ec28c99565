"""Tokens: words, patches of images or columns of tables as rows of vectors, and what attention makes of them.

A row of tokens is a row of maps: E channels, and a place for each token. A token of zeros is none: padding stays
zeros from layer to layer, nobody attends to it, and means leave it out.

Letters: *P nothing, or the networks of a stack; B batch, L tokens, E numbers of each, H heads, V words of the
vocabulary, I inputs.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from kansearch.models.convolution import Convolution
from kansearch.models.flops import Cost
from kansearch.models.layer import Layer, OrdinaryLayer, affine, columns_of
from kansearch.models.shapes import Maps, Window

FEW_TOKENS = 64
"""Scores of fewer tokens are computed all at once: twice as fast as torch's function, which never holds all."""

NEVER = -1e30
"""Added to the score of a token that is none; not infinite, for a text may have no words at all."""


def tokens_of(row: Float[Tensor, "*P B EL"], n_channels: int) -> Float[Tensor, "*P BL E"]:
    """A row for each token."""
    return columns_of(torch.unflatten(row, -1, (n_channels, -1))).flatten(-3, -2)


def row_of(tokens: Float[Tensor, "*P BL E"], n_rows: int) -> Float[Tensor, "*P B EL"]:
    """The other way."""
    return columns_of(torch.unflatten(tokens, -2, (n_rows, -1))).flatten(-2)


def are_tokens(row: Float[Tensor, "*P B EL"], n_channels: int) -> Bool[Tensor, "*P B L"]:
    """Which tokens of each row are there."""
    return (torch.unflatten(row, -1, (n_channels, -1)) != 0).any(-2)


def sinusoids(n_tokens: int, n_numbers: int, dtype: torch.dtype | None = None) -> Float[Tensor, "L E"]:
    """Sines and cosines of each place, at wavelengths from 2 pi to 10,000 times that.

    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.5.
    """
    places = torch.arange(n_tokens, dtype=torch.float64).unsqueeze(-1)
    pairs = torch.arange((n_numbers + 1) // 2, dtype=torch.float64)
    angles = places * 10_000 ** (-2 * pairs / n_numbers)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[:, :n_numbers]
    return waves.to(dtype or torch.get_default_dtype())


class Words(Layer):
    """Word numbers to tokens: a vector for each word and, if asked for, one for each place. Word 0 is none.

    Vectors are N(0, 1) at first, those of places sinusoids.

    Args:
        length: L.
        vocabulary: V.
        n_numbers: E.
        placed: Add vectors of places.
        generator: Of the vectors; None is torch's global one.
        dtype: None is torch's default.
    """

    of_stem = True

    def __init__(
        self,
        length: int,
        vocabulary: int,
        n_numbers: int,
        *,
        placed: bool,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(length, n_numbers * length)
        self.target = Maps(n_numbers, 1, length)
        self.vectors = nn.Parameter(torch.randn(vocabulary, n_numbers, generator=generator, dtype=dtype))
        self.places = nn.Parameter(sinusoids(length, n_numbers, dtype)) if placed else None

    def mix(self, prepared: Float[Tensor, "*P B L"]) -> Float[Tensor, "*P B EL"]:
        """The vectors."""
        words = prepared.long()
        n_words, n_numbers = self.vectors.shape[-2:]
        # A stack's words are looked up in one table, each network's in its own part.
        firsts = n_words * torch.arange(self.vectors.shape[:-2].numel(), device=words.device)
        rows = words + firsts.view(*self.vectors.shape[:-2], *(1,) * (words.dim() - self.vectors.dim() + 2))
        found = functional.embedding(rows, self.vectors.reshape(-1, n_numbers))
        if self.places is not None:
            found = found + self.places.unsqueeze(-3)
        found = found * (words != 0).unsqueeze(-1)
        return columns_of(found).flatten(-2)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The vectors of words."""
        return [self.vectors]

    @staticmethod
    def cost(length: int, vocabulary: int, n_numbers: int, *, placed: bool) -> Cost:
        """Looking up is copying; places are added."""
        return Cost((vocabulary + placed * length) * n_numbers, placed * length * n_numbers)


class Patches(Convolution):
    """An image to tokens: one ordinary layer for every square of it, and a vector for each place.

    Source: Dosovitskiy et al. (2021), arXiv:2010.11929, equation 1; places begin as sinusoids.

    Args:
        layer: From the numbers of a square to E.
        source: The image.
        size: Height and width of a square; divides those of the image.
    """

    def __init__(self, layer: OrdinaryLayer, source: Maps, size: int) -> None:
        super().__init__([layer], source, Window(size, stride=size))
        self.is_affine = False
        waves = sinusoids(self.target.places, self.target.channels, layer.weight.dtype)
        self.places = nn.Parameter(waves.mT.contiguous())

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B EL"]:
        """The layer at every place, and the place."""
        return super().mix(prepared) + self.places.flatten(-2).unsqueeze(-2)

    @staticmethod
    def cost(layer: Cost, target: Maps) -> Cost:
        """Those of the layer at every place, and a sum for each number."""
        return Convolution.cost(layer, target) + Cost(target.nodes, target.nodes)


class Columns(Layer):
    """A row of numbers to tokens: x_i v_i + u_i, one for each input.

    v and u are N(0, 1) at first.

    Source: Gorishniy et al. (2021), FT-Transformer, arXiv:2106.11959, section 3.3.

    Args:
        n_inputs: I, which is L.
        n_numbers: E.
        generator: Of the vectors; None is torch's global one.
        dtype: None is torch's default.
    """

    of_stem = True

    def __init__(
        self,
        n_inputs: int,
        n_numbers: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_inputs, n_numbers * n_inputs)
        self.target = Maps(n_numbers, 1, n_inputs)
        self.scale = nn.Parameter(torch.randn(n_numbers, n_inputs, generator=generator, dtype=dtype))
        self.shift = nn.Parameter(torch.randn(n_numbers, n_inputs, generator=generator, dtype=dtype))

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B EL"]:
        """All tokens."""
        scale, shift = (t.unsqueeze(-3) for t in (self.scale, self.shift))
        return torch.addcmul(shift, prepared.unsqueeze(-2), scale).flatten(-2)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The scales."""
        return [self.scale]

    @staticmethod
    def cost(n_inputs: int, n_numbers: int) -> Cost:
        """A product and a sum for each number."""
        return Cost(2 * n_inputs * n_numbers, 2 * n_inputs * n_numbers)


class TokenNorm(Layer):
    """Every token divided by the root of its mean square, then scaled; a token of zeros stays so.

    Source: Zhang & Sennrich (2019), arXiv:1910.07467, equation 4.

    Args:
        maps: The tokens.
        dtype: Of the scales; None is torch's default.
    """

    of_stem = True
    EPS = 1e-6

    def __init__(self, maps: Maps, dtype: torch.dtype | None = None) -> None:
        super().__init__(maps.nodes, maps.nodes)
        self.target = maps
        self.weight = nn.Parameter(torch.ones(maps.channels, dtype=dtype))

    def mix(self, prepared: Float[Tensor, "*P B EL"]) -> Float[Tensor, "*P B EL"]:
        """Mean square 1, then scaled."""
        x = torch.unflatten(prepared, -1, (self.target.channels, -1))
        scale = (x.square().mean(-2, keepdim=True) + self.EPS).rsqrt()
        return (x * scale * self.weight.unsqueeze(-1).unsqueeze(-3)).flatten(-2)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    @staticmethod
    def cost(maps: Maps) -> Cost:
        """Of each token: squares and their mean 2 E, the root 2, and two products E each."""
        return Cost(maps.channels, maps.places * (4 * maps.channels + 2))


class Attention(Layer):
    """Every token sees all tokens of its row: softmax(q k' / sqrt(E / H)) v, in H parts, then mixed.

    All weights are N(0, 1 / E) at first, those of the last product smaller by `damping`.

    Source: Vaswani et al. (2017), arXiv:1706.03762, section 3.2.2, without biases.

    Args:
        maps: The tokens.
        n_heads: H; divides E.
        damping: Of what the layer adds to its tokens at first.
        generator: Of the weights; None is torch's global one.
        dtype: None is torch's default.
    """

    of_stem = True

    def __init__(
        self,
        maps: Maps,
        n_heads: int,
        *,
        damping: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(maps.nodes, maps.nodes)
        self.target = maps
        self.n_heads = n_heads
        n_numbers = maps.channels
        drawn = torch.randn(4 * n_numbers, n_numbers, generator=generator, dtype=dtype) / math.sqrt(n_numbers)
        self.in_weight = nn.Parameter(drawn[: 3 * n_numbers].clone())
        self.out_weight = nn.Parameter(damping * drawn[3 * n_numbers :])

    def mix(self, prepared: Float[Tensor, "*P B EL"]) -> Float[Tensor, "*P B EL"]:
        """What the tokens tell each other; padding hears, too, but says nothing."""
        maps, n_rows = self.target, prepared.shape[-2]
        leading = prepared.shape[:-1]
        mask = torch.where(are_tokens(prepared, maps.channels), 0.0, NEVER).to(prepared.dtype)
        mask = mask.view(-1, 1, 1, maps.places)
        mixed = affine(tokens_of(prepared, maps.channels), self.in_weight)
        parts = mixed.view(leading.numel(), maps.places, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        queries, keys, values = parts.unbind(0)
        if maps.places < FEW_TOKENS:
            heard = ((queries / math.sqrt(queries.shape[-1])) @ keys.mT + mask).softmax(-1) @ values
        else:
            heard = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        joined = heard.transpose(1, 2).reshape(*leading[:-1], n_rows * maps.places, maps.channels)
        return row_of(affine(joined, self.out_weight), n_rows)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """All weights."""
        return [self.in_weight, self.out_weight]

    @staticmethod
    def cost(maps: Maps, n_heads: int) -> Cost:
        """Four products of weights; q scaled; scores with mask and softmax (5); and their product with v."""
        n, length = maps.channels, maps.places
        scores = n_heads * length * length * (2 * (n // n_heads) - 1 + 1 + 5) + length * n
        return Cost(4 * n * n, length * 4 * n * (2 * n - 1) + scores + length * n * (2 * length - 1))


class MeanToken(Layer):
    """The mean of the tokens of a row; zeros where there are none.

    Args:
        maps: The tokens.
    """

    of_stem = True

    def __init__(self, maps: Maps) -> None:
        super().__init__(maps.nodes, maps.channels)

    def mix(self, prepared: Float[Tensor, "*P B EL"]) -> Float[Tensor, "*P B E"]:
        """The mean."""
        n_tokens = are_tokens(prepared, self.n_outputs).sum(-1, keepdim=True).clamp(min=1)
        return torch.unflatten(prepared, -1, (self.n_outputs, -1)).sum(-1) / n_tokens

    def decayed_parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    @staticmethod
    def cost(maps: Maps) -> Cost:
        """Of each channel L - 1 sums and a share."""
        return Cost(0, maps.nodes)


def is_of_tokens(layer: Layer) -> bool:
    """Whether a first layer makes tokens."""
    return isinstance(layer, Words | Patches | Columns)
