"""Products of a stack: the last bit of one does not depend on how many there are."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from kansearch.models.layer import _product
from tests.products import products_have_equal_bits

from .zoo import normal

SIZES = (1, 2, 5, 8, 33, 96)


def layouts(matrices: Tensor) -> list[Tensor]:
    """Row by row in memory, and column by column."""
    return [matrices, matrices.mT.contiguous().mT]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n_terms", SIZES)
def test_a_product_has_in_company_the_bits_that_it_has_alone(n_terms: int, dtype: torch.dtype) -> None:
    """Of any sizes, those of one row, term or column included; with an addend, and without."""
    if not products_have_equal_bits():
        pytest.skip("this processor's BLAS gives other bits for one product than for many, whatever their sizes are")
    for n_rows, n_columns in product(SIZES, SIZES):
        a = normal(4, n_rows, n_terms, seed=1, dtype=dtype)
        b = normal(4, n_terms, n_columns, seed=2, dtype=dtype)
        of_row, of_column = normal(4, 1, n_columns, dtype=dtype), normal(4, n_rows, 1, dtype=dtype)
        for (x, y), addend in product(product(layouts(a), layouts(b)), (None, of_row, of_column)):
            together = _product(x, y, addend)
            for place in (0, 3):
                own = slice(place, place + 1)
                alone = _product(x[own], y[own], None if addend is None else addend[own])
                assert torch.equal(alone[0], together[place]), (n_rows, n_terms, n_columns, addend is None)
