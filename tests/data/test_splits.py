"""Splits: which rows train, validate and test, and that nothing leaks between them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kansearch.data.partition import split_rows
from kansearch.data.splits import Split, describe, load_split, load_test
from kansearch.errors import DataError
from kansearch.specs.data import BUNDLED_SETS, FUNCTIONS, DataSpec
from kansearch.specs.metrics import Task

from .tables import people, spec_of, write

shares = st.floats(0.05, 0.44)


def assert_same(one: Split, other: Split) -> None:
    for field in ("train_x", "train_y", "validation_x", "validation_y"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), rtol=0, atol=0)
    assert one.digest == other.digest
    assert one.encoder == other.encoder


def test_every_declared_set_is_here() -> None:
    """The names that a study file may use are sets that exist, with their task."""
    for name, task in BUNDLED_SETS.items():
        split = load_split(DataSpec(name=name))
        assert (split.task is Task.CLASSIFICATION) == bool(split.class_names)
        assert split.task is task


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digits", "digits: 1797 rows, 64 inputs, 10 classes; 1077 train, 360 validation, 360 test"),
        ("diabetes", "diabetes: 442 rows, 10 inputs, regression; 264 train, 89 validation, 89 test"),
        (
            "multi_sine",
            "multi_sine: sin x + 0.5 cos 2x + 0.2 sin 5x, 1 input, regression; 1000 train, 500 validation, 1000 test",
        ),
        (
            "noisy_sine",
            "noisy_sine: sin x, 1 input, regression; 1000 train, 500 validation, 1000 test (beyond the domain)",
        ),
    ],
)
def test_data_are_described_in_one_line(name: str, line: str) -> None:
    """A person reads the size and kind of the data at a glance."""
    assert describe(DataSpec(name=name), load_split(DataSpec(name=name))) == line


@pytest.mark.parametrize("name", [*BUNDLED_SETS, *FUNCTIONS])
def test_a_split_says_what_its_tensors_are(name: str) -> None:
    """Shapes, types, counts and names of a split belong together."""
    spec = DataSpec(name=name)
    split, held_out = load_split(spec), load_test(spec)
    assert split.train_x.shape == (split.n_train, split.n_inputs)
    assert split.validation_x.shape == (split.n_validation, split.n_inputs)
    assert held_out.x.shape == (split.n_test, split.n_inputs)
    assert len(split.feature_names) == split.n_inputs
    for x, y in (
        (split.train_x, split.train_y),
        (split.validation_x, split.validation_y),
        (held_out.x, held_out.y),
    ):
        assert x.dtype is torch.float32
        assert x.isfinite().all()
        if split.task is Task.CLASSIFICATION:
            assert y.dtype is torch.int64
            assert y.shape == (len(x),)
            assert set(y.tolist()) == set(range(split.n_outputs))
        else:
            assert y.dtype is torch.float32
            assert y.shape == (len(x), 1)
            assert y.isfinite().all()
    assert split.n_outputs == (len(split.class_names) or 1)


@pytest.mark.parametrize("name", ["digits", "diabetes", "noisy_sine"])
def test_the_same_spec_gives_the_same_tensors(name: str) -> None:
    """Two calls, as two workers make them, agree in every number."""
    assert_same(load_split(DataSpec(name=name, seed=4)), load_split(DataSpec(name=name, seed=4)))
    one, other = load_test(DataSpec(name=name)), load_test(DataSpec(name=name))
    assert torch.equal(one.x, other.x)
    assert torch.equal(one.y, other.y)


@pytest.mark.parametrize("name", ["digits", "diabetes", "noisy_sine"])
def test_another_seed_gives_other_rows(name: str) -> None:
    """The seed of the data alone decides the split, and the digest knows it."""
    one, other = load_split(DataSpec(name=name, seed=0)), load_split(DataSpec(name=name, seed=1))
    assert not torch.equal(one.train_x, other.train_x)
    assert one.digest != other.digest


def test_more_precise_numbers_can_be_asked_for() -> None:
    """The same split in float64; classes stay whole numbers."""
    split = load_split(DataSpec(name="wine"), dtype=torch.float64)
    assert split.train_x.dtype is split.validation_x.dtype is torch.float64
    assert split.train_y.dtype is torch.int64
    torch.testing.assert_close(split.train_x.float(), load_split(DataSpec(name="wine")).train_x)


def test_a_split_can_be_had_in_another_precision() -> None:
    """Numbers change their type, classes stay whole numbers, all else stays as it was."""
    for name in ("wine", "diabetes"):
        split = load_split(DataSpec(name=name))
        double = split.to(torch.float64)
        assert double.train_x.dtype is double.validation_x.dtype is torch.float64
        assert double.train_y.dtype is (torch.int64 if name == "wine" else torch.float64)
        assert torch.equal(double.train_x.float(), split.train_x)
        assert (double.digest, double.encoder, double.n_train) == (split.digest, split.encoder, split.n_train)


def test_a_few_rows_of_a_split_are_a_split() -> None:
    """The first rows of both parts, with counts to match; asking for more than there are gives all."""
    split = load_split(DataSpec(name="wine"))
    few = split.head(50)
    assert (few.n_train, few.n_validation) == (50, 36)
    assert torch.equal(few.train_x, split.train_x[:50])
    assert torch.equal(few.validation_y, split.validation_y)
    assert (len(few.train_y), len(few.validation_x)) == (50, 36)


def test_bundled_classes_keep_their_numbers() -> None:
    """Class 1 of breast cancer is benign, as everywhere else."""
    split = load_split(DataSpec(name="breast_cancer"))
    assert split.class_names == ("malignant", "benign")
    assert split.train_y.float().mean() > 0.5
    assert load_split(DataSpec(name="digits")).class_names == tuple("0123456789")


# --- rows -------------------------------------------------------------------------------------------


@given(n=st.integers(12, 300), validation=shares, test=shares, seed=st.integers(0, 2**32 - 1))
def test_rows_are_split_without_overlap_or_loss(n: int, validation: float, test: float, seed: int) -> None:
    """Every row is in exactly one split, and the shares are rounded up."""
    spec = DataSpec(name="diabetes", validation=validation, test=test, seed=seed)
    n_validation, n_test = math.ceil(n * validation - 1e-6), math.ceil(n * test - 1e-6)
    if n - n_validation - n_test < 8 or min(n_validation, n_test) < 2:
        with pytest.raises(DataError, match="split needs at least"):
            split_rows("here", np.zeros(n), (), spec)
        return
    parts = split_rows("here", np.zeros(n), (), spec)
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert [len(part) for part in parts] == [n - n_validation - n_test, n_validation, n_test]


@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    validation=shares,
    test=shares,
    seed=st.integers(0, 2**32 - 1),
)
def test_classes_are_split_in_proportion(counts: list[int], validation: float, test: float, seed: int) -> None:
    """No overlap, no loss, every class in every split, and its share there within three rows of the fair one."""
    target = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    names = tuple("abcdef"[: len(counts)])
    spec = DataSpec(name="iris", validation=validation, test=test, seed=seed)
    n = len(target)
    n_validation, n_test = math.ceil(n * validation - 1e-6), math.ceil(n * test - 1e-6)
    n_train = n - n_validation - n_test
    if n_train < max(8, len(counts)) or min(n_validation, n_test) < len(counts):
        with pytest.raises(DataError, match="split needs at least"):
            split_rows("here", target, names, spec)
        return
    parts = split_rows("here", target, names, spec)
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert [len(part) for part in parts] == [n_train, n_validation, n_test]
    for part in parts:
        found = np.bincount(target[part], minlength=len(counts))
        assert found.min() >= 1
        fair = np.array(counts) * len(part) / n
        # A row of every class in every part: each class that is too small for that takes about one from the others.
        assert np.abs(found - fair).max() <= len(counts) + 1


def test_training_rows_are_not_sorted_by_class() -> None:
    """Batches taken in order hold all classes."""
    assert len(set(load_split(DataSpec(name="digits")).train_y[:60].tolist())) == 10


# --- no leak ----------------------------------------------------------------------------------------


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), target=st.sampled_from(["risk", "cost"]))
def test_training_tensors_do_not_know_the_other_rows(tmp_path: Path, data: st.DataObject, target: str) -> None:
    """Whatever the validation and test rows hold, training tensors and encoder stay the same."""
    table = people(60)
    task = Task.CLASSIFICATION if target == "risk" else Task.REGRESSION
    path = tmp_path / "people.parquet"
    table.to_parquet(path)
    spec = spec_of(path, target=target, task=task)
    before = load_split(spec)

    classes = tuple(sorted(table["risk"].unique())) if target == "risk" else ()
    coded = np.array([classes.index(risk) for risk in table["risk"]]) if classes else table["cost"].to_numpy()
    _, validation, test = split_rows("people", coded, classes, spec)
    changed = table.copy()
    for row in [*validation, *test]:
        changed.loc[row, "age"] = data.draw(st.sampled_from([-1e6, 30.0, np.nan]))
        changed.loc[row, "income"] = data.draw(st.floats(-1e12, 1e12))
        changed.loc[row, "town"] = data.draw(st.sampled_from(["Oslo", "Ulm", None]))
        changed.loc[row, "always"] = data.draw(st.integers(0, 10**6))
        if target == "cost":
            changed.loc[row, "cost"] = data.draw(st.floats(-1e6, 1e6))
    changed.to_parquet(path)
    after = load_split(spec)

    assert torch.equal(before.train_x, after.train_x)
    assert torch.equal(before.train_y, after.train_y)
    assert before.encoder == after.encoder
    assert (before.target_mean, before.target_scale) == (after.target_mean, after.target_scale)
    assert after.validation_x.isfinite().all()


def test_test_rows_are_encoded_by_what_the_training_rows_taught(tmp_path: Path) -> None:
    """The rows of the file, encoded by a split's own encoder, are the training, validation and test rows."""
    table = people(100)
    path = tmp_path / "people.parquet"
    table.to_parquet(path)
    spec = spec_of(path, target="cost", ignore=("risk",))
    split, held_out = load_split(spec, dtype=torch.float64), load_test(spec, dtype=torch.float64)
    every = torch.from_numpy(split.encoder.encode(table, "people"))
    train, validation, test = split_rows("people", table["cost"].to_numpy(), (), spec)
    torch.testing.assert_close(split.train_x, every[train])
    torch.testing.assert_close(split.validation_x, every[validation])
    torch.testing.assert_close(held_out.x, every[test])
    cost = torch.from_numpy(table["cost"].to_numpy(copy=True))
    torch.testing.assert_close(held_out.y[:, 0] * split.target_scale + split.target_mean, cost[test])


# --- digest -----------------------------------------------------------------------------------------


def test_the_digest_follows_content_and_split(tmp_path: Path) -> None:
    """Another value, share, seed, target or ignored column is another digest; another file name is not."""
    text = people(60).to_csv(index=False)
    path = write(tmp_path, text)
    base = spec_of(path, target="cost")
    changed = write(tmp_path, text.replace("Oslo", "Oslo2", 1), "changed.csv")
    others = [
        spec_of(changed, target="cost"),
        spec_of(path, target="income"),
        spec_of(path, target="cost", ignore=("town",)),
        spec_of(path, target="cost", seed=1),
        spec_of(path, target="cost", validation=0.3),
        spec_of(path, target="cost", test=0.3),
    ]
    digests = [load_split(spec).digest for spec in (base, *others)]
    assert len(set(digests)) == len(digests)
    copy = write(tmp_path, text, "copy.csv")
    assert load_split(spec_of(copy, target="cost")).digest == digests[0]
    assert len(digests[0]) == 64


def test_the_digest_of_a_formula_follows_its_samples() -> None:
    """Counts, noise and seed of a formula change its digest; shares, which it has no use for, do not."""
    specs = [
        DataSpec(name="multi_sine"),
        DataSpec(name="multi_sine", n_train=900),
        DataSpec(name="multi_sine", noise=0.2),
        DataSpec(name="multi_sine", seed=1),
        DataSpec(name="noisy_sine"),
    ]
    digests = [load_split(spec).digest for spec in specs]
    assert len(set(digests)) == len(digests)
    assert load_split(DataSpec(name="multi_sine", validation=0.1)).digest == digests[0]


def test_a_large_table_loads_quickly(tmp_path: Path) -> None:
    """Rows cost little: thirty thousand of them, texts included, take no more than a moment."""
    path = tmp_path / "people.csv"
    pd.concat([people(3000, seed) for seed in range(10)]).to_csv(path, index=False)
    split = load_split(spec_of(path, target="risk", task=Task.CLASSIFICATION))
    assert split.n_train == 18_000
    assert split.class_names == ("high", "low", "middle")
