"""When the activation parameters of a network, frozen at first, begin to learn."""

from __future__ import annotations

from kansearch.specs.trial import TrainingSpec


def unfrozen_groups(training: TrainingSpec, epoch: int, n_groups: int) -> frozenset[int]:
    """Which groups of activation parameters learn during an epoch.

    Args:
        training: The schedule; its start and interval are shares of the epochs.
        epoch: From 0.
        n_groups: One group a KAN layer, first to last.

    >>> sorted(unfrozen_groups(TrainingSpec(epochs=10, unfreeze="gradual_forward"), epoch=3, n_groups=3))
    [0, 1]
    """
    everyone = frozenset(range(n_groups))
    if training.unfreeze == "none":
        return everyone
    start = training.unfreeze_start * training.epochs
    if training.unfreeze == "all_at":
        return everyone if epoch >= start else frozenset()
    forward = training.unfreeze == "gradual_forward"
    interval = training.unfreeze_interval * training.epochs
    # A hair of tolerance: 0.1 + 0.2 of 10 epochs is epoch 3, whatever binary fractions make of it.
    return frozenset(
        group for group in everyone if epoch >= start + interval * (group if forward else n_groups - 1 - group) - 1e-9
    )
