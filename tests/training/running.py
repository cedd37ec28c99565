"""Running trials, and what they measured."""

from __future__ import annotations

from collections.abc import Sequence

from kansearch.data.splits import Split
from kansearch.specs.trial import RungResult, TrialSpec
from kansearch.training.loop import train


def results_of(specs: Sequence[TrialSpec], split: Split) -> list[list[RungResult]]:
    """All results of each trial of a pack."""
    results: list[list[RungResult]] = [[] for _ in specs]
    for result in train(specs, split):
        results[result.slot].append(result)
    return results


def curve(results: Sequence[RungResult]) -> list[tuple[float, float]]:
    """The losses, epoch by epoch."""
    return [(point.train_loss, point.validation_loss) for result in results for point in result.points]
