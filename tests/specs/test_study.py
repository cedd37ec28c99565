"""Studies: rungs, objectives, constraints and what differs between two of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kansearch.specs.data import BUNDLED_SETS, FUNCTIONS, DataSpec
from kansearch.specs.metrics import METRICS, Direction, Task
from kansearch.specs.study import Constraint, StudySpec, rung_epochs


def study(**fields: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "data": "digits", "space": {"domains": {}}, **fields})


@pytest.mark.parametrize(
    ("first", "last", "factor", "rungs"),
    [
        (3, 100, 3, (3, 9, 27, 81, 100)),
        (1, 27, 3, (1, 3, 9, 27)),
        (1, 1, 2, (1,)),
        (5, 5, 3, (5,)),
        (4, 5, 10, (4, 5)),
    ],
)
def test_rungs_grow_by_the_factor(first: int, last: int, factor: int, rungs: tuple[int, ...]) -> None:
    """The last epoch is always a rung, and only once."""
    assert rung_epochs(first, last, factor) == rungs


@given(first=st.integers(1, 1000), more=st.integers(0, 100_000), factor=st.integers(2, 100))
def test_rungs_rise_to_the_last_epoch(first: int, more: int, factor: int) -> None:
    """Rungs rise, each is the factor times the one before, but for the last."""
    rungs = rung_epochs(first, first + more, factor)
    assert rungs[0] == first
    assert rungs[-1] == first + more
    for before, after in pairwise(rungs):
        assert before < after
        assert after == min(factor * before, first + more)


@pytest.mark.parametrize(
    ("first", "factor", "message"),
    [(0, 3, "min_epochs is 0; must be at least 1"), (1, 1, "reduction_factor is 1; must be at least 2")],
)
def test_impossible_rungs_are_refused(first: int, factor: int, message: str) -> None:
    """The message holds the value."""
    with pytest.raises(ValueError, match=message):
        rung_epochs(first, 10, factor)


def test_a_study_knows_its_rungs() -> None:
    """From the pruner's first rung to the budget's last epoch."""
    spec = study(budget={"epochs": 20}, search={"pruner": {"min_epochs": 2, "reduction_factor": 4}})
    assert spec.rungs == (2, 8, 20)


@pytest.mark.parametrize(
    ("name", "objectives"),
    [("digits", ("accuracy", "parameters")), ("multi_sine", ("rmse", "parameters"))],
)
def test_objectives_follow_the_task(name: str, objectives: tuple[str, ...]) -> None:
    """Left out, they are the task's usual quality and the number of parameters."""
    spec = study(data=name)
    assert spec.objectives == objectives
    assert spec.metrics == tuple(METRICS[objective] for objective in objectives)
    assert spec.directions[1] is Direction.MINIMIZE


def test_every_named_dataset_has_its_task() -> None:
    """Bundled sets have the task of the table, formulas are regression, a file has what the study says."""
    for name, task in BUNDLED_SETS.items():
        assert DataSpec(name=name).resolved_task is task
        assert not DataSpec(name=name).is_function
    for name in FUNCTIONS:
        assert DataSpec(name=name).resolved_task is Task.REGRESSION
        assert DataSpec(name=name).is_function
    table = DataSpec.model_validate({"path": "a.csv", "target": "y", "task": "classification"})
    assert table.resolved_task is Task.CLASSIFICATION
    assert not table.is_function


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("parameters <= 1000", 1200, 200),
        ("parameters<=1_000", 800, -200),
        ("accuracy >= 0.9", 0.8, 0.1),
        ("accuracy >= 9e-1", 0.9, 0),
        ("rmse <= -1", 0, 1),
    ],
)
def test_a_constraint_measures_how_far_it_is_missed(text: str, value: float, violation: float) -> None:
    """Above 0 on the wrong side of the bound, on either side; its text can be read again."""
    constraint = Constraint.model_validate(text)
    assert constraint.violation(value) == pytest.approx(violation)
    assert Constraint.model_validate(str(constraint)) == constraint


def test_equal_studies_do_not_differ() -> None:
    """And the number of trials, which may grow later, is no difference."""
    assert study().differences(study()) == ()
    assert study().differences(study(budget={"trials": 7, "failures": 3})) == ()


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"budget": {"epochs": 9}}, ("budget.epochs", 27, 9)),
        ({"objectives": ["accuracy"]}, ("objectives", ["accuracy", "parameters"], ["accuracy"])),
        ({"search": {"sampler": "random"}}, ("search.sampler.name", "tpe", "random")),
        ({"data": {"name": "digits", "seed": 1}}, ("data.seed", 0, 1)),
        ({"name": "t"}, ("name", "s", "t")),
    ],
)
def test_a_difference_is_told_with_both_values(fields: dict[str, Any], difference: tuple[str, object, object]) -> None:
    """By its path in the study file, here and there."""
    assert study().differences(study(**fields)) == (difference,)


def test_differences_of_spaces_are_told_by_hyperparameter() -> None:
    """A domain that one side lacks is there None; a changed list is shown whole."""
    kinds = {"width": {"kind": "choice", "choices": (4, 8)}, "depth": {"kind": "fixed", "value": 2}}
    here, there = (
        study(space={"domains": kinds}),
        study(space={"domains": {"width": {"kind": "choice", "choices": (4,)}}}),
    )
    assert here.differences(there) == (
        ("space.width.choices", [4, 8], [4]),
        ("space.depth.kind", "fixed", None),
        ("space.depth.value", 2, None),
    )
    swapped = study(space={"domains": {"width": {"kind": "choice", "choices": (8, 4)}, "depth": kinds["depth"]}})
    assert here.differences(swapped) == (("space.width.choices", [4, 8], [8, 4]),)


def test_specs_are_values() -> None:
    """They are equal by content, cannot be changed and refuse what they do not know."""
    assert study() == study()
    with pytest.raises(ValidationError, match="frozen"):
        study().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        study(color="red")
