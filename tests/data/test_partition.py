"""Splits by a column: groups, time, and parts that the user made; and the warnings where a random split looks wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kansearch.data.partition import rows_of_parts
from kansearch.data.roles import Roles
from kansearch.data.splits import describe, load_split, load_test
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec
from kansearch.specs.metrics import Task

from .tables import spec_of


def persons(n: int = 60, n_rows: int = 12) -> pd.DataFrame:
    """Persons with some rows each, nearly equal ones, and a label that is tossed for each of them."""
    random = np.random.default_rng(0)
    habits, label = random.normal(size=(n, 3)), random.choice(["ill", "well"], n)
    who = np.repeat(np.arange(n), n_rows)
    table = pd.DataFrame(habits[who] + 0.03 * random.normal(size=(len(who), 3)), columns=["h1", "h2", "h3"])
    return table.assign(person=[f"p{number}" for number in who], y=label[who])


def walk(n: int = 400) -> pd.DataFrame:
    """A random walk, a step a minute."""
    steps = np.random.default_rng(0).normal(size=n)
    return pd.DataFrame(
        {"when": pd.date_range("2023-01-01", periods=n, freq="min"), "h": np.arange(n) % 60, "load": steps.cumsum()}
    )


def saved(folder: Path, table: pd.DataFrame) -> Path:
    table.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


@given(
    sizes=st.lists(st.integers(1, 30), min_size=6, max_size=60),
    n_classes=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_group_is_in_two_parts(sizes: list[int], n_classes: int, seed: int) -> None:
    """Every row is in one part, every group too, and sizes are as near to the shares as the largest group allows."""
    random = np.random.default_rng(seed)
    group = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    target = random.integers(n_classes, size=len(group)) if n_classes else random.normal(size=len(group))
    spec = DataSpec(name="iris", seed=seed)
    try:
        parts = rows_of_parts("t", target, tuple("abc"[:n_classes]), spec, Roles(group=group))
    except DataError:
        assert len(group) < 60 or max(sizes) > len(group) / 5
        return
    assert sorted(np.concatenate(parts)) == list(range(len(group)))
    assert sum(len(set(group[part])) for part in parts) == len(sizes)
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - share * len(group)) <= max(sizes) + 1


def test_groups_keep_the_shares_of_the_classes(tmp_path: Path) -> None:
    """Case 08: persons stay whole, both labels are in every part in proportion, and the column is no input."""
    path = saved(tmp_path, persons())
    spec = spec_of(path, task=Task.CLASSIFICATION, group="person")
    split, held_out = load_split(spec), load_test(spec)
    assert split.feature_names == ("h1", "h2", "h3")
    assert split.warnings == ()
    assert describe(spec, split).endswith("432 train, 144 validation, 144 test, by groups of person")
    shares = [y.float().mean().item() for y in (split.train_y, split.validation_y, held_out.y)]
    assert max(shares) - min(shares) < 0.06
    # Rows of a person lie close to each other, and far from all others: none of them is in another part.
    distances = np.linalg.norm(split.train_x.numpy()[:, None] - split.validation_x.numpy(), axis=-1)
    assert distances.min() > 0.05
    assert load_split(spec).digest == split.digest != load_split(spec_of(path, task=Task.CLASSIFICATION)).digest


@given(n_classes=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_rare_classes_reach_every_part_where_three_groups_have_them(n_classes: int, seed: int) -> None:
    """Each class is in three groups of its own: one of them goes to each part."""
    target = np.repeat(np.arange(n_classes), 3).repeat(6)
    group = np.arange(3 * n_classes).repeat(6)
    names = tuple("abcde"[:n_classes])
    for part in rows_of_parts("t", target, names, DataSpec(name="iris", seed=seed), Roles(group=group)):
        assert set(target[part]) == set(range(n_classes))


def test_time_goes_from_training_to_test(tmp_path: Path) -> None:
    """Case 27: all training rows are earlier than all validation rows, and these than all test rows."""
    table = walk().sample(frac=1, random_state=1)
    spec = spec_of(saved(tmp_path, table), target="load", order="when")
    split, held_out = load_split(spec), load_test(spec)
    assert (split.feature_names, split.warnings) == (("h",), ())
    assert "in the order of when" in describe(spec, split)
    in_time = table.sort_values("when")["load"].to_numpy()
    for y, rows in (
        (split.train_y, in_time[:240]),
        (split.validation_y, in_time[240:320]),
        (held_out.y, in_time[320:]),
    ):
        np.testing.assert_allclose(np.sort(y[:, 0] * split.target_scale + split.target_mean), np.sort(rows), atol=1e-4)
    assert not np.array_equal(split.train_y[:, 0] * split.target_scale + split.target_mean, in_time[:240])


def test_a_moment_is_in_one_part(tmp_path: Path) -> None:
    """Rows of the same day are not torn apart; two days cannot be three parts."""
    table = pd.DataFrame(
        {"day": np.repeat([1, 2, 3, 4], [50, 11, 29, 10]), "x": np.arange(100.0), "y": np.arange(100.0)}
    )
    split = load_split(spec_of(saved(tmp_path, table), order="day"))
    assert (split.n_train, split.n_validation, split.n_test) == (61, 29, 10)
    with pytest.raises(DataError, match="2 different values, too few to cut the rows into three parts"):
        load_split(spec_of(saved(tmp_path, table.assign(day=table["day"] > 2)), order="day"))


def test_the_user_may_name_the_parts(tmp_path: Path) -> None:
    """Rows are where their column says; a part that it does not name is drawn from the training rows by classes."""
    table = persons(20, 10).assign(where=["train", "Val", "test", "train", "train"] * 40)
    spec = spec_of(saved(tmp_path, table), task=Task.CLASSIFICATION, split="where", ignore=("person",))
    split = load_split(spec)
    assert (split.n_train, split.n_validation, split.n_test) == (120, 40, 40)
    assert "as said by where" in describe(spec, split)
    encoded = split.encoder.encode(table, "t")
    np.testing.assert_allclose(
        np.sort(split.validation_x[:, 0]), np.sort(encoded[table["where"] == "Val", 0]), atol=1e-6
    )
    two = load_split(spec_of(saved(tmp_path, table.replace({"where": {"Val": "train"}})), **_same(spec)))
    assert (two.n_train, two.n_validation, two.n_test) == (120, 40, 40)
    assert abs(float(two.train_y.float().mean()) - float(two.validation_y.float().mean())) < 0.05


def _same(spec: DataSpec) -> dict[str, object]:
    return {"task": spec.task, "split": spec.split, "ignore": spec.ignore}


def test_order_cuts_where_values_allow_it(tmp_path: Path) -> None:
    """Three years make three parts, however many rows they have."""
    table = pd.DataFrame({"x": np.arange(100), "y": np.arange(100) % 7, "year": np.repeat([1, 2, 3], [20, 70, 10])})
    split = load_split(spec_of(saved(tmp_path, table), order="year"))
    assert (split.n_train, split.n_validation, split.n_test) == (20, 70, 10)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("group", ["a", None, "b"], "(data.group), row 2 is empty; allowed: a value in every row"),
        ("group", ["a", "b", "a"], "(data.group) has 2 different values; allowed: at least 3"),
        ("order", ["2024-01-01", "soon", "2024-01-03"], '(data.order), row 2 is "soon"; allowed: numbers or dates'),
        ("order", [1, None, 3], "(data.order), row 2 is empty; allowed: numbers or dates, in every row"),
        ("split", ["train", "test", "hold"], '(data.split), row 3 is "hold"; allowed: train, validation or test'),
        ("split", ["test", "test", "test"], "(data.split) has no training rows"),
        ("weight", [1, -2, 3], "(data.weight), row 2 is -2; allowed: numbers from 0 on"),
        ("weight", [1, "much", 3], '(data.weight), row 2 is "much"; allowed: numbers, in every row'),
        ("weight", [1, None, 3], "(data.weight), row 2 is empty"),
    ],
)
def test_a_column_that_cannot_split_is_refused(tmp_path: Path, key: str, values: list[object], message: str) -> None:
    """With the first row that lacks what is needed."""
    n = 30
    table = pd.DataFrame({"x": np.arange(n), "y": np.arange(n) % 7, "role": (values * n)[:n]})
    with pytest.raises(DataError) as caught:
        load_split(spec_of(saved(tmp_path, table), **{key: "role"}))
    assert message in str(caught.value)
    with pytest.raises(DataError, match=f'has no column "rôle" \\(data.{key}\\); did you mean "role"'):
        load_split(spec_of(tmp_path / "t.csv", **{key: "rôle"}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group": "a", "order": "b"}, "stands beside group; allowed: one of group, order, split"),
        ({"group": "y"}, "is the target column"),
        ({"class_weights": "balanced"}, "is for classification, and the task is regression"),
        ({"task": "classification", "target_transform": "log"}, "is for regression"),
        ({"path": "pictures", "target": None, "task": None, "weight": "w"}, "weight belongs to a table"),
        ({"name": "iris", "path": None, "target": None, "task": None, "group": "g"}, "group belongs to a table"),
    ],
)
def test_a_spec_that_means_nothing_is_refused(fields: dict[str, object], message: str) -> None:
    """Before anything is read."""
    with pytest.raises(ValidationError, match=message):
        DataSpec.model_validate({"path": "t.csv", "target": "y", "task": "regression", **fields})


def test_later_classes_are_said_to_be_missing(tmp_path: Path) -> None:
    """A part that lacks a class is a warning, and training rows of one class are refused."""
    table = pd.DataFrame({"t": np.arange(60), "x": np.arange(60.0) % 7, "y": ["a", "b"] * 20 + ["c"] * 20})
    split = load_split(spec_of(saved(tmp_path, table), task=Task.CLASSIFICATION, order="t"))
    assert split.warnings[0] == 'data: no training row is of class "c"'
    table["y"] = ["a"] * 40 + ["b"] * 20
    with pytest.raises(DataError, match='all training rows are of class "a"'):
        load_split(spec_of(saved(tmp_path, table), task=Task.CLASSIFICATION, order="t"))


def test_random_splits_that_look_wrong_are_warned_of(tmp_path: Path) -> None:
    """Of rows that belong together and of rows in time, ignored columns too; not of plain categories."""

    def warnings(table: pd.DataFrame, **fields: object) -> list[str]:
        found = load_split(spec_of(saved(tmp_path, table), **fields)).warnings
        return [warning.partition(":")[2].strip() for warning in found if warning.startswith("data:")]

    classes = {"task": Task.CLASSIFICATION}
    for ignore in ((), ("person",)):
        (warning,) = warnings(persons(), ignore=ignore, **classes)
        assert 'the 60 values of "person" stand in 12 rows each' in warning
        assert "data.group: person" in warning
    numbered = persons().assign(subject_id=lambda table: table["person"].str[1:].astype(int)).drop(columns="person")
    assert "data.group: subject_id" in warnings(numbered, **classes)[0]
    for ignore in ((), ("when",)):
        (warning,) = warnings(walk(), target="load", ignore=ignore)
        assert "data.order: when trains on earlier rows" in warning
    random = np.random.default_rng(1)
    plain = persons().sample(frac=1, random_state=0).rename(columns={"person": "town"})
    plain["town"] = random.choice([f"town {number}" for number in range(30)], 720)
    assert warnings(plain, **classes) == []
    assert warnings(walk().sample(frac=1, random_state=0), target="load") == []
