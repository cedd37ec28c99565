"""Checkpoints that are none: hostile bytes; test_pack has broken and foreign ones."""

from __future__ import annotations

import io
import os
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import ModelSpec, RungResult, TrainingSpec, TrialSpec
from kansearch.training.checkpoints import Checkpoint, CheckpointError
from kansearch.training.pack import Pack

from .running import curve, results_of


@pytest.fixture(scope="module")
def iris() -> Split:
    return load_split(DataSpec(name="iris"))


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def test_a_pickle_that_runs_commands_does_not_run(iris: Split, tmp_path: Path) -> None:
    """Neither bare nor in torch's own format."""
    trace = tmp_path / "it_ran"
    buffer = io.BytesIO()
    torch.save({"weights": Bomb(trace)}, buffer)
    for hostile in (pickle.dumps(Bomb(trace)), buffer.getvalue()):
        for stored, message in ((hostile, "is damaged"), (sha256(hostile).digest() + hostile, "is no checkpoint")):
            pack = Pack(iris)
            with pytest.raises(CheckpointError, match=message):
                pack.admit(TrialSpec(training=TrainingSpec(epochs=4)), stored)
            assert len(pack) == 0
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()


def test_a_checkpoint_of_which_a_bit_is_wrong_is_damaged(iris: Split) -> None:
    """Wherever it is: also in the weights, which torch reads without a look at its own sums."""
    spec = TrialSpec(training=TrainingSpec(epochs=4), rungs=(2, 4))
    pack = Pack(iris)
    slot = pack.admit(spec)
    pack.advance()
    whole = pack.checkpoint(slot)
    for place in (0, 40, len(whole) // 2, len(whole) - 1):
        broken = bytearray(whole)
        broken[place] ^= 1
        with pytest.raises(CheckpointError, match="is damaged"):
            Pack(iris).admit(spec, bytes(broken))
    with pytest.raises(CheckpointError, match="is damaged"):
        Pack(iris).admit(spec, whole[:-7])
    Pack(iris).admit(spec, whole)


def test_a_checkpoint_of_an_older_version_is_read(iris: Split) -> None:
    """Its trial goes on as from one of today."""
    spec = TrialSpec(training=TrainingSpec(epochs=4, patience=3), rungs=(2, 4))
    pack = Pack(iris)
    slot = pack.admit(spec)
    pack.advance()
    today = pack.checkpoint(slot)
    buffer = io.BytesIO()
    torch.save(vars(Checkpoint.from_bytes(today)), buffer)
    older = sha256(buffer.getvalue()).digest() + buffer.getvalue()
    results = []
    for stored in (today, older):
        other = Pack(iris)
        other.admit(spec, stored)
        results.append(other.advance()[0].points)
    assert results[0] == results[1] == pack.advance()[0].points


MIXED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"family": "kan"}, {}),
    ({"family": "mlp", "dropout": 0.3}, {"patience": 3}),
    ({"base_function": "b_spline", "grid": "fitted", "n_basis": 8}, {"refinements": 2}),
    ({"family": "hybrid"}, {"unfreeze": "gradual_forward", "weight_decay": 0.1}),
    ({}, {"polish": 0.5}),
]


@pytest.mark.parametrize(("model", "training"), MIXED, ids=str)
def test_a_trial_that_is_stopped_between_rungs_goes_on_as_if_it_had_not_been(
    model: dict[str, Any], training: dict[str, Any], iris: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any epoch, to the bit, with its whole curve; where a polisher is at work from the last rung."""
    monkeypatch.setattr("kansearch.training.single.CALL_S", 0.0)  # one step a call
    spec = TrialSpec(model=ModelSpec(**model), training=TrainingSpec(epochs=8, **training), rungs=(4, 8), seed=3)
    whole = curve(results_of([spec], iris)[0])
    for n_epochs in range(1, 8):
        pack = Pack(iris)
        slot = pack.admit(spec)
        results: list[RungResult] = []
        for _ in range(n_epochs):
            results += pack.advance(lambda: True)
        since = pack.checkpoint_since(slot)
        if n_epochs in spec.rungs or (training.get("polish") and n_epochs > 4):
            assert since is None
            continue
        assert since is not None
        epoch, checkpoint = since
        assert epoch == n_epochs
        other = Pack(iris)
        other.admit(spec, checkpoint)
        while not (results and results[-1].end):
            results += other.advance()
        assert curve(results) == whole
