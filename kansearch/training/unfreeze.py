"""When the activation parameters and the backbone of a network, frozen at first, begin to learn."""

from __future__ import annotations

from typing import NamedTuple

from kansearch.specs.trial import TrainingSpec


class ParameterGroups(NamedTuple):
    """The groups of parameters that a schedule may free, in this order.

    Attributes:
        n_layers: KAN layers, first to last: their activation parameters.
        n_stages: Stages of a backbone that learn, first to last.
    """

    n_layers: int
    n_stages: int = 0

    @property
    def total(self) -> int:
        """All groups."""
        return self.n_layers + self.n_stages


def unfrozen_groups(training: TrainingSpec, epoch: int, groups: ParameterGroups) -> frozenset[int]:
    """Which groups learn during an epoch.

    Args:
        training: The schedule; its start and interval are shares of the epochs.
        epoch: From 0.
        groups: Of the network.

    >>> forward = TrainingSpec(epochs=10, unfreeze="gradual_forward")
    >>> sorted(unfrozen_groups(forward, epoch=3, groups=ParameterGroups(3)))
    [0, 1]
    """
    if training.unfreeze == "none":
        return frozenset(range(groups.total))
    start = training.unfreeze_start * training.epochs
    interval = 0.0 if training.unfreeze == "all_at" else training.unfreeze_interval * training.epochs
    # A hair of tolerance: 0.1 + 0.2 of 10 epochs is epoch 3, whatever binary fractions make of it.
    return frozenset(
        group for turn, group in enumerate(_order(training, groups)) if epoch >= start + interval * turn - 1e-9
    )


def frozen_stages(training: TrainingSpec, epoch: int, groups: ParameterGroups) -> int:
    """How many stages of a backbone, the first ones, have not yet learned when an epoch begins."""
    if not groups.n_stages:
        return 0
    unfrozen = unfrozen_groups(training, epoch, groups)
    return sum(group not in unfrozen for group in range(groups.n_layers, groups.total))


def _order(training: TrainingSpec, groups: ParameterGroups) -> list[int]:
    """In which the groups are freed."""
    layers, stages = list(range(groups.n_layers)), list(range(groups.n_layers, groups.total))
    return (layers if training.unfreeze == "gradual_forward" else layers[::-1]) + stages[::-1]
