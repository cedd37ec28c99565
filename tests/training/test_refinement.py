"""Training with grids that follow the data and become finer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.models.build import build
from kansearch.models.kan import KANLayer
from kansearch.models.stack import Stack
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import End, ModelSpec, RungResult, TrainingSpec, TrialSpec
from kansearch.training.pack import Pack
from kansearch.training.program import Program
from kansearch.training.refinement import is_fitted_before, model_during
from kansearch.training.trainee import Trainee

from .running import assert_company_changes_nothing, curve, results_of

EPOCHS = 12


@pytest.fixture(scope="module")
def sine() -> Split:
    return load_split(DataSpec(name="multi_sine", n_train=60, n_validation=40, n_test=8))


def trial(seed: int = 0, model: dict[str, Any] | None = None, **training: Any) -> TrialSpec:
    given = {"base_function": "b_spline", "n_basis": 11, "width": 4, **(model or {})}
    spec = TrainingSpec(**{"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.02, **training})
    return TrialSpec(model=ModelSpec(**given), training=spec, rungs=(3, 6, spec.epochs), seed=seed)


MIXED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"grid": "fitted"}, {"grid_updates": 3}),
    ({"grid": "fitted", "width": 7}, {"grid_updates": 2, "weight_decay": 0.1}),
    ({}, {"refinements": 2}),
    ({"grid": "fitted"}, {"refinements": 3, "grid_updates": 6, "l1": 0.001}),
    ({"grid": "fitted", "base_function": "rbf", "n_basis": 8, "depth": 3}, {"refinements": 2, "patience": 5}),
    ({"base_function": "fourier", "n_basis": 8}, {"refinements": 1, "unfreeze": "all_at"}),
    ({"grid": "fitted"}, {"refinements": 1, "polish": 0.7}),
    ({"grid": "fitted"}, {"polish": 0.5, "polisher": "levenberg_marquardt"}),
]


def test_a_trial_has_the_curve_that_it_has_alone(sine: Split) -> None:
    """To the last bit, whoever's grids change beside it; in both precisions."""
    specs = [
        trial(seed, model, **training, dtype=dtype)
        for seed, (model, training) in enumerate(MIXED)
        for dtype in ("float32", "float64")
    ]
    assert_company_changes_nothing(specs, sine, EPOCHS)


@pytest.mark.parametrize("place", range(1, len(MIXED)))
def test_a_trial_goes_on_from_its_checkpoint(place: int, sine: Split) -> None:
    """At any epoch, that of a refinement included."""
    model, training = MIXED[place]
    spec = trial(3, model, **training).model_copy(update={"rungs": tuple(range(1, EPOCHS + 1))})
    pack = Pack(sine)
    slot = pack.admit(spec)
    whole: list[RungResult] = []
    states = []
    while not (whole and whole[-1].end):
        whole += pack.advance()
        states.append(pack.checkpoint(slot))
    for epoch in (1, 2, 3, 4, 6, 8):
        other = Pack(sine)
        other.admit(spec, states[epoch - 1])
        rest = other.advance() + other.advance()
        assert curve(rest) == curve(whole)[epoch : epoch + 2], epoch


def test_grids_are_as_fine_as_the_schedule_says(sine: Split) -> None:
    """1, 2, 4 and 8 intervals, each for a quarter of the epochs; the cost is that of the last."""
    spec = trial(0, refinements=3).model_copy(update={"rungs": tuple(range(1, EPOCHS + 1))})
    pack = Pack(sine)
    slot = pack.admit(spec)
    sizes = []
    for epoch in range(EPOCHS):
        (result,) = pack.advance()
        build(model_during(spec.model, spec.training, epoch), 1, 1).load_state_dict(pack.network(slot).state_dict())
        layer = pack.network(slot).layers[0]
        assert isinstance(layer, KANLayer)
        sizes.append(layer.W.shape[-1])
        assert result.metrics["parameters"] == 4 * 11 + 4 * 11 + 4 + 4 + 4 + 1
    assert sizes == [4] * 3 + [5] * 3 + [7] * 3 + [11] * 3


def test_a_refinement_hardly_changes_the_loss(sine: Split) -> None:
    """The finer network goes on where the coarser one was: nothing is learned anew."""
    quiet = {"epochs": 40, "schedule": "constant", "learning_rate": 0.01}
    (results,) = results_of([trial(1, {"n_basis": 11}, refinements=1, **quiet)], sine)
    losses = [validation for _, validation in curve(results)]
    assert losses[20] < 1.2 * losses[19]
    assert losses[20] < 0.5 * losses[0]


def test_a_fitted_grid_follows_inputs_that_leave_the_fixed_one() -> None:
    """Hidden rows of a network with large weights: the fixed grid sees the middle of them only."""
    split = load_split(DataSpec(name="feynman_i_12_11", n_train=400, n_validation=100, n_test=8))
    errors = []
    for model in ({}, {"grid": "fitted"}):
        spec = trial(2, {"grid_range": 0.5, "base_branch": "none", **model}, epochs=30)
        errors.append(results_of([spec], split)[0][-1].metrics["rmse"])
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("n_updates", [0, 1, 5, 50])
def test_grids_are_fitted_first_and_in_the_first_half(n_updates: int) -> None:
    """Before the first epoch, and as often as is said, unless there are not so many epochs."""
    model, training = ModelSpec(base_function="rbf", grid="fitted"), TrainingSpec(epochs=30, grid_updates=n_updates)
    epochs = [epoch for epoch in range(30) if is_fitted_before(model, training, epoch)]
    assert epochs[0] == 0
    assert max(epochs) == (15 if n_updates else 0)
    assert len(epochs) == min(n_updates + 1, 16)


@pytest.mark.parametrize("n_basis", [2, 3, 4, 5, 8, 11, 64])
@pytest.mark.parametrize("base_function", ["b_spline", "rbf", "gaussian"])
def test_grids_never_become_coarser(base_function: Any, n_basis: int) -> None:
    """Whatever the numbers are, they rise to what was asked for; atoms, whose places are learned, are left alone."""
    model = ModelSpec(base_function=base_function, n_basis=n_basis)
    training = TrainingSpec(epochs=7, refinements=5)
    sizes = [model_during(model, training, epoch).n_basis for epoch in range(7)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == n_basis
    assert sizes[0] >= 2 or n_basis < 2
    assert base_function != "gaussian" or set(sizes) == {n_basis}


def test_weights_of_a_finer_network_are_the_best_ones_of_its_own(sine: Split) -> None:
    """Patience begins anew with a refinement: what is judged has the grid that was asked for."""
    spec = trial(0, {"n_basis": 11}, refinements=1, patience=4, epochs=30, learning_rate=0.05)
    pack = Pack(sine)
    slot = pack.admit(spec.model_copy(update={"rungs": (30,)}))
    (result,) = pack.advance()
    network = pack.network(slot)
    layer = network.layers[0]
    assert isinstance(layer, KANLayer)
    assert layer.W.shape[-1] == 11
    assert result.epoch > 15
    finest = curve([result])[15:]
    error = torch.nn.functional.mse_loss(network(sine.validation_x), sine.validation_y)
    assert float(error.detach()) == pytest.approx(min(validation for _, validation in finest), rel=1e-5)


def test_a_trial_that_memory_cannot_refine_is_over_and_others_go_on(
    sine: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it fails while its grids are fitted, or where the finer network goes on."""
    finer, plain = trial(1, refinements=1), trial(2)
    (alone,) = results_of([plain], sine)

    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    fit = Trainee.fit_grids

    def break_later(self: Trainee, x: torch.Tensor, **how: Any) -> None:
        fit(self, x, **how)
        monkeypatch.setattr(Stack, "embed", fail)
        monkeypatch.setattr(Program, "__init__", fail)

    for broken in (fail, break_later):
        with monkeypatch.context() as patch:
            patch.setattr(Trainee, "fit_grids", broken)
            results = results_of([finer, plain], sine)
        monkeypatch.undo()
        assert [r.end for r in results[0]] == [None, None, End.OUT_OF_MEMORY][-len(results[0]) :]
        assert results[0][-1].epoch == 6
        assert curve(results[1]) == curve(alone)
