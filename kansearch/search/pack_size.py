"""How many trials a worker trains together, where nobody says it.

Something is shared by the trials of a pack: where torch trains them, the calls of an optimizer step; where compiled
code does, what it takes to draw, write and judge trials together. The more trials share it the better, until there is
little of it left to share; and every trial more in flight is one whose result the sampler does not know yet. So a pack
is as large as it pays, and no larger.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kansearch.data.splits import Split
from kansearch.models.cost import cost_of_learning
from kansearch.models.shapes import layer_shapes, widest
from kansearch.search.effects import draw_params
from kansearch.search.suggest import refusal, trial_spec
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import TrialSpec
from kansearch.training.single import is_known


@dataclass(frozen=True)
class _Speed:
    """What a device makes of some work that trials do together.

    Attributes:
        overhead_s: Seconds that it takes whatever is computed, and that trials share.
        flops_per_s: Of the arithmetic of each trial, on small tensors, elementwise functions among them.
        own_s: Seconds that each trial takes beside its arithmetic.
    """

    overhead_s: float
    flops_per_s: float
    own_s: float = 0.0


SPEEDS = {"cpu": _Speed(8e-4, 5e9), "cuda": _Speed(2e-3, 2e11)}
"""Of an optimizer step in torch, which is about a hundred calls. Measured on one core; of CUDA reasoned: some 400
kernels of 5 us each, which memory keeps busy at 1 TB/s."""

COMPILED = _Speed(8e-3, 3e10, own_s=4e-3)
"""Of the way to the first rung in compiled code, and of what is drawn, written and judged then."""

FORWARD_AND_BACKWARD = 3
"""In forward passes."""

WORTH_SHARING = 0.2
"""Share of the overhead in the time of a step below which more company does not pay."""

LARGEST = {"cpu": 16, "cuda": 64}
"""With more trials in flight the sampler searches almost at random in a study of some hundred (thousand) trials."""

ROUND_TRIPS = 12
"""To the storage, at each rung of a pack: a look, what was measured, and the trials that begin."""

NEAR_S = 1e-3
"""A storage that answers sooner is not away. Times are rounded down to this, so that sizes do not differ by chance."""

BUDGET_IN_FLIGHT = 8
"""A pack holds no more than one in so many of a study's trials: others want to work too, and a sampler to learn."""

MEMORY_SHARE = 0.25
"""Of the memory that is free now, for the packs of all workers."""

TENSORS = 12
"""Copies of a layer's numbers in a step: values, gradients and what the backward pass needs."""

N_DRAWS = 64


def pack_size(spec: StudySpec, split: Split, device: torch.device, round_trip_s: float = 0.0) -> int:
    """Trials that one worker of a study should train together on a device, from 1 to LARGEST.

    As many as pay for the median network of its space, and as fit into memory for the largest.

    Args:
        spec: Of the study.
        split: Of its data.
        device: On which they train.
        round_trip_s: Seconds in which the storage answers, for which the trials of a pack wait together.
    """
    away_s = ROUND_TRIPS * NEAR_S * (round_trip_s // NEAR_S)
    random = np.random.default_rng(0)
    drawn = [trial_spec(spec, draw_params(spec, random, inside=True)) for _ in range(N_DRAWS)]
    trials = [trial for trial in drawn if refusal(spec, trial.model, split.inputs, split.n_outputs) is None]
    if not trials:
        return 1
    size = round(statistics.median(_worth(trial, split, device, away_s) for trial in trials))
    memory = max(_step_bytes(trial, split) for trial in trials)
    fits = int(_free_bytes(device) * MEMORY_SHARE / memory)
    return max(1, min(size, fits, LARGEST[device.type], spec.budget.trials // BUDGET_IN_FLIGHT))


def _worth(trial: TrialSpec, split: Split, device: torch.device, away_s: float) -> float:
    """How many trials such as this one share an overhead until what is left of it is no longer worth sharing."""
    if device.type == "cpu" and is_known(trial, split):
        speed = replace(COMPILED, overhead_s=COMPILED.overhead_s + away_s)
        n_rows = (trial.rungs or (trial.training.epochs,))[0] * split.n_train
    else:
        speed, n_rows = SPEEDS[device.type], trial.training.batch_size
    flops = FORWARD_AND_BACKWARD * n_rows * cost_of_learning(trial.model, split.inputs, split.n_outputs).flops
    seconds = speed.own_s + flops / speed.flops_per_s
    return speed.overhead_s * (1 - WORTH_SHARING) / WORTH_SHARING / seconds


def _step_bytes(trial: TrialSpec, split: Split) -> int:
    """Memory of one step of one trial, from above."""
    model = trial.model
    numbers = cost_of_learning(model, split.inputs, split.n_outputs).parameters
    n_layers = len(layer_shapes(model, split.inputs, split.n_outputs))
    numbers_a_row = widest(model, split.inputs, split.n_outputs) * n_layers
    size = 8 if trial.training.dtype == "float64" else 4
    return TENSORS * size * (numbers + trial.training.batch_size * numbers_a_row)


def _free_bytes(device: torch.device) -> float:
    """What a worker may count on: the device's own, or its core's share of what the system gives without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _free_system_bytes() / (os.cpu_count() or 1)


def _free_system_bytes() -> int:
    """2 GiB where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return 2**31
