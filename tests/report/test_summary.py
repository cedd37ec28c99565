"""Records to numbers: the front, the comparison at equal budget, the course of a study, its cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kansearch.pareto import as_losses, dominance, hypervolume
from kansearch.report.progress import REFERENCE, GrowingFront, objectives_of
from kansearch.report.summary import MAX_CURVES, MAX_POINTS
from kansearch.specs.trial import End, EpochPoint, TrialRecord

vectors = st.lists(
    st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.integers(1, 9).map(lambda n: float(n * 100))),
    max_size=25,
)
states = st.lists(st.sampled_from(["complete", "pruned", "fail", "running", "waiting"]), max_size=25)


def trials(builder: Any, values: list[tuple[float, float]]) -> list[TrialRecord]:
    names = ("accuracy", "parameters")
    return [builder.record(i, dict(zip(names, pair, strict=True))) for i, pair in enumerate(values)]


# --- front ------------------------------------------------------------------------------------------


@given(vectors)
@settings(max_examples=50, deadline=None)
def test_front_is_what_brute_force_finds(builder: Any, values: list[tuple[float, float]]) -> None:
    """A complete trial is on the front exactly if no other one dominates it."""
    summary = builder.summary(records=trials(builder, values))
    losses = as_losses(np.reshape(values, (-1, 2)), [True, False])
    expected = set(np.flatnonzero(~dominance(losses).any(axis=0)))
    assert {member.trial for member in summary.front} == expected


@given(vectors, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_front_ignores_order_and_duplicates(builder: Any, values: list[tuple[float, float]], random: Any) -> None:
    """The order in which records are read changes nothing; repeated results add no new vectors."""
    records = trials(builder, values)
    shuffled = records.copy()
    random.shuffle(shuffled)
    once = builder.summary(records=records)
    assert builder.summary(records=shuffled) == once
    twice = builder.summary(records=trials(builder, values + values))
    assert {tuple(m.values.values()) for m in twice.front} == {tuple(m.values.values()) for m in once.front}
    assert twice.hypervolume == once.hypervolume


def test_front_begins_with_the_cheapest(builder: Any) -> None:
    """The front is ordered by the first cost."""
    summary = builder.summary()
    costs = [member.values["parameters"] for member in summary.front]
    assert len(costs) > 2
    assert costs == sorted(costs)


def test_front_of_one_objective_is_the_best(builder: Any) -> None:
    """With one objective the front holds the best value only, also where several trials reach it."""
    records = [builder.record(i, {"accuracy": value}) for i, value in enumerate((0.7, 0.9, 0.9, 0.8))]
    summary = builder.summary(builder.study(["accuracy"]), records)
    assert [member.trial for member in summary.front] == [1, 2]


def test_infeasible_trials_are_not_on_the_front(builder: Any) -> None:
    """A trial that breaks a constraint is neither on the front nor the best of its family."""
    good = {"accuracy": 0.9, "parameters": 100.0}
    better = {"accuracy": 0.99, "parameters": 50.0}
    summary = builder.summary(records=[builder.record(0, good), builder.record(1, better, feasible=False)])
    assert [member.trial for member in summary.front] == [0]
    assert summary.best_kan.trial == 0
    assert summary.objectives[0].best == 0.9


# --- hypervolume ------------------------------------------------------------------------------------


@given(vectors)
@settings(max_examples=50, deadline=None)
def test_history_never_falls(builder: Any, values: list[tuple[float, float]]) -> None:
    """Neither the hypervolume nor the best value nor the epochs spent ever get less, and it ends where the front is."""
    summary = builder.summary(records=trials(builder, values))
    for name in ("hypervolume", "best", "epochs"):
        course = [getattr(point, name) for point in summary.history]
        assert course == sorted(course)
    assert all(0 <= point.hypervolume <= 1 for point in summary.history)
    if values:
        assert summary.history[-1].hypervolume == pytest.approx(summary.hypervolume)


@given(st.lists(st.lists(st.floats(0, 1.05), min_size=3, max_size=3), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_volume_of_three_objectives_is_close_to_the_exact_one(points: list[list[float]]) -> None:
    """The volume measured by points is within 0.001 of the one computed by slices."""
    front = GrowingFront(3)
    for point in points:
        front.add(point)
    exact = hypervolume(np.asarray(points), [REFERENCE] * 3) / REFERENCE**3
    assert front.volume == pytest.approx(exact, abs=0.001)


def test_one_trial_that_is_best_in_everything_has_the_whole_volume(builder: Any) -> None:
    """A hypervolume of 1 means that one trial is best in every objective."""
    records = trials(builder, [(0.5, 900.0), (0.9, 100.0), (0.7, 300.0)])
    assert builder.summary(records=records).hypervolume == pytest.approx(1.0)


def test_costs_and_wide_errors_lie_on_logarithmic_axes(builder: Any) -> None:
    """Costs are measured by their logarithm, errors only where they span more than a factor of ten."""
    narrow = [builder.record(i, {"rmse": v, "mae": w, "parameters": 9.0}) for i, (v, w) in enumerate([(1, 1), (9, 90)])]
    axes = objectives_of(["rmse", "mae", "parameters"], narrow)
    assert [axis.logarithmic for axis in axes] == [False, True, True]
    assert axes[1].unit(9.0) == pytest.approx(np.log(9) / np.log(90))


# --- comparison -------------------------------------------------------------------------------------


def test_families_are_compared_on_equal_epochs(builder: Any) -> None:
    """Trials of a family beyond the epochs of the poorest family do not count, however good they are."""
    value = {"accuracy": 0.8, "parameters": 100.0}
    star = {"accuracy": 0.99, "parameters": 10.0}
    records = [
        builder.record(0, value, family="mlp"),
        builder.record(1, value, family="kan"),
        builder.record(2, star, family="kan"),
    ]
    summary = builder.summary(builder.study(families=["mlp", "kan"]), records)
    kan = summary.comparison.of("kan")
    assert summary.comparison.fair_epochs == 27
    assert summary.comparison.left_out == 1
    assert (kan.best.trial, kan.compared_trials, kan.trials) == (1, 1, 2)
    assert summary.best_kan.trial == 2


def test_failed_trials_use_no_family_budget(builder: Any) -> None:
    """A trial whose worker died is tried again, so its epochs count as spent but not against its family."""
    value = {"accuracy": 0.8, "parameters": 100.0}
    records = [
        builder.record(0, family="kan", state="fail", epochs=20),
        builder.record(1, value, family="kan"),
        builder.record(2, value, family="mlp"),
    ]
    summary = builder.summary(records=records)
    assert summary.epochs_spent == 74
    assert summary.comparison.of("kan").epochs == 27


def test_one_validation_example_is_no_difference(builder: Any) -> None:
    """Accuracies that differ by the smallest step that the study measured count as equal; two steps do not."""
    rows = 200
    noise = [builder.record(i, state="pruned", metrics={"accuracy": (100 + i) / rows}) for i in range(12)]
    best = {"mlp": 190, "kan": 191, "hybrid": 192}
    records = noise + [
        builder.record(20 + i, {"accuracy": right / rows, "parameters": 50.0}, family=family)
        for i, (family, right) in enumerate(best.items())
    ]
    comparison = builder.summary(records=records).comparison
    assert comparison.of("kan").against.equal
    assert comparison.of("kan").against.examples == 1
    assert not comparison.of("hybrid").against.equal
    assert comparison.of("hybrid").against.examples == 2


def test_smallest_match_has_the_fewest_parameters_of_equals(builder: Any) -> None:
    """The smallest KAN that is as good as the best plain network is found beside the best KAN."""
    records = [
        builder.record(0, {"rmse": 1.0, "parameters": 1000.0}, family="mlp"),
        builder.record(1, {"rmse": 0.5, "parameters": 5000.0}),
        builder.record(2, {"rmse": 0.9, "parameters": 250.0}),
        builder.record(3, {"rmse": 1.2, "parameters": 10.0}),
        builder.record(4, {"rmse": 1.2, "parameters": 10.0}, family="mlp", epochs=81),
    ]
    against = builder.summary(builder.study(["rmse", "parameters"]), records).comparison.of("kan").against
    assert against.relative_gain == pytest.approx(0.5)
    assert against.parameter_ratio == pytest.approx(0.2)
    assert (against.smallest_match.trial, against.match_ratio) == (2, 4.0)


# --- the rest ---------------------------------------------------------------------------------------


@given(states)
@settings(max_examples=50, deadline=None)
def test_counts_add_up(builder: Any, drawn: list[str]) -> None:
    """Every trial is counted in one state, every state is named, and every early end has a reason."""
    value = {"accuracy": 0.5, "parameters": 10.0}
    records = [builder.record(i, value if s == "complete" else None, state=s) for i, s in enumerate(drawn)]
    summary = builder.summary(records=records)
    assert sum(summary.counts.values()) == len(drawn)
    assert set(summary.counts) == {"complete", "pruned", "fail", "running", "waiting"}
    ended = [number for end in summary.ends for number in end.trials]
    assert sorted(ended) == [i for i, state in enumerate(drawn) if state in ("pruned", "fail")]
    assert set(summary.failures) == {i for i, state in enumerate(drawn) if state == "fail"}


def test_unpruned_cost_counts_pruned_trials_in_full(builder: Any) -> None:
    """Only pruning saves epochs: a trial that diverged or stopped by itself would have ended all the same."""
    value = {"accuracy": 0.5, "parameters": 10.0}
    records = [
        builder.record(0, value, epochs=12, reason="stopped early"),
        builder.record(1, state="pruned", epochs=3, reason="pruned at epoch 3"),
        builder.record(2, state="pruned", epochs=2, reason="diverged: the loss is nan", end=End.DIVERGED),
        builder.record(3, state="pruned", epochs=1, reason="rmse is no finite number", end=End.DIVERGED),
        builder.record(4, state="fail", epochs=5, reason="its worker died"),
    ]
    summary = builder.summary(records=records)
    assert summary.epochs_spent == 23
    assert summary.epochs_unpruned == 47


def test_learning_curves_are_thinned_but_never_the_front(builder: Any) -> None:
    """A large study keeps a readable number of curves, of limited length, and those of the front among them."""
    points = tuple(EpochPoint(epoch=i + 1, train_loss=1.0, validation_loss=1.0) for i in range(200))
    records = [
        builder.record(i, {"accuracy": 0.9 if i == 7 else 0.5, "parameters": 10.0}, points=points) for i in range(400)
    ]
    summary = builder.summary(records=records)
    assert summary.n_curves == 400
    assert len(summary.learning_curves) <= MAX_CURVES
    assert [curve.trial for curve in summary.learning_curves if curve.on_front] == [7]
    epochs = summary.learning_curves[0].epochs
    assert (epochs[0], epochs[-1]) == (1, 200)
    assert len(epochs) <= MAX_POINTS


def test_activations_come_from_the_front_where_it_has_some(builder: Any) -> None:
    """The most accurate front member with curves is shown; without one the best other, and the summary says so."""
    curves = builder.curves(2, 4, 0)
    records = [
        builder.record(0, {"accuracy": 0.9, "parameters": 100.0}, family="mlp"),
        builder.record(1, {"accuracy": 0.8, "parameters": 200.0}, curves=curves),
        builder.record(2, {"accuracy": 0.85, "parameters": 200.0}, curves=curves),
    ]
    off = builder.summary(records=records).activations
    assert (off.network.trial, off.on_front) == (2, False)
    records.append(builder.record(3, {"accuracy": 0.7, "parameters": 50.0}, curves=curves))
    on = builder.summary(records=records).activations
    assert (on.network.trial, on.on_front) == (3, True)
    assert [curve.layer for curve in on.curves] == sorted(curve.layer for curve in on.curves)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"family": "mlp", "width": 32, "depth": 3}, "width 32, depth 3, relu"),
        ({"family": "kan", "width": 12, "n_basis": 4}, "width 12, depth 2, dictionary gaussian K=4"),
        ({"family": "kan", "depth": 1}, "depth 1 (no hidden row), dictionary gaussian K=8"),
        ({"family": "kan", "layer": "edge", "base_function": "sin"}, "width 16, depth 2, edge sin"),
        (
            {"family": "hybrid", "dropout": 0.125, "layer_norm": True},
            "width 16, depth 2, dictionary gaussian K=8, KAN layers: last, relu, layer norm, dropout 0.12",
        ),
    ],
)
def test_architecture_is_described_in_one_line(builder: Any, params: dict[str, Any], text: str) -> None:
    """What was not suggested is the study's fixed value or the default, and what means nothing is left out."""
    record = builder.record(0, {"accuracy": 0.5, "parameters": 10.0}, family=params["family"], params=params)
    (member,) = builder.summary(records=[record]).front
    assert member.architecture == text
