"""The training loop by hand: trial specs in, rung results out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kansearch.data.splits import Split
from kansearch.specs.trial import RungResult, TrialSpec
from kansearch.training.pack import Pack


def train(specs: Sequence[TrialSpec], split: Split) -> Iterator[RungResult]:
    """Train trials together, from rung to rung.

    Asking for the next result is the leave to go on: a caller that stops asking stops the training.

    Args:
        specs: The trials; a result names its trial by its place here (`slot`).
        split: What they learn from and are judged by.

    Yields:
        A result of every trial at each of its rungs; the last of a trial has an `end`.
    """
    pack = Pack(split)
    for spec in specs:
        pack.admit(spec)
    while pack:
        for result in pack.advance():
            yield result
            if result.end is not None:
                pack.retire(result.slot)
