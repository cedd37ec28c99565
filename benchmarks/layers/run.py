"""What does a layer cost beside nn.Linear + ReLU?

Forward and backward pass (gradients of inputs and parameters) of whole networks, one thread, float32. Layers of other
libraries are written here from their formulas: the naive broadcast of an edge layer, the B-spline layer of
efficient-kan, the RBF layer of FastKAN, and pykan's, which evaluates a spline on every edge. Each cell runs in a
process of its own, in turn with nn.Linear + ReLU, so that both see the same machine: the figure is the ratio of the
fastest rounds. Memory is what the process grew by, at its peak.

    .venv/bin/python benchmarks/layers/run.py
    .venv/bin/python benchmarks/layers/run.py --layers edge "dictionary K=8" --networks 256-256 --batches 512
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from kansearch.models.kan import KANLayer
from kansearch.models.kernel import EdgeLayer, NodeLayer, SharedLayer
from kansearch.models.scaled import ScaledLayer

NETWORKS = {"64-64": (64, 64), "256-256": (256, 256), "784-64-10": (784, 64, 10)}
BATCHES = (64, 512, 4096)
LARGEST = 2**31
"""Numbers that the largest tensor of a layer written by others may have here: 8 GB."""


class Naive(nn.Module):
    """y_j = sum_i a_ji tanh(b_ji x_i + d_ji) + c_j, as a broadcast."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.a, self.b, self.d = (nn.Parameter(torch.randn(n_outputs, n_inputs) / 10) for _ in range(3))
        self.c = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return (self.a * torch.tanh(self.b * x.unsqueeze(1) + self.d)).sum(-1) + self.c


class Splines(nn.Module):
    """Cubic B-splines by the recursion, as efficient-kan has them: then one product, and one of silu."""

    def __init__(self, n_inputs: int, n_outputs: int, grid: int = 5, order: int = 3) -> None:
        super().__init__()
        self.order = order
        knots = torch.arange(-order, grid + order + 1) * (4 / grid) - 2
        self.register_buffer("grid", knots.expand(n_inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(n_outputs, n_inputs) / math.sqrt(n_inputs))
        self.spline = nn.Parameter(0.1 * torch.randn(n_outputs, n_inputs, grid + order) / math.sqrt(n_inputs))
        self.scaler = nn.Parameter(torch.ones(n_outputs, n_inputs))

    def bases(self, x: Tensor) -> Tensor:
        x, grid = x.unsqueeze(-1), self.grid
        values = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * values[:, :, :-1]
            right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:(-k)]) * values[:, :, 1:]
            values = left + right
        return values

    def forward(self, x: Tensor) -> Tensor:
        base = functional.linear(functional.silu(x), self.base)
        return base + functional.linear(self.bases(x).flatten(1), (self.spline * self.scaler.unsqueeze(-1)).flatten(1))


class SplinesOfEdges(Splines):
    """The same curves, each evaluated on its own edge and kept, as pykan does."""

    def forward(self, x: Tensor) -> Tensor:
        curves = torch.einsum("bik,oik->boi", self.bases(x), self.spline)
        return (self.scaler * curves + self.base * functional.silu(x).unsqueeze(1)).sum(-1)


class Radial(nn.Module):
    """FastKAN's layer: layer norm, Gaussians, one product, and one of silu."""

    def __init__(self, n_inputs: int, n_outputs: int, n_centres: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_inputs)
        self.register_buffer("centres", torch.linspace(-2, 2, n_centres))
        self.spline = nn.Linear(n_inputs * n_centres, n_outputs, bias=False)
        self.base = nn.Linear(n_inputs, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        distance = 4 / (len(self.centres) - 1)
        values = torch.exp(-(((self.norm(x).unsqueeze(-1) - self.centres) / distance) ** 2))
        return self.spline(values.flatten(1)) + self.base(functional.silu(x))


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
    from kansearch.launch.local import WORKER_ENVIRONMENT

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
