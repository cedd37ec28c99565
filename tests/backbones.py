"""Weights of torchvision's networks, in the files of the real ones; drawn at random."""

from __future__ import annotations

from pathlib import Path

import torch

from kansearch.vision import import_torchvision


def write_weights(folder: Path, *names: str) -> None:
    """As files of one's own, for a cache in this folder."""
    (folder / "backbones").mkdir(parents=True, exist_ok=True)
    for name in names:
        torch.manual_seed(0)
        network = getattr(import_torchvision().models, name)(weights=None)
        # Batch norms that have seen something: their statistics are part of the weights.
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean = 0.1 * torch.randn(module.num_features)
                module.running_var = 0.5 + torch.rand(module.num_features)
        torch.save(network.state_dict(), folder / "backbones" / f"{name}.pth")
