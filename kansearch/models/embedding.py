"""Words to numbers.

Letters: *P nothing, or the networks of a stack; B batch, T words of a text, V words of the vocabulary, E numbers.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kansearch.models.flops import Cost
from kansearch.models.layer import Layer, affine


class Embedding(Layer):
    """The sum of the vectors of a text's words, over the root of how many they are.

    So outputs have unit variance at first, however long a text is. Word 0 is none.

    It is a matrix product with how often each word stands in a text, which depends on the text alone and is kept as a
    table where it is small.

    Args:
        length: T.
        vocabulary: V.
        n_outputs: E.
        generator: Of the vectors; None is torch's global one.
        dtype: None is torch's default.
    """

    of_stem = True

    def __init__(
        self,
        length: int,
        vocabulary: int,
        n_outputs: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(length, n_outputs)
        self.vocabulary = vocabulary
        self.vectors = nn.Parameter(torch.randn(n_outputs, vocabulary, generator=generator, dtype=dtype))

    def prepare(self, x: Float[Tensor, "*P B T"]) -> Float[Tensor, "*P B V"]:
        """How often each word stands in a text, over the root of how many words it has."""
        words = x.long()
        n_words = (words != 0).sum(-1, keepdim=True).clamp(min=1)
        shares = n_words.to(x.dtype).rsqrt().expand(x.shape)
        counts = x.new_zeros(*x.shape[:-1], self.vocabulary).scatter_add_(-1, words, shares)
        counts[..., 0] = 0
        return counts

    def mix(self, prepared: Float[Tensor, "*P B V"]) -> Float[Tensor, "*P B E"]:
        """The sum; a text without words is 0."""
        return affine(prepared, self.vectors)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """All vectors."""
        return [self.vectors]

    @staticmethod
    def cost(length: int, vocabulary: int, n_outputs: int) -> Cost:
        """The vectors; a weighted sum of T of them."""
        return Cost(vocabulary * n_outputs, 2 * length * n_outputs)
