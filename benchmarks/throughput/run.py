"""How many trials a minute does one core train: packs, against the script that people write?

The script trains one network at a time with torch's DataLoader and Adam, its layers in their usual form: nn.Linear, an
edge layer as a broadcast, a B-spline layer after efficient-kan, an RBF layer after FastKAN (benchmarks/others.py). Both
sides train the same widths for the same epochs with the same batches and rates, and look at the validation rows after
each epoch.

    .venv/bin/python benchmarks/throughput/run.py
    .venv/bin/python benchmarks/throughput/run.py --widths 16 --packs 1 16 --repeats 3

Each cell runs in a process of its own with one thread; its peak memory is that process's beyond the imports.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

FAMILIES = {
    "mlp": {"family": "mlp", "activation": "relu"},
    "edge": {"family": "kan", "layer": "edge", "base_function": "tanh"},
    "b_spline": {"family": "kan", "base_function": "b_spline", "n_basis": 8},
    "rbf": {"family": "kan", "base_function": "rbf", "n_basis": 8},
}
TASKS = {"digits": 64, "feynman_i_6_2": 64}
"""Datasets, and their batch sizes."""

EPOCHS = 50
"""Of a trial; whole trials are timed, for curves and latency are measured once in each."""


def packed(task: str, family: str, width: int, size: int) -> tuple[float, float, float]:
    """Seconds and final quality of a trial in a pack, and the memory that the pack took in MiB."""
    from kansearch.data.splits import load_split
    from kansearch.specs.data import DataSpec
    from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
    from kansearch.training.loop import train

    split = load_split(DataSpec(name=task))
    training = TrainingSpec(epochs=EPOCHS, batch_size=TASKS[task], schedule="constant")
    model = ModelSpec(**FAMILIES[family], width=width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # A pack that is new to a process waits for its memory, page by page.
    warm_up = training.model_copy(update={"epochs": 1})
    list(train([TrialSpec(model=model, training=warm_up, seed=seed) for seed in range(size)], split))
    begin = time.perf_counter()
    results = list(train([TrialSpec(model=model, training=training, seed=seed) for seed in range(size)], split))
    seconds = time.perf_counter() - begin
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    quality = statistics.mean(r.metrics.get("accuracy", r.metrics.get("r2", math.nan)) for r in results if r.end)
    return seconds / size, quality, memory


def script(task: str, family: str, width: int, _size: int) -> tuple[float, float, float]:
    """The same for one trial of the script."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from kansearch.data.splits import load_split
    from kansearch.specs.data import DataSpec

    sys.path.append(str(Path(__file__).parents[1]))
    from others import Naive, Radial, Splines

    torch.set_num_threads(1)
    torch.manual_seed(0)
    split = load_split(DataSpec(name=task))
    layers: dict[str, Callable[[int, int], nn.Module]]
    layers = {"mlp": nn.Linear, "edge": Naive, "b_spline": Splines, "rbf": Radial}
    layer = layers[family]
    between = [nn.ReLU()] if family == "mlp" else []
    network = nn.Sequential(layer(split.n_inputs, width), *between, layer(width, split.n_outputs))
    loss = nn.CrossEntropyLoss() if split.class_names else nn.MSELoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005, weight_decay=0.0)
    size = TASKS[task]
    batches = DataLoader(TensorDataset(split.train_x, split.train_y), batch_size=size, shuffle=True)
    others = DataLoader(TensorDataset(split.validation_x, split.validation_y), batch_size=size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    for _ in range(EPOCHS):
        network.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss(network(x), y).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            outputs = torch.cat([network(x) for x, _ in others])
    seconds = time.perf_counter() - begin
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if split.class_names:
        quality = (outputs.argmax(1) == split.validation_y).double().mean().item()
    else:
        quality = 1 - (outputs - split.validation_y).square().mean().item() / split.validation_y.var().item()
    return seconds, quality, memory


def cell(*arguments: object) -> tuple[float, float, float]:
    """One measurement, in a process of its own."""
    from kansearch.launch.environment import WORKER_ENVIRONMENT

    done = subprocess.run(
        [sys.executable, __file__, "--cell", json.dumps(arguments)],
        env={**os.environ, **WORKER_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, quality, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, quality, memory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--widths", nargs="+", type=int, default=[16, 64, 128])
    parser.add_argument("--packs", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.cell:
        import torch

        torch.set_num_threads(1)
        side, *rest = json.loads(args.cell)
        print(json.dumps({"packed": packed, "script": script}[side](*rest)))
        return

    import torch

    print(f"{platform.machine()}, torch {torch.__version__}; trials a minute, medians of {args.repeats}")
    sizes = [f"pack of {size}" for size in args.packs]
    header = [
        "task",
        "width",
        "family",
        "script",
        *sizes,
        "best / script",
        "quality: script / packs",
        "MiB: script / packs",
    ]
    print(f"| {' | '.join(header)} |")
    print("|" + "---|" * len(header))
    for task in args.tasks:
        for width in args.widths:
            ratios = []
            for family in FAMILIES:
                runs = [
                    [cell("script", task, family, width, 1)]
                    + [cell("packed", task, family, width, size) for size in args.packs]
                    for _ in range(args.repeats)
                ]
                seconds = [statistics.median(run[column][0] for run in runs) for column in range(len(args.packs) + 1)]
                rates = [60 / s for s in seconds]
                ratios.append(max(rates[1:]) / rates[0])
                numbers = " | ".join(f"{rate:.0f}" for rate in rates)
                first = runs[0]
                print(
                    f"| {task} | {width} | {family} | {numbers} | **{ratios[-1]:.1f}** | "
                    f"{first[0][1]:.3f} / {first[-1][1]:.3f} | {first[0][2]:.0f} / {first[-1][2]:.0f} |",
                    flush=True,
                )
            blanks = "| " * len(args.packs)
            print(f"| {task} | {width} | geometric mean | | {blanks}**{statistics.geometric_mean(ratios):.1f}** | | |")


if __name__ == "__main__":
    main()
