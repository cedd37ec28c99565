"""Every kind of KAN layer and of network, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor, nn

from kansearch.models.bases import BASE_FUNCTIONS
from kansearch.models.kaf import KAFLayer
from kansearch.models.kan import KANLayer
from kansearch.models.kernel import KERNELS
from kansearch.models.layer import CurveLayer
from kansearch.models.scaled import ScaledLayer
from kansearch.specs.trial import EXPANSIONS, Activation, ModelSpec, Pattern

BASES = (*BASE_FUNCTIONS, *EXPANSIONS)
BRANCHES = ("silu", "identity", "none")
PLAIN_PATTERNS = tuple(pattern for pattern in get_args(Pattern) if pattern not in ("stem", "head"))
"""Those that need no convolutions."""

FORMS = [("dictionary", name) for name in BASES] + [
    (form, name) for form in (*KERNELS, "scaled", "kaf") for name in BASE_FUNCTIONS
]
"""Every form of a KAN layer with every base function it can have."""

WITH_BASIS = ("dictionary", "scaled", "kaf")
"""The forms that have `n_basis`."""


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=dtype)


def make_layer(form: str, name: str, n_inputs: int = 3, n_outputs: int = 2, **kwargs: object) -> CurveLayer:
    """A float64 layer with its initial weights."""
    common = {"generator": random(1), "dtype": torch.float64}
    if form == "dictionary":
        return KANLayer(n_inputs, n_outputs, name, **{"n_basis": 4, **common, **kwargs})
    if form == "kaf":
        return KAFLayer(n_inputs, n_outputs, name, **{"n_basis": 5, **common, **kwargs})
    if form == "scaled":
        return ScaledLayer(n_inputs, n_outputs, name, **{"n_basis": 5, **common, **kwargs})
    return KERNELS[form](n_inputs, n_outputs, name, **{**common, **kwargs})


def stir(module: nn.Module, seed: int = 2) -> None:
    """Move all parameters away from where they start, as training does."""
    generator = random(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def _specs() -> Iterator[ModelSpec]:
    for form, name in FORMS:
        for layer_norm in (False, True):
            yield ModelSpec(layer=form, base_function=name, width=5, depth=3, n_basis=4, layer_norm=layer_norm)
    for branch in BRANCHES:
        for n_basis in (2, 3, 9):
            yield ModelSpec(base_branch=branch, n_basis=n_basis, base_function="b_spline", width=4)
            yield ModelSpec(base_branch=branch, n_basis=n_basis, base_function="chebyshev", depth=1)
    for activation in get_args(Activation):
        for depth in (1, 2, 4):
            yield ModelSpec(family="mlp", activation=activation, depth=depth, width=7, layer_norm=depth == 4)
    for pattern in PLAIN_PATTERNS:
        for depth in (3, 4, 5):
            for form in ("dictionary", "scaled", "kaf", *KERNELS):
                yield ModelSpec(family="hybrid", pattern=pattern, depth=depth, width=6, layer=form, dropout=0.1)


SPECS = list(_specs())
"""Every form with every base function, every branch, activation and pattern, plain and normalised."""


def _convolutional_specs() -> Iterator[ModelSpec]:
    for form, name in (("dictionary", "gaussian"), ("dictionary", "b_spline"), *((form, "tanh") for form in KERNELS)):
        for family, pattern in (("kan", "last"), *(("hybrid", pattern) for pattern in get_args(Pattern))):
            yield ModelSpec(
                family=family, pattern=pattern, stem="convolution", channels=3, layer=form, base_function=name,
                n_basis=4, width=5, dropout=0.1,
            )  # fmt: skip
    for changes in (
        {"convolutions": 1, "depth": 1},
        {"convolutions": 3, "kernel_size": 5, "layer_norm": True},
        {"stride": 2, "pooling": "average", "depth": 3},
        {"kernel_size": 1, "pooling": "average", "layer_norm": True, "dropout": 0.2},
    ):
        for family in ("mlp", "kan"):
            yield ModelSpec(family=family, stem="convolution", channels=3, width=5, n_basis=4, **changes)


CONVOLUTIONAL_SPECS = list(_convolutional_specs())
"""Every form and pattern, and every option of the stem; for images."""


def _token_specs() -> Iterator[ModelSpec]:
    small = {"embedding": 4, "width": 5, "n_basis": 3, "heads": 2, "feed_forward": 5, "patch_size": 2}
    for form in ("dictionary", "scaled", "kaf", *KERNELS):
        for stem in ("attention", "recurrent"):
            yield ModelSpec(stem=stem, layer=form, base_function="tanh", **small)
    for pattern in get_args(Pattern):
        for stem in ("attention", "recurrent"):
            yield ModelSpec(family="hybrid", pattern=pattern, stem=stem, layer_norm=True, **small)
    for cell in ("rnn", "gru", "lstm"):
        for pooling in ("none", "average"):
            yield ModelSpec(family="mlp", stem="recurrent", cell=cell, pooling=pooling, state=3, **small)
            yield ModelSpec(base_function="b_spline", stem="recurrent", cell=cell, pooling=pooling, state=3, **small)
    for blocks in (1, 2):
        for activation in ("relu", "gelu"):
            yield ModelSpec(family="mlp", stem="attention", blocks=blocks, activation=activation, **small)
        yield ModelSpec(base_function="rbf", stem="attention", blocks=blocks, dropout=0.1, depth=1, **small)


TOKEN_SPECS = list(_token_specs())
"""Recurrent networks and attention in every form and pattern; for texts."""
