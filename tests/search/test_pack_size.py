"""How many trials a worker trains together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kansearch.data.splits import load_split
from kansearch.search import pack_size as module
from kansearch.search.pack_size import BUDGET_IN_FLIGHT, LARGEST, pack_size
from kansearch.specs.study import StudySpec

MakeSize = Callable[..., int]


@pytest.fixture
def size(make_spec: Callable[..., StudySpec]) -> MakeSize:
    """Of the small study, with some values changed and a budget that bounds nothing."""

    def of(*overrides: str, round_trip_s: float = 0.0) -> int:
        spec = make_spec("budget.trials=1000", *overrides)
        return pack_size(spec, load_split(spec.data), torch.device("cpu"), round_trip_s)

    return of


@pytest.mark.parametrize("is_compiled", [True, False])
def test_small_networks_share_their_overhead_and_large_ones_have_little(
    is_compiled: bool, size: MakeSize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The more arithmetic a trial has, the fewer trials share what is drawn and written together, or torch's calls."""
    monkeypatch.setattr(module, "is_known", lambda _trial, _split: is_compiled)
    sizes = [size(f"space.width={width}", "space.batch_size=256", "space.depth=3") for width in (2, 16, 1024)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2] == 1
    assert is_compiled or LARGEST["cpu"] == sizes[0] > sizes[1] > 1


def test_trials_wait_together_for_a_storage_that_is_far_away(size: MakeSize, monkeypatch: pytest.MonkeyPatch) -> None:
    """The farther, the more of them; one next door changes nothing, so that sizes are no matter of chance."""
    monkeypatch.setattr(module, "is_known", lambda _trial, _split: True)
    sizes = [size("space.width=16", round_trip_s=seconds) for seconds in (0.0, 0.0009, 0.003, 0.1)]
    assert sizes == sorted(sizes)
    assert sizes[0] == sizes[1] < sizes[2]
    assert sizes[3] == LARGEST["cpu"]


def test_a_pack_holds_a_small_share_of_the_budget(size: MakeSize) -> None:
    """A sampler that has sixteen trials in flight of thirty learns nothing from the first fifteen."""
    assert size("budget.trials=30") == 30 // BUDGET_IN_FLIGHT
    assert size("budget.trials=1") == 1


def test_a_pack_fits_into_memory(size: MakeSize, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free now bounds it."""
    monkeypatch.setattr(module, "_free_bytes", lambda device: 2**20)
    assert 1 <= size() < LARGEST["cpu"]
