"""The JSON Schema of study files agrees with the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from jsonschema import Draft202012Validator

from kansearch.specs.schema import study_schema
from kansearch.specs.space import hyperparameters

from .documents import Document, documents
from .test_study_file import STUDIES, WRONG

VALIDATOR = Draft202012Validator(study_schema())


def errors(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_the_schema_is_one() -> None:
    """It is valid JSON Schema (draft 2020-12)."""
    Draft202012Validator.check_schema(study_schema())
    assert study_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_pass(path: Path) -> None:
    """An editor finds nothing to mark in a study file that comes with the package."""
    assert errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@given(document=documents())
def test_what_the_reader_accepts_passes(document: Document) -> None:
    """An editor never marks what is right, shorthands included."""
    assert errors(document) == []


@pytest.mark.parametrize(
    "document",
    [
        {"data": "digits", "space": {"family": "mlp", "base_branch": None}, "objectives": "accuracy"},
        {"data": {"name": "iris"}, "search": {"sampler": "random", "pruner": {"min_epochs": 3}}},
        {"data": "iris", "search": {"sampler": {"n_startup_trials": 3}, "pruner": "median"}, "objectives": "accuracy"},
        {"data": {"path": "A.CSV", "target": "y", "task": "regression"}, "constraints": ["r2>=0.5", "flops <= 1e6"]},
    ],
)
def test_shorthands_pass(document: Document) -> None:
    """A name for a whole section, and options beside a name."""
    assert errors(document) == []


SEEN_BY_THE_READER_ALONE = {
    # YAML that other readers understand in another way
    "number as key",
    "null as key",
    "date as key",
    "merge key",
    "width octal",
    "width in minutes",
    "yes for a text",
    "trials a date",
    "width 4.0",
    "trials nan",
    "rate as text",
    # what two places say together
    "nothing to train on",
    "objective of another task",
    "constraint of another task",
    "another task",
    "ignore the target",
    "said twice",
    "target a category",
    "pruner for one objective",
    "sampler for one objective",
    "options that exclude each other",
    "rung after the end",
    "empty range",
    "log from 0",
    "step infinite",
    "step huge",
    "condition on itself",
    "conditions in a circle",
    "conditions in a hidden circle",
    # what a schema has no words for
    "path with a NUL",
    "form of dates",
    "unknown home",
    "infinite noise",
    "rate nan",
    "high infinite",
    "option nan",
    "backbone of nobody",
}


@pytest.mark.parametrize("name", [name for name in WRONG if name not in SEEN_BY_THE_READER_ALONE])
def test_what_the_reader_refuses_is_marked(name: str) -> None:
    """An editor marks the mistakes that one place of a file has."""
    text, _, _ = WRONG[name]
    assert errors(yaml.safe_load(text))


def test_every_hyperparameter_is_explained() -> None:
    """A person who writes a space reads what each name means, and for which networks."""
    space = study_schema()["properties"]["space"]["properties"]
    assert list(space) == list(hyperparameters())
    assert space["width"]["description"] == "Nodes of each hidden row."
    assert space["n_basis"]["description"].endswith(
        "Means something only where family is kan or hybrid and layer is dictionary or scaled or kaf."
    )
    assert space["polisher"]["description"].endswith("Means something only where polish is above 0.")
    for name, schema in study_schema()["properties"].items():
        assert schema.get("description"), name
