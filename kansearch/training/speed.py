"""What trains on a machine, and how fast."""

from __future__ import annotations

import time

import torch

from kansearch.compiled import trainer
from kansearch.data.splits import load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.pack import Pack

REFERENCE = "a KAN with 8 hidden nodes on 1,000 rows"
MOST_EPOCHS = 100_000


def what_trains(device: torch.device) -> str:
    """The device, and the code that trains networks over numbers there.

    >>> what_trains(torch.device("cuda", 1))
    'cuda:1, torch'
    """
    level = trainer.level() if device.type == "cpu" else None
    return f"{device}, {f'compiled code for {level}' if level else 'torch'}"


def epochs_a_second(seconds: float = 0.3) -> float:
    """Epochs that one core of this machine trains in a second, of REFERENCE.

    Args:
        seconds: How long it is tried.
    """
    split = load_split(DataSpec(name="multi_sine", n_train=1000, n_validation=500))
    pack = Pack(split, latency_at_rungs=False)
    slot = pack.admit(TrialSpec(model=ModelSpec(width=8), training=TrainingSpec(epochs=MOST_EPOCHS)))
    pack.advance(lambda: True)  # the first calls are slow
    before, begin = _epochs(pack, slot), time.perf_counter()
    pack.advance(lambda: time.perf_counter() - begin >= seconds)
    return (_epochs(pack, slot) - before) / (time.perf_counter() - begin)


def _epochs(pack: Pack, slot: int) -> int:
    since = pack.checkpoint_since(slot)
    assert since is not None, "the reference is trained for longer than anybody waits"
    return since[0]
