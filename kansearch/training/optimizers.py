"""Optimizers whose groups of parameters learn at rates of their own, and the schedule of the rate."""

from __future__ import annotations

import math

import torch

from kansearch.models.build import Network
from kansearch.specs.trial import TrainingSpec

WARMUP_SHARE = 0.1
"""Share of the steps in which `warmup_cosine` rises."""


def make_optimizer(network: Network, training: TrainingSpec) -> torch.optim.Optimizer:
    """Adam or AdamW over the network's parameters.

    Activation parameters learn at `activation_rate` times the learning rate; weight decay acts on weights
    alone. A parameter that is frozen has no gradient, so it gets neither state nor decay until it is freed.
    Every group keeps its own highest rate under `peak_lr`.
    """
    activation = {id(parameter) for group in network.activation_groups() for parameter in group}
    decayed = {id(parameter) for parameter in network.decayed_parameters()}
    kinds: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for parameter in network.parameters():
        kinds.setdefault((id(parameter) in activation, id(parameter) in decayed), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "peak_lr": training.learning_rate * (training.activation_rate if is_activation else 1.0),
            "weight_decay": training.weight_decay if is_decayed else 0.0,
        }
        for (is_activation, is_decayed), parameters in kinds.items()
    ]
    optimizer = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    # lr is set before every step by set_learning_rate.
    return optimizer(groups, lr=training.learning_rate, fused=True)


def learning_rate_factor(training: TrainingSpec, step: int, n_steps: int) -> float:
    """The share of the highest learning rate that a step (from 0) of a whole training uses.

    Source: cosine without restarts of Loshchilov & Hutter (2017), arXiv:1608.03983, equation 5.
    """
    if training.schedule == "constant":
        return 1.0
    warmup = round(WARMUP_SHARE * n_steps) if training.schedule == "warmup_cosine" else 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Let every group take its share of its own highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
