"""Shapes in the signatures of the models, which are checked where tests ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping


@contextmanager
def checked_shapes() -> Iterator[None]:
    """Whatever the models are given and give has the shapes of their signatures, or the test fails."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", False)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
