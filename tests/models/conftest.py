"""What tests of models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shapes import checked_shapes


@pytest.fixture(autouse=True, scope="module")
def shapes() -> Iterator[None]:
    """Checked in every test."""
    with checked_shapes():
        yield
