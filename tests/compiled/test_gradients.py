"""The gradients of the compiled trainer in double against autograd's, for every layer, loss and penalty.

The trainer is compiled for double here, from the source of the one that searches use.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from kansearch import compiled
from kansearch.compiled import trainer
from kansearch.compiled.trainer import pointer, zeros
from kansearch.models.build import build
from kansearch.models.network import Network
from kansearch.specs.data import TextShape
from kansearch.specs.trial import ModelSpec
from kansearch.training.metrics import entropy
from kansearch.training.program import Program
from tests.models import zoo

COMPILER = shutil.which("cc") or shutil.which("gcc")
FLAGS = {"avx512": ["-march=x86-64-v4", "-DVECTOR_BYTES=64"], "avx2": ["-march=x86-64-v3", "-DVECTOR_BYTES=32"]}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

MODELS: list[dict[str, Any]] = [
    *({"layer": form, "base_function": name, "n_basis": 5} for form, name in zoo.FORMS if form in zoo.WITH_BASIS),
    *({"layer": form, "base_function": name} for form, name in zoo.FORMS if form not in zoo.WITH_BASIS),
    *({"base_function": "b_spline", "n_basis": n_basis} for n_basis in (2, 3)),
    *({"base_function": name, "base_branch": branch} for name in ("tanh", "rbf") for branch in ("identity", "none")),
    *({"base_function": name, "grid": "fitted"} for name in ("b_spline", "rbf", "chebyshev", "fourier")),
    *({"family": "mlp", "activation": activation} for activation in ("relu", "silu", "tanh", "gelu")),
    *({"family": "hybrid", "pattern": pattern, "activation": "tanh"} for pattern in zoo.PLAIN_PATTERNS),
]

CASES = [
    # depth, width, inputs, outputs, rows, l1, entropy, share of dropout, layer norm
    (2, 13, 5, 3, 32, 0.0, 0.0, 0.0, False),
    (3, 7, 2, 1, 21, 1e-2, 0.0, 0.2, True),
    (3, 20, 9, 10, 53, 1e-2, 1e-2, 0.1, False),
    (1, 4, 3, 1, 64, 0.0, 1e-2, 0.0, False),
]
N_ROWS = 100


@pytest.fixture(scope="module", params=["avx512", "avx2", "plain"])
def level(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The trainer in double, compiled for one kind of vectors."""
    common = compiled.library()
    if common is None or trainer.LEVELS.index(request.param) < common.kansearch_level():
        pytest.skip("this processor has no such vectors")
    source = Path(trainer.__file__).parent / "training/trainer.c"
    target = tmp_path_factory.mktemp("double") / "trainer.so"
    assert COMPILER
    options = ["-std=gnu11", "-O1", "-fopenmp-simd", "-shared", "-fPIC", "-DREAL=double", *FLAGS.get(request.param, [])]
    subprocess.run([COMPILER, *options, str(source), "-o", str(target), "-lm"], check=True, capture_output=True)
    code = ctypes.CDLL(str(target))
    code.trainer_memory.restype = ctypes.c_int64
    code.trainer_gradients.restype = code.trainer_look.restype = ctypes.c_double
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "code", lambda _dtype="float32": code)
        yield


@pytest.mark.parametrize("model", MODELS, ids=lambda model: "-".join(map(str, model.values())))
def test_gradients_are_those_of_autograd(model: dict[str, Any], level: None) -> None:
    """Losses, outputs and all gradients, to the tenth digit."""
    for depth, width, n_inputs, n_outputs, n_rows, l1, weight_of_entropy, dropout, layer_norm in CASES:
        if model.get("family") == "hybrid":
            depth = 3  # noqa: PLW2901 - a hybrid needs them
        spec = ModelSpec(**model, depth=depth, width=width, layer_norm=layer_norm, dropout=dropout)
        network = build(spec, n_inputs, n_outputs, zoo.random(1), torch.float64)
        zoo.stir(network)
        _compare(network, n_rows, l1, weight_of_entropy, dropout)


def test_gradients_of_an_embedding_are_those_of_autograd(level: None) -> None:
    """Texts of unequal length, one of them empty, before layers of either kind."""
    texts = torch.randint(0, 9, (N_ROWS, 6), generator=zoo.random(2)).double()
    texts[3] = 0
    for family, n_outputs, layer_norm in (("kan", 3, False), ("mlp", 1, True), ("hybrid", 2, False)):
        spec = ModelSpec(family=family, stem="embedding", embedding=5, depth=2, width=4, layer_norm=layer_norm)
        network = build(spec, TextShape(length=6, vocabulary=9), n_outputs, zoo.random(1), torch.float64)
        zoo.stir(network)
        _compare(network, 40, 1e-2 * (family != "mlp"), 0.0, 0.0, texts)


def test_gradients_of_weighted_rows_are_those_of_autograd(level: None) -> None:
    """Of classes and of numbers; a row of weight 0 teaches nothing."""
    weights = 3 * torch.rand(N_ROWS, generator=zoo.random(4), dtype=torch.float64)
    weights[::7] = 0
    for n_outputs in (1, 4):
        network = build(ModelSpec(family="hybrid", depth=3, width=6), 5, n_outputs, zoo.random(1), torch.float64)
        zoo.stir(network)
        _compare(network, 37, 1e-2, 0.0, 0.0, weights=weights)


def _compare(
    network: Network,
    n_rows: int,
    l1: float,
    weight_of_entropy: float,
    dropout: float,
    inputs: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> None:
    n_outputs = network.n_outputs
    x = zoo.normal(N_ROWS, network.n_inputs) if inputs is None else inputs
    is_classes = n_outputs > 1
    y = torch.arange(N_ROWS) % n_outputs if is_classes else zoo.normal(N_ROWS, 1, seed=5)
    rows = torch.randperm(N_ROWS, generator=zoo.random(3))[:n_rows]
    n_nodes = network.layers[0].n_outputs
    uniforms = [torch.rand(n_rows, n_nodes, generator=zoo.random(7 + i)) for i in range(len(network.layers) - 1)]

    columns, targets = np.ascontiguousarray(x.numpy().T), y.numpy().ravel()
    kind = "classes" if is_classes else "numbers"
    data = trainer.DataPointers(n_train=N_ROWS, n_validation=N_ROWS)
    for part in ("train", "validation"):
        setattr(data, f"{part}_x", pointer(columns))
        setattr(data, f"{part}_{kind}", pointer(targets))
        setattr(data, f"{part}_weights", None if weights is None else pointer(weights.numpy()))
    plan = trainer.PlanPointers(keep=1 - dropout, l1=l1, entropy=weight_of_entropy, n_drawn=n_rows)
    of_rows = (ctypes.c_void_p * len(uniforms))(*(drawn.data_ptr() for drawn in uniforms))
    if dropout:
        plan.uniforms = ctypes.cast(of_rows, ctypes.c_void_p)
    program = Program(network, 64)
    row, gradients = (zeros(program.n_numbers, "float64") for _ in range(2))
    program.write(network, row)
    outputs = np.zeros((n_outputs, N_ROWS))
    state = trainer.StatePointers(row=pointer(row), gradients=pointer(gradients), outputs=pointer(outputs))
    common = ctypes.byref(program.pointers), program.memory, ctypes.byref(data)
    loss = trainer.code().trainer_gradients(
        *common, ctypes.byref(plan), ctypes.byref(state), ctypes.c_void_p(rows.data_ptr()), ctypes.c_int64(n_rows)
    )
    validation_loss = trainer.code().trainer_look(*common, ctypes.byref(state))

    masks = iter((drawn < 1 - dropout).double() / (1 - dropout) for drawn in uniforms)
    network._mask = lambda _: next(masks)  # type: ignore[method-assign]
    network.train()
    given, amplitudes = network.forward_with_amplitudes(x[rows])
    of_data = _loss(given, y[rows], None if weights is None else weights[rows])
    objective = of_data + sum(l1 * a.sum() + weight_of_entropy * entropy(a) for a in amplitudes)
    parameters = list(network.parameters())
    wanted = torch.autograd.grad(objective, parameters, materialize_grads=True)
    network.eval()
    assert loss == pytest.approx(of_data.item(), rel=1e-10)
    assert validation_loss == pytest.approx(_loss(network(x), y, weights).item(), rel=1e-10)
    torch.testing.assert_close(torch.from_numpy(outputs.T), network(x).detach(), rtol=1e-9, atol=1e-10)
    largest = max(gradient.abs().max().item() for gradient in wanted)
    program.read(gradients, network)
    for (name, found), gradient in zip(network.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(found.detach(), gradient, rtol=0, atol=1e-10 * largest, msg=lambda m, n=name: n + m)


def _loss(outputs: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    of_rows = (
        (outputs - y).square().squeeze(1) if y.dim() > 1 else functional.cross_entropy(outputs, y, reduction="none")
    )
    return (of_rows if weights is None else weights * of_rows).mean()
