"""Weights of torchvision's networks, in the files of the real ones; drawn at random."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import torch

from kansearch.vision import import_torchvision


def write_weights(folder: Path, *names: str) -> None:
    """As files of one's own, for a cache in this folder."""
    (folder / "backbones").mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / "backbones" / f"{name}.pth").write_bytes(_file_of(name))


@lru_cache(maxsize=2)  # the small ones that many tests have, and not all of torchvision
def _file_of(name: str) -> bytes:
    torch.manual_seed(0)
    network = getattr(import_torchvision().models, name)(weights=None)
    # Batch norms that have seen something: their statistics are part of the weights.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    return file.getvalue()
