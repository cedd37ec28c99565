"""torchvision, and where its files lie."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from kansearch.errors import DataError

DATA_ENVIRONMENT = "KANSEARCH_DATA"


@cache
def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators are of another build than torch.

    Its Python part registers two operators that only its compiled part defines, so without them (the package index's
    torchvision beside a CPU build of torch) it cannot be imported. We need none of them: its sets and models are
    Python. Where the compiled part loads, nothing is done.

    Raises:
        DataError: If torchvision is not installed.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise DataError("image sets and backbones need torchvision, which is not installed; install kansearch again")
    try:
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")  # type: ignore[no-untyped-call]  # torch has no types
    except OSError:
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # likewise
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        vars(torch.ops)["_kansearch_keeps"] = library  # the definitions go with the last reference to it
    return importlib.import_module("torchvision")


def cache_folder() -> Path:
    """Where files lie that are downloaded once: $KANSEARCH_DATA, or a cache in the user's home."""
    given = os.environ.get(DATA_ENVIRONMENT)
    return Path(given) if given else Path.home() / ".cache" / "kansearch"
