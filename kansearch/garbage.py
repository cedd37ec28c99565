"""When there is nothing for Python's garbage collection to find."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """No garbage collection: thousands of new objects set it off again and again, and nothing among them is garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """Imports that are never looked through for garbage, neither now nor later: that takes a quarter of their time."""
    with many_objects():
        yield
        gc.freeze()
