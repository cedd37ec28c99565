"""What does a layer cost beside nn.Linear + ReLU?

Forward and backward pass (gradients of inputs and parameters) of whole networks, one thread, float32. Layers of other
libraries are written from their formulas (benchmarks/others.py): the naive broadcast of an edge layer, the B-spline
layer of efficient-kan, the RBF layer of FastKAN, and pykan's, which evaluates a spline on every edge. Each cell runs in
a process of its own, in turn with nn.Linear + ReLU, so that both see the same machine: the figure is the ratio of the
fastest rounds. Memory is what the process grew by, at its peak.

    .venv/bin/python benchmarks/layers/run.py
    .venv/bin/python benchmarks/layers/run.py --layers edge "dictionary K=8" --networks 256-256 --batches 512
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from kansearch.models.kan import KANLayer
from kansearch.models.kernel import EdgeLayer, NodeLayer, SharedLayer
from kansearch.models.scaled import ScaledLayer

sys.path.append(str(Path(__file__).parents[1]))
from others import Naive, Radial, Splines, SplinesOfEdges

NETWORKS = {"64-64": (64, 64), "256-256": (256, 256), "784-64-10": (784, 64, 10)}
BATCHES = (64, 512, 4096)
LARGEST = 2**31
"""Numbers that the largest tensor of a layer written by others may have here: 8 GB."""


Make = Callable[[int, int], nn.Module]


def dictionary(name: str, n_basis: int, branch: str = "silu") -> Make:
    """Of kansearch."""
    return lambda i, o: KANLayer(i, o, name, n_basis=n_basis, base_branch=branch)


LAYERS: dict[str, Make] = {
    "edge": lambda i, o: EdgeLayer(i, o, "tanh"),
    "edge, silu": lambda i, o: EdgeLayer(i, o, "silu"),
    "edge, relu": lambda i, o: EdgeLayer(i, o, "relu"),
    "scaled K=4": lambda i, o: ScaledLayer(i, o, "tanh", n_basis=4),
    "scaled K=6": lambda i, o: ScaledLayer(i, o, "tanh", n_basis=6),
    "scaled, relu": lambda i, o: ScaledLayer(i, o, "relu"),
    "shared": lambda i, o: SharedLayer(i, o, "tanh"),
    "node": lambda i, o: NodeLayer(i, o, "tanh"),
    "dictionary K=4": dictionary("tanh", 4, "none"),
    "dictionary K=8": dictionary("tanh", 8, "none"),
    "dictionary gaussian K=8, silu": dictionary("gaussian", 8),
    "B-spline G=5": dictionary("b_spline", 8),
    "RBF K=8": dictionary("rbf", 8),
    "Chebyshev K=4": dictionary("chebyshev", 4),
    "Fourier K=8": dictionary("fourier", 8),
    "rational": dictionary("rational", 8),
    "naive broadcast": Naive,
    "efficient-kan's G=5": Splines,
    "FastKAN's K=8": Radial,
    "pykan's G=5": SplinesOfEdges,
}
OF_OTHERS = ("naive broadcast", "efficient-kan's G=5", "FastKAN's K=8", "pykan's G=5")
BY_EDGES = ("naive broadcast", "pykan's G=5")


def measure(name: str, network: str, batch: int, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of nn.Linear + ReLU and of the layer, and MiB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(batch, NETWORKS[network][0], requires_grad=True)
    plain = nn.Sequential(*(part for i, o in pairwise(NETWORKS[network]) for part in (nn.Linear(i, o), nn.ReLU())))
    layered = nn.Sequential(*(LAYERS[name](i, o) for i, o in pairwise(NETWORKS[network])))

    def step(module: nn.Module) -> float:
        begin = time.perf_counter()
        torch.autograd.grad(module(x).sum(), [x, *module.parameters()])
        return time.perf_counter() - begin

    step(plain)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first = step(layered)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times: dict[nn.Module, list[float]] = {plain: [], layered: []}
    for _ in range(max(3, min(rounds, int(3 / first)))):
        for module, seen in times.items():
            seen.append(min(step(module) for _ in range(3)) if module is plain else step(module))
    return 1000 * min(times[plain]), 1000 * min(times[layered]), memory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(measure(*json.loads(args.cell))))
        return
    from kansearch.launch.environment import WORKER_ENVIRONMENT

    print(f"{platform.machine()}, torch {torch.__version__}; times of nn.Linear + ReLU, and MiB")
    columns = [f"{network}, {batch}" for network in args.networks for batch in args.batches]
    print(f"| layer | {' | '.join(columns)} |")
    print("|" + "---|" * (len(columns) + 1))
    for name in args.layers:
        cells = []
        for network in args.networks:
            for batch in args.batches:
                widest = max(i * (o if name in BY_EDGES else 12) for i, o in pairwise(NETWORKS[network]))
                if name in OF_OTHERS and 4 * batch * widest > LARGEST:
                    cells.append("-")
                    continue
                done = subprocess.run(
                    [sys.executable, __file__, "--cell", json.dumps([name, network, batch, args.rounds])],
                    env={**os.environ, **WORKER_ENVIRONMENT}, capture_output=True, text=True, check=True,
                )  # fmt: skip
                plain, own, memory = json.loads(done.stdout.splitlines()[-1])
                cells.append(f"{own / plain:.1f}x, {memory:.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
