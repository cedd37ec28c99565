"""Running trials, and what they measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch

from kansearch.data.splits import Split
from kansearch.specs.trial import RungResult, TrialSpec
from kansearch.training.checkpoints import Checkpoint
from kansearch.training.loop import train
from kansearch.training.pack import Pack
from tests.products import products_have_equal_bits
from tests.shapes import checked_shapes


def results_of(specs: Sequence[TrialSpec], split: Split) -> list[list[RungResult]]:
    """All results of each trial of a pack."""
    results: list[list[RungResult]] = [[] for _ in specs]
    for result in train(specs, split):
        results[result.slot].append(result)
    return results


def curve(results: Sequence[RungResult]) -> list[tuple[float, float]]:
    """The losses, epoch by epoch."""
    return [(point.train_loss, point.validation_loss) for result in results for point in result.points]


@dataclass(frozen=True)
class Trained:
    """What became of a trial: its losses, and all numbers that it ended with, where a difference shows at once."""

    results: list[RungResult]
    end: Checkpoint

    def differences(self, other: Trained) -> list[str]:
        """What is not the same to the last bit; where no product is, what is not the same but for rounding."""
        found = []
        for epoch, (ours, theirs) in enumerate(zip(curve(self.results), curve(other.results), strict=True), 1):
            same = ours == theirs if products_have_equal_bits() else epoch > 2 or ours == pytest.approx(theirs, 1e-4)
            found += [] if same else [f"epoch {epoch}: losses {ours} and {theirs}"]
        for name in ("weights", "first", "second", "ages", "random", "dropout", "best_weights"):
            ours, theirs = getattr(self.end, name), getattr(other.end, name)
            if not products_have_equal_bits() and name not in ("ages", "random", "dropout"):
                continue
            if ours is not None and not torch.equal(ours, theirs):
                found.append(f"{name}: {int((ours != theirs).sum())} of {ours.numel()} numbers")
        return found


def trained(specs: Sequence[TrialSpec], split: Split, *, use_compiled: bool = False) -> list[Trained]:
    """Trials of one pack, trained to their ends; in company, where all kinds are, shapes are checked for an epoch."""
    pack = Pack(split, latency_at_rungs=False, use_compiled=use_compiled)
    results: list[list[RungResult]] = [[] for _ in specs]
    ends = {}

    def note(of_group: Sequence[RungResult]) -> None:
        for result in of_group:
            results[result.slot].append(result)
            if result.end is not None:
                ends[result.slot] = Checkpoint.from_bytes(pack.checkpoint(result.slot))
                pack.retire(result.slot)

    with checked_shapes() if len(specs) > 1 else nullcontext():
        for spec in specs:
            pack.admit(spec)
        for _ in list(pack._homes):
            note(pack.advance(lambda: True))
    while pack:
        note(pack.advance())
    return [Trained(of_trial, ends[slot]) for slot, of_trial in enumerate(results)]


def assert_company_changes_nothing(specs: Sequence[TrialSpec], split: Split, n_epochs: int) -> list[Trained]:
    """Each trial, in a group with one of its kind and beside all others, is what it is alone; returns what they are."""
    places = [2 * number + number % 2 for number in range(len(specs))]
    crowd = [spec.model_copy(update={"seed": spec.seed + 1000}) for spec in specs for _ in range(2)]
    for place, spec in zip(places, specs, strict=True):
        crowd[place] = spec
    together = trained(crowd, split)
    for place, spec in zip(places, specs, strict=True):
        (alone,) = trained([spec], split)
        assert len(curve(alone.results)) == n_epochs
        assert together[place].differences(alone) == [], spec
    return [together[place] for place in places]
