"""Training: results at rungs, nothing shared between trials, schedules that do what they say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.models.cost import cost
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import End, ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.loop import train
from kansearch.training.metrics import entropy, quality
from kansearch.training.unfreeze import ParameterGroups, unfrozen_groups

from .running import curve


@pytest.fixture(scope="module")
def iris() -> Split:
    return load_split(DataSpec(name="iris"))


@pytest.fixture(scope="module")
def sine() -> Split:
    return load_split(DataSpec(name="multi_sine", n_train=256, n_validation=64, n_test=8))


def trial(seed: int = 0, model: dict[str, Any] | None = None, **training: Any) -> TrialSpec:
    spec = TrainingSpec(**{"epochs": 9, "batch_size": 16, "dtype": "float64", **training})
    return TrialSpec(
        model=ModelSpec(**{"width": 4, **(model or {})}), training=spec, rungs=(1, 3, spec.epochs), seed=seed
    )


def test_a_trial_yields_a_result_at_every_rung_and_an_end_at_the_last(iris: Split) -> None:
    """Rungs come in order, their points are the whole learning curve, costs are there from the first."""
    results = list(train([trial()], iris))
    assert [(r.rung, r.epoch, r.end) for r in results] == [(0, 1, None), (1, 3, None), (2, 9, End.COMPLETED)]
    assert [p.epoch for r in results for p in r.points] == list(range(1, 10))
    closed_form = cost(ModelSpec(width=4), iris.n_inputs, iris.n_outputs)
    for result in results:
        assert result.metrics["parameters"] == closed_form.parameters
        assert result.metrics["flops"] == closed_form.flops
        assert {"accuracy", "cross_entropy", "latency_ms", "train_seconds"} <= set(result.metrics)
    assert results[-1].curves
    assert not results[0].curves


def test_asking_no_further_stops_the_training(iris: Split) -> None:
    """A caller that takes one result pays for one rung."""
    results = train([trial(epochs=100_000)], iris)
    assert next(results).epoch == 1
    results.close()


@pytest.mark.parametrize("family", ["mlp", "kan", "hybrid"])
def test_the_same_seed_gives_the_same_curve_and_another_seed_another(iris: Split, family: str) -> None:
    """Initialisation, batch order and dropout come from the trial's seed alone."""
    model = {"family": family, "dropout": 0.1, "depth": 2}
    torch.manual_seed(1)
    first = curve(list(train([trial(5, model)], iris)))
    torch.manual_seed(2)
    assert curve(list(train([trial(5, model)], iris))) == first
    assert curve(list(train([trial(6, model)], iris))) != first


def test_a_network_learns(sine: Split) -> None:
    """A small KAN explains nearly all of a smooth function; the errors are in the function's own unit."""
    spec = trial(0, {"width": 8}, epochs=60, learning_rate=0.02, dtype="float32")
    *_, last = train([spec], sine)
    assert last.metrics["r2"] > 0.98
    assert last.metrics["mae"] <= last.metrics["rmse"] < 0.2


def test_divergence_is_a_result_with_a_reason(sine: Split) -> None:
    """A learning rate that is far too high ends the trial with what happened, never with an exception."""
    *_, last = train(
        [
            trial(
                0,
                {"family": "mlp"},
                learning_rate=10.0,
                optimizer="adam",
                dtype="float32",
                epochs=400,
                weight_decay=10.0,
                schedule="constant",
            )
        ],
        _huge(sine),
    )
    assert last.end is End.DIVERGED
    assert last.reason is not None
    assert "loss is" in last.reason
    assert all(math.isfinite(value) for value in last.metrics.values())


def _huge(split: Split) -> Split:
    import dataclasses

    return dataclasses.replace(split, train_y=split.train_y * 1e30)


def test_early_stopping_returns_to_the_best_weights(iris: Split) -> None:
    """Training stops when patience is lost, and the result is that of the best epoch."""
    spec = trial(0, {"family": "mlp", "width": 32}, epochs=400, learning_rate=0.1, patience=5, schedule="constant")
    results = list(train([spec], iris))
    losses = [validation for _, validation in curve(results)]
    assert results[-1].end is End.STOPPED_EARLY
    assert len(losses) == losses.index(min(losses)) + 1 + 5
    assert results[-1].metrics["cross_entropy"] == pytest.approx(min(losses))


# --- unfreeze schedules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("none", [{0, 1, 2}] * 10),
        ("all_at", [set()] * 2 + [{0, 1, 2}] * 8),
        ("gradual_forward", [set()] * 2 + [{0}] * 3 + [{0, 1}] * 3 + [{0, 1, 2}] * 2),
        ("gradual_backward", [set()] * 2 + [{2}] * 3 + [{1, 2}] * 3 + [{0, 1, 2}] * 2),
    ],
)
def test_groups_are_freed_at_the_epochs_that_the_schedule_names(schedule: Any, expected: list[set[int]]) -> None:
    """With a start of 0.2 and an interval of 0.3 of 10 epochs, groups are freed at epochs 2, 5 and 8."""
    training = TrainingSpec(epochs=10, unfreeze=schedule, unfreeze_start=0.2, unfreeze_interval=0.3)
    assert [unfrozen_groups(training, epoch, ParameterGroups(3)) for epoch in range(10)] == expected


# --- regularization -------------------------------------------------------------------------------------


def test_l1_shrinks_the_learned_curves(iris: Split) -> None:
    """The same trial with a strong L1 ends with smaller amplitudes."""
    weak, strong = (_amplitude(iris, l1) for l1 in (0.0, 0.1))
    assert strong < 0.5 * weak


def _amplitude(split: Split, l1: float) -> float:
    *_, last = train([trial(0, l1=l1, epochs=30, learning_rate=0.02)], split)
    return sum(curve.amplitude for curve in last.curves)


def test_entropy_of_even_and_single_amplitudes() -> None:
    """N equal amplitudes have entropy log N; one alone has none; zeros are no trouble; padding takes no part."""
    assert float(entropy(torch.ones(2, 4))) == pytest.approx(math.log(8))
    assert float(entropy(torch.tensor([[5.0, 0.0]]))) == pytest.approx(0.0, abs=1e-5)
    padded = entropy(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[True, True, False]]))
    assert float(padded) == pytest.approx(math.log(2))
    zeros = torch.zeros(1, 3, requires_grad=True)
    entropy(zeros).backward()  # type: ignore[no-untyped-call]
    assert zeros.grad is not None
    assert torch.isfinite(zeros.grad).all()


def test_qualities_are_in_the_targets_own_unit(sine: Split) -> None:
    """A perfect prediction has no error; the mean prediction has r2 = 0 and the target's deviation as rmse."""
    perfect = quality(sine.validation_y, sine)
    assert (perfect["rmse"], perfect["mae"], perfect["r2"]) == (0.0, 0.0, 1.0)
    mean = sine.validation_y.mean().expand_as(sine.validation_y)
    assert quality(mean, sine)["r2"] == pytest.approx(0.0, abs=1e-6)
    deviation = float(sine.validation_y.std(correction=0)) * sine.target_scale
    assert quality(mean, sine)["rmse"] == pytest.approx(deviation, rel=1e-5)
