"""What the BLAS of this processor promises."""

from __future__ import annotations

from functools import cache
from itertools import product

import torch


@cache
def products_have_equal_bits() -> bool:
    """Whether the same products have the same bits alone and in company, wherever nothing has a size of 1.

    They have in MKL, on AMD's processors and on Intel's. Where they have not, trials of a pack can only be the same
    but for rounding.
    """
    random = torch.Generator().manual_seed(0)
    for dtype, n_rows, n_terms, n_columns in product((torch.float32, torch.float64), *[(2, 5, 8, 33)] * 3):
        a = torch.randn(5, n_rows, n_terms, generator=random, dtype=dtype)
        b = torch.randn(5, n_terms, n_columns, generator=random, dtype=dtype)
        if not torch.equal(torch.bmm(a[3:4], b[3:4])[0], torch.bmm(a, b)[3]):
            return False
    return True
