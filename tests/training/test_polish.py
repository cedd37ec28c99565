"""L-BFGS and Levenberg-Marquardt at the end of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kansearch.data.splits import Split, load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.gauss_newton import gauss_newton
from kansearch.training.loop import train
from kansearch.training.pack import Pack
from kansearch.training.polish import PolishState, polish

from .running import assert_company_changes_nothing, curve

Function = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def sine() -> Split:
    return load_split(DataSpec(name="multi_sine", n_train=200, n_validation=64, n_test=8))


@pytest.fixture(scope="module")
def few(sine: Split) -> Split:
    return sine.head(50)


def rosenbrock(x: Tensor) -> Tensor:
    """Of each row: a curved valley, whose floor falls to (1, 1, ...)."""
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(-1)


def minimized(function: Function, start: Tensor, n_steps: int, free: Tensor | None = None) -> Tensor:
    weights = start.clone()
    fresh = [PolishState.fresh(start.shape[1], start.dtype, start.device) for _ in start]
    state = PolishState(
        *(torch.cat([getattr(s, name) for s in fresh]) for name in ("steps", "changes", "counts", "damping"))
    )

    def evaluate() -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = weights.clone().requires_grad_()
            values = function(x)
            return values.detach(), torch.autograd.grad(values.sum(), x)[0]

    before = function(weights)
    for _ in range(n_steps):
        reached = polish(weights, torch.ones_like(start) if free is None else free, state, evaluate)
        assert (reached <= before).all()
        assert torch.allclose(reached, function(weights))
        before = reached
    return weights


STARTS = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, -2.0, 0.0, 0.1], [0.9, 1.1, 0.8, 1.2]], dtype=torch.float64)


def test_a_curved_valley_is_followed_to_its_end() -> None:
    """From every start, each row for itself and to the bit as if it were alone; never uphill."""
    together = minimized(rosenbrock, STARTS, 80)
    assert torch.allclose(together, torch.ones_like(together), atol=1e-6)
    for row, start in enumerate(STARTS):
        assert torch.equal(minimized(rosenbrock, start.unsqueeze(0), 80)[0], together[row])


def test_what_is_not_free_does_not_move() -> None:
    """The rest goes to its minimum all the same."""
    free = torch.ones_like(STARTS)
    free[:, 0] = 0
    ends = minimized(lambda x: (x - 3).square().sum(-1), STARTS, 5, free)
    assert torch.equal(ends[:, 0], STARTS[:, 0])
    assert torch.allclose(ends[:, 1:], torch.tensor(3.0).double())


def test_no_number_leaves_the_weights_alone() -> None:
    """A row without a finite objective stays, and its neighbour goes on."""
    start = torch.tensor([[2.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    state = PolishState(*(torch.cat([t, t]) for t in _rows_of(PolishState.fresh(2, torch.float64, start.device))))
    weights = start.clone()

    def evaluate() -> tuple[Tensor, Tensor]:
        values, gradients = weights.square().sum(-1), 2 * weights
        return values.where(torch.tensor([False, True]), torch.nan), gradients

    polish(weights, torch.ones_like(start), state, evaluate)
    assert torch.equal(weights[0], start[0])
    assert weights[1].square().sum() < 2


def _rows_of(state: PolishState) -> tuple[Tensor, ...]:
    return state.steps, state.changes, state.counts, state.damping


LM = "levenberg_marquardt"


def spec(seed: int = 0, model: dict[str, Any] | None = None, **training: Any) -> TrialSpec:
    given = {"epochs": 12, "batch_size": 20, "polish": 0.5, "dtype": "float64", "learning_rate": 0.02, **training}
    return TrialSpec(
        model=ModelSpec(**{"width": 4, **(model or {})}), training=TrainingSpec(**given), rungs=(2, 8, 12), seed=seed
    )


SPECS = [
    spec(0),
    spec(1, {"width": 3}, polish=0.3),
    spec(2, {"base_function": "tanh"}, l1=0.01),
    spec(3, {"layer": "edge", "base_function": "sin"}, entropy=0.01, polish=1.0),
    spec(4, {"family": "mlp", "dropout": 0.3}, weight_decay=0.1),
    spec(5, {"family": "mlp", "dropout": 0.1}, polish=0.0),
    spec(6, {"base_function": "b_spline"}, unfreeze="all_at", unfreeze_start=0.75),
    spec(7, {"family": "hybrid", "layer_norm": True}, patience=3),
    spec(8, dtype="float32"),
    spec(9, {"width": 6}, dtype="float32", polish=0.3),
    *(spec(seed, {"width": 3 + seed % 2}, polisher=LM) for seed in range(10, 13)),
    spec(13, {"base_function": "tanh"}, polisher=LM, polish=0.3),
    spec(14, {"layer": "edge", "base_function": "sin"}, polisher=LM),
    spec(15, {"family": "mlp", "activation": "tanh", "layer_norm": True}, polisher=LM),
    spec(16, {"base_function": "b_spline"}, polisher=LM, unfreeze="all_at", unfreeze_start=0.75),
    spec(17, {"layer": "edge", "base_function": "tanh"}, polisher=LM, dtype="float32", patience=3),
    spec(18, polisher=LM, l1=0.01),
]


def test_a_polished_trial_has_the_curve_that_it_has_alone(few: Split) -> None:
    """To the last bit, beside trials that polish earlier, later or never."""
    assert_company_changes_nothing(SPECS, few, 12)


@pytest.mark.parametrize("one", SPECS, ids=lambda one: str(one.seed))
def test_it_goes_on_from_its_checkpoint_as_if_it_had_stayed(one: TrialSpec, few: Split) -> None:
    """In the middle of its polish too."""
    pack = Pack(few, latency_at_rungs=False)
    slot = pack.admit(one)
    (result,) = pack.advance()
    while result.end is None:
        state = pack.checkpoint(slot)
        (result,) = pack.advance()
        after = Pack(few, latency_at_rungs=False)
        after.admit(one, state)
        assert curve(after.advance()) == curve([result])


def test_polish_finds_lower_errors(sine: Split) -> None:
    """On the training rows, with the same epochs, of a KAN and of a plain network, from three seeds each."""
    for model in ({"n_basis": 8}, {"family": "mlp", "width": 12, "activation": "tanh"}):
        errors = {}
        for share in (0.0, 0.5):
            specs = [spec(seed, model, polish=share, epochs=60) for seed in range(3)]
            specs = [one.model_copy(update={"rungs": (60,)}) for one in specs]
            errors[share] = sorted(result.points[-1].train_loss for result in train(specs, sine))
        assert errors[0.5][1] < 0.8 * errors[0.0][1]


def test_training_rows_in_pieces_are_one_objective(sine: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they do not fit into memory at once."""
    whole = curve(list(train([spec(0)], sine)))
    monkeypatch.setattr("kansearch.training.group.EVALUATION_NUMBERS", 2000)
    pieces = curve(list(train([spec(0)], sine)))
    assert torch.allclose(torch.tensor(pieces), torch.tensor(whole), rtol=1e-6)


def test_least_squares_are_solved_at_once(sine: Split) -> None:
    """A network that is linear in its parameters: no other weights are better."""
    model = {"depth": 1, "base_function": "chebyshev", "n_basis": 6, "base_branch": "identity"}
    one = spec(0, model, polisher=LM, polish=1.0, epochs=25).model_copy(update={"rungs": (25,)})
    pack = Pack(sine)
    pack.admit(one)
    reached = pack.advance()[0].points[-1].train_loss
    given = sine.to(torch.float64)
    layer = pack.network(0).layers[0]
    features = torch.cat([layer.features(given.train_x), torch.ones(len(given.train_x), 1).double()], dim=1)
    best = torch.linalg.lstsq(features, given.train_y, driver="gelsd").solution
    assert reached == pytest.approx((features @ best - given.train_y).square().mean().item(), rel=1e-6)


def test_levenberg_marquardt_is_the_most_precise(sine: Split) -> None:
    """From the same start, with as many steps."""
    errors = {}
    for polisher in ("lbfgs", LM):
        specs = [spec(seed, {"n_basis": 8}, polisher=polisher, epochs=60) for seed in range(3)]
        specs = [one.model_copy(update={"rungs": (60,)}) for one in specs]
        errors[polisher] = sorted(result.points[-1].train_loss for result in train(specs, sine))
    assert errors[LM][1] < 0.1 * errors["lbfgs"][1]


def test_where_it_does_not_serve_it_is_lbfgs(sine: Split) -> None:
    """With penalties, for classes, and in large networks."""
    iris = load_split(DataSpec(name="iris"))
    for split, changes in ((sine, {"l1": 0.01}), (iris, {}), (sine, {"model": {"width": 64}})):
        model = changes.pop("model", None)
        curves = [curve(list(train([spec(0, model, polisher=name, **changes)], split))) for name in ("lbfgs", LM)]
        assert curves[0] == curves[1]


@pytest.mark.parametrize("at_once", [1, 40_000])
def test_derivatives_in_pieces_give_the_same_equations(
    at_once: int, sine: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they do not fit into memory at once."""
    whole = curve(list(train([spec(0, polisher=LM)], sine)))
    monkeypatch.setattr("kansearch.training.gauss_newton.NUMBERS_AT_ONCE", at_once)
    pieces = curve(list(train([spec(0, polisher=LM)], sine)))
    assert torch.allclose(torch.tensor(pieces), torch.tensor(whole), rtol=1e-6)


def test_a_step_that_lowers_nothing_is_not_taken() -> None:
    """Nor one whose equations are no numbers; and what is not free stays."""
    weights = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    start, damping = weights.clone(), torch.full((3,), 0.01, dtype=torch.float64)
    target = torch.tensor([[5.0, 5.0], [5.0, 5.0], [3.0, 4.0]], dtype=torch.float64)

    def equations() -> Tensor:
        errors = weights - target
        whole = torch.zeros(3, 3, 3, dtype=torch.float64)
        whole[:, 0, 0] = whole[:, 1, 1] = 1
        whole[:, :2, 2] = whole[:, 2, :2] = errors
        whole[1, 0, 0] = torch.nan
        return whole

    free = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    before = (weights - target).square().sum(-1)
    reached = gauss_newton(weights, free, damping, equations, lambda: (weights - target).square().sum(-1))
    assert weights[0, 0] == pytest.approx(5, abs=0.1)
    assert weights[0, 1] == start[0, 1]
    assert torch.equal(weights[1:], start[1:])
    assert torch.equal(reached, (weights - target).square().sum(-1))
    assert reached[0] < before[0]
    assert damping[0] < 0.01 < damping[1]
