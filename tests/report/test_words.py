"""Sentences and short strings of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kansearch.report.study_text import study_yaml
from kansearch.report.words import (
    CAVEAT,
    constant_row,
    finding,
    format_value,
    front_rows,
    percent,
    short_label,
    verdict,
)
from kansearch.specs.constant import ConstantAnswer
from kansearch.specs.data import DataSpec
from kansearch.specs.space import Choice, Fixed, Range, Space
from kansearch.specs.study_file import load_study_file


def test_finding_names_both_ends_of_the_front(builder: Any) -> None:
    """One sentence holds the cheapest and the best network of the front with their numbers."""
    records = [
        builder.record(0, {"accuracy": 0.8, "parameters": 1200.0}, family="mlp"),
        builder.record(1, {"accuracy": 0.95, "parameters": 9000.0}, family="hybrid"),
    ]
    assert finding(builder.summary(records=records)) == (
        "2 of 2 trials are on the front: from accuracy 0.8000 and 1,200 parameters (a plain network) to "
        "accuracy 0.9500 and 9,000 parameters (a hybrid)."
    )


@pytest.mark.parametrize(
    ("objectives", "bar", "is_better"),
    [
        (["accuracy", "parameters"], {"accuracy": 0.5}, True),
        (["accuracy", "parameters"], {"accuracy": 0.81}, False),
        (["accuracy", "parameters"], {"accuracy": 0.79}, False),  # one of 100 examples
        (["rmse", "parameters"], {"rmse": 0.806}, False),  # less than one percent
        (["rmse", "parameters"], {"rmse": 0.9}, True),
        (["accuracy", "cross_entropy"], {"accuracy": 0.81, "cross_entropy": 2.0}, True),
    ],
)
def test_a_front_that_a_constant_answer_reaches_is_said_to_be_so(
    builder: Any, objectives: list[str], bar: dict[str, float], is_better: bool
) -> None:
    """Its value stands below the front and opens the verdict; where nothing is better, that is what came out."""
    records = [builder.record(0, dict.fromkeys(objectives, 0.8), family="mlp")]
    constant = ConstantAnswer(metrics=bar, n_validation=100)
    summary = builder.summary(builder.study(objectives), records, constant=constant)
    row = constant_row(summary)
    assert row is not None
    assert row[2] == format_value(objectives[0], bar[objectives[0]])
    assert len(row) == len(front_rows(summary)[0])
    known = f"{short_label(objectives[0])} {row[2]}"
    said = verdict(summary)
    assert known in said
    assert (f"A constant answer, the same for every row, has {known}" in said) == is_better
    assert ("The best network is not better than a constant answer" in said) != is_better
    assert ("not better than a constant answer" in finding(summary)) != is_better


def test_without_a_constant_answer_nothing_is_said_of_it(builder: Any) -> None:
    """Studies of older versions do not know it."""
    summary = builder.summary(records=[builder.record(0, {"accuracy": 0.8, "parameters": 1.0}, family="mlp")])
    assert constant_row(summary) is None
    assert "constant" not in verdict(summary) + finding(summary)


def test_shares_are_compared_in_points(builder: Any) -> None:
    """Metrics from 0 to 1 are not said to be better by a percentage of what they are."""
    records = [
        builder.record(0, {"roc_auc": 0.90, "parameters": 1000.0}, family="mlp"),
        builder.record(1, {"roc_auc": 0.95, "parameters": 1000.0}),
        builder.record(2, {"roc_auc": 0.9005, "parameters": 1000.0}, family="hybrid"),
    ]
    said = verdict(builder.summary(builder.study(["roc_auc", "parameters"]), records))
    assert "The best KAN (trial 1, 0.9500) is better by 5.0 points" in said
    assert "The best hybrid (trial 2, 0.9005) is as good: no difference larger than 1%" in said


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        ([], "No trial is complete yet."),
        (
            ["pruned", "pruned", "fail", "running"],
            "No trial is complete yet: 2 were pruned, 1 failed and 1 is running.",
        ),
    ],
)
def test_finding_without_a_complete_trial(builder: Any, states: list[str], sentence: str) -> None:
    """A study without complete trials says what became of them so far."""
    records = [builder.record(i, state=state) for i, state in enumerate(states)]
    assert finding(builder.summary(records=records)) == sentence


def test_finding_when_no_trial_meets_the_constraints(builder: Any) -> None:
    """Complete trials that all break a constraint are not sold as a result."""
    records = [builder.record(i, {"accuracy": 0.8, "parameters": 1.0}, feasible=False) for i in range(2)]
    assert finding(builder.summary(records=records)) == "None of 2 complete trials meets every constraint."


def test_verdict_says_by_how_much(builder: Any) -> None:
    """The verdict holds quality, parameters and hypervolume of each family against the plain networks."""
    records = [
        builder.record(0, {"rmse": 1.0, "parameters": 1000.0}, family="mlp"),
        builder.record(1, {"rmse": 0.6, "parameters": 400.0}),
        builder.record(2, {"rmse": 1.005, "parameters": 2000.0}, family="hybrid"),
    ]
    summary = builder.summary(builder.study(["rmse", "parameters"]), records)
    assert verdict(summary) == (
        "With 27 epochs for each family the best plain network (trial 0) reaches RMSE 1. "
        "The best KAN (trial 1, 0.6) is better by 40%, with 2.5 times fewer parameters. "
        "The best hybrid (trial 2, 1.005) is as good: no difference larger than 1%, with 2.0 times as many parameters. "
        "Over all objectives together the hypervolume is 0.049 for plain networks, 1.000 for KANs and 0.008 for "
        "hybrids."
    )


def test_verdict_without_a_baseline_claims_nothing(builder: Any) -> None:
    """Without plain networks, or before one is complete, no family is called better."""
    value = {"accuracy": 0.9, "parameters": 10.0}
    alone = builder.summary(builder.study(families=["kan"]), [builder.record(0, value)])
    assert "nothing to compare" in verdict(alone)
    none = builder.summary(builder.study(families=["kan", "hybrid"]), [builder.record(0, value)])
    assert "add `mlp` to space.family" in verdict(none)
    early = builder.summary(records=[builder.record(0, value)])
    assert verdict(early) == "No plain network was trained to its end yet, so there is no baseline."


@pytest.mark.parametrize(
    ("name", "plain", "kan", "how"),
    [
        ("rmse", 1.0, 1.5, "worse by 50%"),
        ("rmse", 1.0, 2.772, "worse: 2.8 times the RMSE"),
        ("rmse", 0.001, 1.0, "worse: 1,000 times the RMSE"),
        ("r2", 0.9, 0.6, "worse: 4.0 times the unexplained variance"),
    ],
)
def test_verdict_of_families_that_are_worse(builder: Any, name: str, plain: float, kan: float, how: str) -> None:
    """A KAN that loses is said to lose: by a share of the error, or by a multiple where that is larger."""
    records = [
        builder.record(0, {name: plain, "parameters": 10.0}, family="mlp"),
        builder.record(1, {name: kan, "parameters": 10.0}),
    ]
    text = verdict(builder.summary(builder.study([name], families=["mlp", "kan"]), records))
    assert f"is {how}, with about as many parameters. No KAN is as good as that plain network." in text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (0.0012, "0.12%"), (0.5, "50%"), (0.996, "99.60%"), (1.0, "100%"), (1.772, "177%")],
)
def test_percents_are_whole_unless_that_would_read_nothing_or_all(share: float, text: str) -> None:
    """Beyond 100 too."""
    assert percent(share) == text


def test_caveat_names_seed_and_split() -> None:
    """The report says that one seed was used and that these are validation values."""
    assert "One seed" in CAVEAT
    assert "not test values" in CAVEAT


def test_front_rows_are_short_strings(builder: Any) -> None:
    """Terminal and page show the same rows; parameters stand there even when they are no objective."""
    records = [builder.record(5, {"accuracy": 0.91234}, metrics={"accuracy": 0.91234, "parameters": 12345.0})]
    header, rows = front_rows(builder.summary(builder.study(["accuracy"]), records))
    assert header == ("trial", "family", "accuracy", "parameters", "architecture")
    assert rows == [("5", "KAN", "0.9123", "12,345", "width 16, depth 2, dictionary gaussian K=8")]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 1.0, "1.0000"),
        ("parameters", 1234567.0, "1,234,567"),
        ("rmse", 0.00123456, "0.001235"),
        ("rmse", None, "\N{EN DASH}"),
    ],
)
def test_values_have_the_digits_that_mean_something(name: str, value: float | None, text: str) -> None:
    """Counts are whole, accuracies have four digits, everything else four significant ones."""
    assert format_value(name, value) == text


def test_study_text_declares_the_same_study(builder: Any, tmp_path: Path) -> None:
    """Reading the text as a study file gives the study again, whatever kinds of domain and option it has."""
    space = Space(
        domains={
            "family": Choice(choices=("mlp", "kan")),
            "width": Range(low=4, high=64, integer=True, step=4),
            "n_basis": Choice(choices=(4, 8), when={"base_function": ("gaussian",)}),
            "base_function": Choice(choices=("gaussian", "rbf")),
            "learning_rate": Range(low=0.0012345678, high=0.05, log=True),
            "layer_norm": Fixed(value=True),
            "grid_range": Fixed(value=3.0, when={"n_basis": (8,)}),
        }
    )
    study = builder.study(
        space=space,
        data=DataSpec(name="digits", validation=0.25, seed=7),
        constraints=("parameters <= 1234567", "accuracy >= 0.123456789"),
        search={
            "sampler": {"name": "tpe", "n_startup_trials": 16},
            "pruner": {"name": "pareto", "min_epochs": 3},
            "families": "free",
            "seed": 11,
        },
    )
    path = tmp_path / "study.yaml"
    path.write_text(study_yaml(study), encoding="utf-8")
    assert load_study_file(path) == study
    path.write_text(study_yaml(builder.study()), encoding="utf-8")
    assert load_study_file(path) == builder.study()
