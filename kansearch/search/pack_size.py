"""How many trials a worker trains together, where nobody says it.

The time of an optimizer step is an overhead, the same for one trial or many, and the arithmetic of each trial. The
more trials share the overhead the better, until there is little of it left to share; and every trial more in flight
is one whose result the sampler does not know yet. So a pack is as large as it pays, and no larger.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Speed:
    """What a device makes of an optimizer step.

    Attributes:
        overhead_s: Whatever it computes: about a hundred calls into torch.
        flops_per_s: On small tensors, elementwise functions among them.
    """

    overhead_s: float
    flops_per_s: float


SPEEDS = {"cpu": _Speed(8e-4, 5e9), "cuda": _Speed(2e-3, 2e11)}
"""Measured on one core; of CUDA reasoned: some 400 kernels of 5 us each, which memory keeps busy at 1 TB/s."""

FORWARD_AND_BACKWARD = 3
"""In forward passes."""

WORTH_SHARING = 0.2
"""Share of the overhead in the time of a step below which more company does not pay."""

LARGEST = {"cpu": 16, "cuda": 64}
"""With more trials in flight the sampler searches almost at random in a study of some hundred (thousand) trials."""

BUDGET_IN_FLIGHT = 8
"""A pack holds no more than one in so many of a study's trials: others want to work too, and a sampler to learn."""

MEMORY_SHARE = 0.25
"""Of the memory that is free now, for the packs of all workers."""

TENSORS = 12
"""Copies of a layer's numbers in a step: values, gradients and what the backward pass needs."""

N_DRAWS = 64


def pack_size(spec: StudySpec, split: Split, device: torch.device) -> int:
    """Trials that one worker of a study should train together on a device, from 1 to LARGEST.

    As many as pay for the median network of its space, and as fit into memory for the largest.
    """
    random = np.random.default_rng(0)
    drawn = [trial_spec(spec, draw_params(spec, random, inside=True)) for _ in range(N_DRAWS)]
    trials = [trial for trial in drawn if refusal(spec, trial.model, split.inputs, split.n_outputs) is None]
    if not trials:
        return 1
    speed = SPEEDS[device.type]
    seconds = statistics.median(_step_flops(trial, split) for trial in trials) / speed.flops_per_s
    size = round(speed.overhead_s * (1 - WORTH_SHARING) / WORTH_SHARING / seconds)
    memory = max(_step_bytes(trial, split) for trial in trials)
    fits = int(_free_bytes(device) * MEMORY_SHARE / memory)
    return max(1, min(size, fits, LARGEST[device.type], spec.budget.trials // BUDGET_IN_FLIGHT))


def _step_flops(trial: TrialSpec, split: Split) -> float:
    """Arithmetic of one step of one trial."""
    flops = cost_of_learning(trial.model, split.inputs, split.n_outputs).flops
    return FORWARD_AND_BACKWARD * trial.training.batch_size * flops


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
