"""Search spaces: which hyperparameters there are, when each exists, and in which order they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kansearch.specs.space import Choice, Domain, Fixed, Range, Scalar, Space, hyperparameters
from kansearch.specs.study_file import load_study_file
from kansearch.specs.trial import ModelSpec, TrainingSpec

from .documents import Document, spaces, write_study


def space_of(folder: Path, raw: Document) -> Space:
    return load_study_file(write_study(folder, {"data": "digits", "space": raw})).space


def drawn(space: Space, **values: Scalar) -> dict[str, Scalar]:
    """What `assign` gives when these values are drawn, and the first one of any other domain."""

    def draw(name: str, domain: Domain) -> Scalar:
        match domain:
            case Fixed(value=value):
                return value
            case Choice(choices=choices):
                return values.get(name, choices[0])
            case Range(low=low):
                return values.get(name, low)

    return space.assign(draw)


# --- hyperparameters --------------------------------------------------------------------------------


def test_every_field_of_model_and_training_is_a_hyperparameter() -> None:
    """Architecture first; only the number of epochs belongs to the study's budget."""
    names = [*ModelSpec.model_fields, *(name for name in TrainingSpec.model_fields if name != "epochs")]
    assert list(hyperparameters()) == names


@pytest.mark.parametrize("name", hyperparameters())
def test_a_default_is_allowed(name: str) -> None:
    """A hyperparameter that no study names has a value that a study could name."""
    parameter = hyperparameters()[name]
    assert parameter.validate(parameter.default) == parameter.default
    for value in parameter.allowed:
        assert parameter.validate(value) == value
    for wrong in (None, [], "no such value", float("nan"), float("inf"), -1):
        with pytest.raises(ValidationError):
            parameter.validate(wrong)


@pytest.mark.parametrize("name", hyperparameters())
def test_conditions_name_what_exists(name: str) -> None:
    """A hyperparameter means something for allowed values of hyperparameters further up in the table."""
    table = hyperparameters()
    for other in [other for only in table[name].only for other in only.alternatives()]:
        assert list(table).index(other.name) < list(table).index(name)
        for value in other.values:
            assert table[other.name].validate(value) == value


# --- conditions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("mlp", {"family", "width", "activation"}),
        ("kan", {"family", "width", "base_function", "n_basis"}),
        ("hybrid", {"family", "width", "base_function", "n_basis", "activation", "pattern"}),
    ],
)
def test_a_family_has_what_means_something_for_it(tmp_path: Path, family: str, names: set[str]) -> None:
    """Nothing is drawn that the network would not use."""
    raw = {
        "pattern": ["first", "last"],
        "n_basis": [4, 8],
        "width": {"low": 4, "high": 8},
        "base_function": ["tanh", "sin"],
        "activation": ["relu", "tanh"],
        "family": ["mlp", "kan", "hybrid"],
    }
    assert set(drawn(space_of(tmp_path, raw), family=family)) == names


def test_conditions_hold_along_a_chain(tmp_path: Path) -> None:
    """The size of a basis needs a dictionary layer, which needs a KAN layer."""
    space = space_of(tmp_path, {"family": ["kan", "mlp"], "layer": ["dictionary", "edge"], "n_basis": 4})
    assert drawn(space) == {"family": "kan", "layer": "dictionary", "n_basis": 4}
    assert drawn(space, layer="edge") == {"family": "kan", "layer": "edge"}
    assert drawn(space, family="mlp") == {"family": "mlp"}


def test_a_polisher_is_drawn_for_trials_that_polish(tmp_path: Path) -> None:
    """Whatever `polish` may be: one value, a choice or a range with 0 in it."""
    for polish, share in ((0.3, 0.3), ([0.0, 0.3], 0.3), ({"low": 0.0, "high": 0.5}, 0.01)):
        space = space_of(tmp_path, {"polisher": ["lbfgs", "levenberg_marquardt"], "polish": polish})
        assert "polisher" in drawn(space, polish=share)
        if polish != share:
            assert drawn(space, polish=0.0) == {"polish": 0.0}
    assert drawn(space_of(tmp_path, {"polisher": "levenberg_marquardt"})) == {}


def test_what_a_space_leaves_out_has_its_default(tmp_path: Path) -> None:
    """Conditions ask for the default where the study says nothing: the family is then kan, unfreezing none."""
    assert drawn(space_of(tmp_path, {"n_basis": 4, "activation": "tanh"})) == {"n_basis": 4}
    assert drawn(space_of(tmp_path, {"unfreeze_start": 0.5})) == {}
    assert drawn(space_of(tmp_path, {"unfreeze_start": 0.5, "unfreeze": "all_at"})) == {
        "unfreeze": "all_at",
        "unfreeze_start": 0.5,
    }
    assert drawn(space_of(tmp_path, {"width": {"value": 4, "when": {"depth": 2}}})) == {"width": 4}
    assert drawn(space_of(tmp_path, {"width": {"value": 4, "when": {"depth": 3}}})) == {}


def test_a_condition_of_the_study_stands_beside_the_implicit_ones(tmp_path: Path) -> None:
    """Both must hold."""
    space = space_of(
        tmp_path,
        {"n_basis": {"low": 2, "high": 8, "when": {"depth": [2, 3], "width": 4}}, "depth": [2, 4], "width": [4, 8]}
        | {"family": ["kan", "mlp"]},
    )
    assert "n_basis" in drawn(space)
    assert "n_basis" not in drawn(space, depth=4)
    assert "n_basis" not in drawn(space, width=8)
    assert "n_basis" not in drawn(space, family="mlp")


def test_a_condition_on_what_means_nothing_does_not_hold(tmp_path: Path) -> None:
    """An MLP has no layer form, not even the default one."""
    space = space_of(tmp_path, {"family": ["mlp", "kan"], "width": {"value": 4, "when": {"layer": "dictionary"}}})
    assert drawn(space) == {"family": "mlp"}
    assert drawn(space, family="kan") == {"family": "kan", "width": 4}


def test_a_condition_waits_for_its_hyperparameter(tmp_path: Path) -> None:
    """What is asked for is drawn before, wherever it stands in the file; else the file's order holds."""
    space = space_of(
        tmp_path,
        {"dropout": 0.1, "width": {"value": 4, "when": {"depth": 3}}, "l1": 0.1, "depth": 3, "family": "kan"},
    )
    order = space.order()
    assert order.index("depth") < order.index("width")
    assert order.index("family") < order.index("l1")
    assert sorted(order) == sorted(space.domains)
    assert list(drawn(space)) == list(order)
    assert space_of(tmp_path, {"width": 4, "dropout": 0.1, "depth": 2}).order() == ("width", "dropout", "depth")


def test_searched_are_those_with_a_choice(tmp_path: Path) -> None:
    """One value, a list of one and a range of one point are not searched."""
    raw = {
        "width": 4,
        "depth": [2],
        "l1": {"low": 0.1, "high": 0.1},
        "n_basis": [4, 8],
        "dropout": {"low": 0, "high": 0.5},
    }
    assert space_of(tmp_path, raw).searched() == ("n_basis", "dropout")


@pytest.mark.parametrize(
    ("raw", "families"),
    [
        ({}, ("kan",)),
        ({"family": "mlp"}, ("mlp",)),
        ({"family": ["hybrid", "mlp"]}, ("hybrid", "mlp")),
        ({"family": {"value": "mlp"}}, ("mlp",)),
    ],
)
def test_families_of_a_space(tmp_path: Path, raw: Document, families: tuple[str, ...]) -> None:
    """As the study names them; without a word, KANs."""
    assert space_of(tmp_path, raw).families() == families


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=spaces(), data=st.data())
def test_an_assignment_holds_together(tmp_path: Path, raw: Document, data: st.DataObject) -> None:
    """Each domain is drawn at most once, with its conditions known; the values are those of a model and a training."""
    space = space_of(tmp_path, raw)
    table = hyperparameters()
    seen: dict[str, Any] = {}

    def draw(name: str, domain: Domain) -> Scalar:
        assert name not in seen
        for other, values in domain.when.items():
            assert seen.get(other, table[other].default) in values
        for only in table[name].only:
            assert any(o.allows(seen.get(o.name, table[o.name].default)) for o in only.alternatives())
        match domain:
            case Fixed(value=value):
                seen[name] = value
            case Choice(choices=choices):
                seen[name] = data.draw(st.sampled_from(choices))
            case Range(low=low, high=high, integer=integer):
                seen[name] = data.draw(st.integers(int(low), int(high)) if integer else st.floats(low, high))
        return seen[name]  # type: ignore[no-any-return]

    given_values = space.assign(draw)
    assert given_values == seen
    model = {name: value for name, value in given_values.items() if name in ModelSpec.model_fields}
    training = {name: value for name, value in given_values.items() if name in TrainingSpec.model_fields}
    assert ModelSpec(**model).model_dump() | model == ModelSpec(**model).model_dump()
    TrainingSpec(**training)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=spaces(), data=st.data())
def test_the_order_of_the_file_changes_no_value(tmp_path: Path, raw: Document, data: st.DataObject) -> None:
    """The same draws give the same assignment, however a file is sorted."""
    shuffled = dict(data.draw(st.permutations(list(raw.items()))))
    assert drawn(space_of(tmp_path, raw)) == drawn(space_of(tmp_path, shuffled))
