"""The compiled code against the same formulas in float64 with torch's operators, which it never serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kansearch import compiled
from kansearch.models import EdgeLayer, KANLayer
from kansearch.models.bases import BASE_FUNCTIONS
from kansearch.models.kan import FEW_OUTPUTS
from kansearch.models.layer import CurveLayer
from kansearch.models.stack import Stack, structure
from kansearch.specs.trial import ModelSpec, TrainingSpec
from kansearch.training.optimizers import AdamState, PackAdam
from kansearch.training.unfreeze import ParameterGroups

TOLERANCE = 3e-5
"""Of the largest number of a tensor: sums of float32 over a hundred rows."""

needs_library = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler: nothing was compiled"
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def results(layer: CurveLayer, x: Tensor, *, amplitudes: bool) -> list[Tensor]:
    """Outputs (and amplitudes), and every gradient of an uneven sum of them."""
    x = x.clone().requires_grad_()
    given = layer.forward_with_amplitudes(x) if amplitudes else (layer(x),)
    total = sum((t * torch.arange(t.numel()).view(t.shape).sin()).sum() for t in given)
    return [*given, *torch.autograd.grad(total, [x, *layer.parameters()])]


def assert_close(got: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert (one - other).abs().max() <= TOLERANCE * other.abs().max()


@needs_library
def test_it_was_compiled() -> None:
    assert compiled.library() is not None


@needs_library
@pytest.mark.parametrize("n_rows", [1, 7, 64, 101])
@pytest.mark.parametrize("amplitudes", [False, True])
@pytest.mark.parametrize("function", BASE_FUNCTIONS)
class TestBaseFunctions:
    @pytest.mark.parametrize("shift", [True, False])
    def test_an_edge_layer(self, function: str, amplitudes: bool, n_rows: int, shift: bool) -> None:
        layer = EdgeLayer(5, 3, function, shift=shift, generator=torch.Generator().manual_seed(1))
        x = 3 * normal(n_rows, 5)
        wanted = results(deepcopy(layer).double(), x.double(), amplitudes=amplitudes)
        assert_close(results(layer, x, amplitudes=amplitudes), wanted)

    @pytest.mark.parametrize("n_outputs", [FEW_OUTPUTS, FEW_OUTPUTS + 1])
    def test_atoms(self, function: str, amplitudes: bool, n_rows: int, n_outputs: int) -> None:
        if amplitudes and n_rows == 1:
            pytest.skip("an amplitude is the size of one number then, whose gradient has no digits near 0")
        layer = KANLayer(5, n_outputs, function, n_basis=6, generator=torch.Generator().manual_seed(1))
        layer.W.data.copy_(normal(n_outputs, 5, 6, seed=2))
        x = 3 * normal(n_rows, 5)
        wanted = results(deepcopy(layer).double(), x.double(), amplitudes=amplitudes)
        assert_close(results(layer, x, amplitudes=amplitudes), wanted)


@needs_library
@pytest.mark.parametrize(
    ("basis", "n_basis"), [("b_spline", 8), ("b_spline", 3), ("rbf", 8), ("rbf", 1), ("fourier", 5)]
)
def test_a_fixed_basis(basis: str, n_basis: int) -> None:
    layer = KANLayer(5, 3, basis, n_basis=n_basis, generator=torch.Generator().manual_seed(1))
    layer.W.data.copy_(normal(3, 5, n_basis, seed=2))
    x = 3 * normal(50, 5)
    assert_close(results(layer, x, amplitudes=True), results(deepcopy(layer).double(), x.double(), amplitudes=True))


@needs_library
@pytest.mark.parametrize("function", BASE_FUNCTIONS)
def test_numbers_far_out(function: str) -> None:
    """Large inputs give what they give in float64, and what is no number stays none."""
    layer = EdgeLayer(1, 1, function)
    x = torch.tensor([[-3e3], [-90.0], [-0.0], [1e-30], [90.0], [3e3]])
    near = layer.double()(x.double())
    assert torch.allclose(layer.float()(x).double(), near, rtol=1e-3, atol=1e-3)
    assert layer(torch.tensor([[torch.nan]])).isnan().all()


@needs_library
def test_a_stack_of_mixed_functions() -> None:
    """Each network of a stack has its own base function."""
    names = ("tanh", "tanh", "sin", "gaussian")
    for layer in ("edge", "dictionary"):
        specs = [ModelSpec(family="kan", layer=layer, base_function=name, width=8, n_basis=4) for name in names]
        outputs = []
        for dtype in (torch.float32, torch.float64):
            stack = Stack(structure(specs[0]), 3, 2, dtype)
            weights = normal(4, stack.n_numbers).to(dtype)
            stack.attach(weights, specs)
            outputs.append(stack(normal(4, 20, 3).to(dtype)))
        assert_close([outputs[0]], [outputs[1]])


@needs_library
def test_adam_moves_weights_as_in_float64() -> None:
    """With rates, decay, freezing and padding of their own."""
    specs = [ModelSpec(family="kan", layer="edge", width=width) for width in (5, 8)]
    trainings = [
        TrainingSpec(epochs=4, learning_rate=0.01, activation_rate=0.3, unfreeze="gradual_forward", weight_decay=0.1),
        TrainingSpec(epochs=4, learning_rate=0.003),
    ]
    moved = []
    for dtype in (torch.float32, torch.float64):
        stack = Stack(structure(specs[0]), 3, 2, dtype)
        real = torch.ones(2, stack.n_numbers, dtype=torch.bool)
        real[0, ::7] = False
        n_groups = len(stack.activation_groups())
        fresh = [AdamState.fresh(stack.n_numbers, n_groups, dtype, torch.device("cpu")) for _ in specs]
        state = AdamState(*(torch.cat([getattr(s, name) for s in fresh]) for name in ("first", "second", "ages")))
        adam = PackAdam(stack.segments, real, trainings, state, ParameterGroups(n_groups))
        weights = normal(2, stack.n_numbers).to(dtype) * real
        for epoch in range(4):
            adam.begin_epoch([epoch, epoch], 3)
            for step in range(3):
                adam.step(weights, normal(2, stack.n_numbers, seed=3 * epoch + step).to(dtype), step)
        moved.append([weights, state.first, state.second])
        assert not weights[0, ::7].any()
    assert_close(*moved)


def test_it_can_be_left_out() -> None:
    """The same layers, with torch's operators alone."""
    code = (
        "from kansearch import compiled; from kansearch.models import EdgeLayer; import torch;"
        "assert compiled.library() is None; print(EdgeLayer(2, 3)(torch.ones(4, 2)).shape)"
    )
    environment = {**os.environ, "KANSEARCH_COMPILED": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([4, 3])\n", done.stderr


@pytest.mark.parametrize("wrong", [b"", b"no library at all"])
def test_a_library_that_cannot_be_loaded_is_left_out(
    wrong: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.so").write_bytes(wrong)
    spec = type("Spec", (), {"origin": str(tmp_path / "broken.so")})
    monkeypatch.setattr(compiled, "find_spec", lambda _: spec)
    assert compiled.library.__wrapped__() is None


@needs_library
def test_a_library_that_was_cut_off_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full, or a copy was interrupted: the system's loader would end the process."""
    whole = Path(str(compiled.path())).read_bytes()
    (tmp_path / "cut.so").write_bytes(whole[: len(whole) // 2])
    spec = type("Spec", (), {"origin": str(tmp_path / "cut.so")})
    monkeypatch.setattr(compiled, "find_spec", lambda _: spec)
    assert compiled.library.__wrapped__() is None


@needs_library
def test_a_library_of_another_version_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "VERSION", compiled.VERSION + 1)
    assert compiled.library.__wrapped__() is None


@needs_library
def test_rows_with_more_axes_are_left_to_torch() -> None:
    """A KAN layer takes them, with the right gradients, as an ordinary layer does."""
    layer = KANLayer(2, 3, "tanh", n_basis=4)
    x = normal(6, 5, 2)
    results_of_both = []
    for inputs in (x, x.flatten(0, 1)):
        outputs = layer(inputs)
        gradients = torch.autograd.grad(outputs.square().sum(), list(layer.parameters()))
        results_of_both.append([outputs.flatten(0, -2), *gradients])
    assert_close(*results_of_both)


@needs_library
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (EdgeLayer(3, 2), torch.ones(5, 2)),
        (EdgeLayer(3, 2), torch.ones(5, 4)),
        (EdgeLayer(3, 2).double(), torch.ones(5, 4)),
        (EdgeLayer(3, 2).to("meta"), torch.ones(5, 3)),
        (KANLayer(3, 2, "tanh", n_basis=4), torch.ones(5, 4)),
        (KANLayer(3, 2, "tanh", n_basis=4).double(), torch.ones(5, 3)),
    ],
)
def test_what_does_not_fit_is_an_error_and_no_garbage(layer: CurveLayer, x: Tensor) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        layer(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_are_refused(dtype: torch.dtype) -> None:
    """Rather than left out without a word."""
    for layer in (EdgeLayer(2, 1, "tanh", dtype=dtype), KANLayer(2, 1, "gaussian", dtype=dtype)):
        x = normal(4, 2).to(dtype).requires_grad_()
        with pytest.raises(RuntimeError, match="first derivatives only; create_graph=True asks for more"):
            torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@needs_library
def test_sin_stays_within_its_bounds_wherever_it_is_asked() -> None:
    layer = EdgeLayer(1, 1, "sin", shift=False)
    with torch.no_grad():
        layer.a.fill_(1)
        layer.c.zero_()
        values = layer(torch.logspace(3, 30, 400).unsqueeze(1))
    assert values.abs().max() <= 1.01
    assert layer(torch.tensor([[torch.nan]])).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows_and_inference_mode(dtype: torch.dtype) -> None:
    layer = EdgeLayer(3, 2, dtype=dtype)
    assert layer(torch.ones(0, 3, dtype=dtype)).shape == (0, 2)
    with torch.inference_mode():
        assert torch.equal(layer(torch.ones(4, 3, dtype=dtype)), layer(torch.ones(4, 3, dtype=dtype)))


@needs_library
@pytest.mark.parametrize("shares", [torch.full((1,), 0.125).expand(8), torch.full((8,), 0.125, dtype=torch.float64)])
def test_shares_of_any_kind_give_the_same_amplitudes(shares: Tensor) -> None:
    """Spread out in memory or not, and of another type by torch's operators."""
    layer = EdgeLayer(3, 2, "tanh", generator=torch.Generator().manual_seed(1))
    x = normal(8, 3)
    wanted = layer.forward_with_amplitudes(x)[1]
    assert torch.allclose(layer.mix_with_amplitudes(x, shares)[1].float(), wanted, rtol=1e-5)
