"""Checkpoints that are none: hostile bytes; test_pack has broken and foreign ones."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import TrainingSpec, TrialSpec
from kansearch.training.checkpoints import CheckpointError
from kansearch.training.pack import Pack


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
        pack = Pack(iris)
        with pytest.raises(CheckpointError, match="is no checkpoint"):
            pack.admit(TrialSpec(training=TrainingSpec(epochs=4)), hostile)
        assert len(pack) == 0
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()
