"""What is measured on the validation rows, against scikit-learn; constant answers; and rows that count differently."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from kansearch.compiled import trainer
from kansearch.data.splits import Split, load_split
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec
from kansearch.specs.metrics import METRICS, Task
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.loop import train
from kansearch.training.metrics import constant_answer, quality
from kansearch.training.pack import Pack
from tests.data.tables import spec_of

SPLITS = {name: load_split(DataSpec(name=name)) for name in ("iris", "diabetes")}


def judged(y: torch.Tensor, weights: torch.Tensor | None, n_classes: int) -> Split:
    """A split whose validation rows have these classes and weights."""
    return replace(SPLITS["iris"], validation_y=y, n_outputs=n_classes, validation_row_weights=weights)


@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(4, 60), n_classes=st.integers(2, 5), weighted=st.booleans(),
    grain=st.sampled_from([0.0, 1.0]),
)  # fmt: skip
def test_classifications_are_judged_as_scikit_learn_does(
    seed: int, n: int, n_classes: int, weighted: bool, grain: float
) -> None:
    """Every quality, with and without weights, with and without equal probabilities, with classes that are absent."""
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(size=(n, n_classes)))
    logits = logits if not grain else (logits / grain).round() * grain
    y = random.integers(n_classes, size=n)
    if len(set(y)) < 2:
        return
    weights = random.random(n) + 0.1 if weighted else None
    found = quality(
        logits, judged(torch.from_numpy(y), None if weights is None else torch.from_numpy(weights), n_classes)
    )

    predicted, shares = logits.argmax(1).numpy(), logits.softmax(1).numpy()
    there = [index for index in range(n_classes) if (y == index).any()]
    of_each = {
        name: np.mean([measure(y == index, shares[:, index], sample_weight=weights) for index in there])
        for name, measure in (
            ("roc_auc", reference.roc_auc_score),
            ("average_precision", reference.average_precision_score),
        )
    }
    assert found == pytest.approx(
        {
            "accuracy": reference.accuracy_score(y, predicted, sample_weight=weights),
            "cross_entropy": reference.log_loss(y, shares, sample_weight=weights, labels=range(n_classes)),
            "balanced_accuracy": np.average(
                reference.recall_score(y, predicted, labels=there, average=None, sample_weight=weights)
            ),
            "f1": reference.f1_score(y, predicted, average="macro", sample_weight=weights, zero_division=0),
            **of_each,
        },
        rel=1e-6,
    )


@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans(), is_log=st.booleans())
def test_regressions_are_judged_as_scikit_learn_does(seed: int, weighted: bool, is_log: bool) -> None:
    """Errors in the target's own unit, whatever networks learn."""
    random = np.random.default_rng(seed)
    learned, answered = random.normal(size=(2, 40, 1))
    weights = random.random(40) if weighted else None
    split = replace(
        SPLITS["diabetes"], target_mean=3.0, target_scale=1.5, target_transform="log" if is_log else "none",
        validation_y=torch.from_numpy(learned),
        validation_row_weights=None if weights is None else torch.from_numpy(weights),
    )  # fmt: skip
    own, said = (np.exp(1.5 * values + 3) if is_log else 1.5 * values + 3 for values in (learned, answered))
    assert quality(torch.from_numpy(answered), split) == pytest.approx(
        {
            "rmse": reference.root_mean_squared_error(own, said, sample_weight=weights),
            "mae": reference.mean_absolute_error(own, said, sample_weight=weights),
            "r2": reference.r2_score(own, said, sample_weight=weights),
        },
        rel=1e-9,
    )


def test_what_cannot_be_measured_is_left_out() -> None:
    """Rankings of one class alone, and what is explained of a constant."""
    one_class = quality(torch.randn(6, 3), judged(torch.zeros(6, dtype=torch.int64), None, 3))
    assert set(one_class) == {"accuracy", "cross_entropy", "balanced_accuracy", "f1"}
    constant = replace(SPLITS["diabetes"], validation_y=torch.zeros(6, 1))
    assert set(quality(torch.randn(6, 1), constant)) == {"rmse", "mae"}


def test_every_quality_is_measured() -> None:
    """A metric that a study may name exists for its task."""
    for split in SPLITS.values():
        named = {name for name, metric in METRICS.items() if not metric.is_cost and split.task in metric.tasks}
        assert set(constant_answer(split).metrics) == named


def test_the_constant_answer_is_what_the_training_rows_say() -> None:
    """The most frequent class and its share, the mean and the median."""
    split = SPLITS["diabetes"]
    own = [(y * split.target_scale + split.target_mean).numpy()[:, 0] for y in (split.train_y, split.validation_y)]
    found = constant_answer(split).metrics
    mean, median = own[0].mean(), np.median(own[0])
    assert found["rmse"] == pytest.approx(np.sqrt(((own[1] - mean) ** 2).mean()), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(own[1] - median).mean(), rel=1e-5)
    assert abs(found["r2"]) < 0.1
    cancer = load_split(DataSpec(name="breast_cancer"))
    constant = constant_answer(cancer)
    assert constant.n_validation == cancer.n_validation
    assert constant.metrics["accuracy"] == pytest.approx(cancer.validation_y.float().mean().item())
    expected = {"balanced_accuracy": 0.5, "roc_auc": 0.5, "average_precision": 0.5}
    assert {name: constant.metrics[name] for name in expected} == pytest.approx(expected)


# --- rows that count differently --------------------------------------------------------------------


def two_answers(folder: Path, n: int = 240) -> Path:
    """Rows of weight 1 whose label follows x, and as many of weight 0 whose label is its opposite."""
    x = np.random.default_rng(0).normal(size=n)
    weight = np.arange(n) % 2
    table = pd.DataFrame(
        {"x": x, "w": weight, "y": np.where((x > 0) == (weight > 0), "up", "down"), "z": x * (2 * weight - 1)}
    )
    table.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def last(split: Split, use_compiled: bool, **fields: object) -> dict[str, float]:
    """What a small network measures in the end."""
    training = {"epochs": 30, "learning_rate": 0.02, "batch_size": 16, **fields}
    trial = TrialSpec(model=ModelSpec(family="kan", width=4), training=TrainingSpec.model_validate(training))
    pack = Pack(split, latency_at_rungs=False, use_compiled=use_compiled)
    pack.admit(trial)
    while True:
        for result in pack.advance():
            if result.end is not None:
                return {**result.metrics, "loss": result.points[-1].validation_loss}


@pytest.mark.parametrize("use_compiled", [True, False])
@pytest.mark.parametrize("fields", [{}, {"polish": 0.5}, {"polish": 0.5, "polisher": "levenberg_marquardt"}])
def test_rows_of_no_weight_teach_and_judge_nothing(
    tmp_path: Path, use_compiled: bool, fields: dict[str, object]
) -> None:
    """Case 21: by compiled code and by torch, in batches and by both polishers."""
    if use_compiled and trainer.level() is None:
        pytest.skip("nothing is compiled here")
    path = two_answers(tmp_path)
    classes = spec_of(path, task=Task.CLASSIFICATION, weight="w", ignore=("z",))
    numbers = spec_of(path, target="z", weight="w", ignore=("y",))
    assert load_split(classes).feature_names == ("x",)
    assert last(load_split(classes), use_compiled, **fields)["accuracy"] > 0.95
    assert last(load_split(numbers), use_compiled, **fields)["r2"] > 0.95


def test_compiled_code_and_torch_weigh_alike(tmp_path: Path) -> None:
    """Both trainers measure about the same loss from one seed, weights of rows and of classes together."""
    if trainer.level() is None:
        pytest.skip("nothing is compiled here")
    spec = spec_of(two_answers(tmp_path), task=Task.CLASSIFICATION, weight="z2", class_weights="balanced")
    table = pd.read_csv(tmp_path / "t.csv")
    table.assign(z2=table["z"].abs(), y=np.where(table["x"] > 1, "up", "down")).to_csv(tmp_path / "t.csv", index=False)
    one, other = (last(load_split(spec), use_compiled, epochs=3)["loss"] for use_compiled in (True, False))
    assert one == pytest.approx(other, rel=1e-3)


def test_a_pack_weighs_as_one_trial_alone(tmp_path: Path) -> None:
    """Weighted curves are the same alone and among neighbours, to the bit."""
    split = load_split(spec_of(two_answers(tmp_path), task=Task.CLASSIFICATION, weight="w", class_weights="balanced"))
    trials = [
        TrialSpec(
            model=ModelSpec(family="kan", width=width), training=TrainingSpec(epochs=3, dtype="float64"), seed=width
        )
        for width in (2, 3, 4)
    ]
    together = {result.slot: result.points for result in train(trials, split)}
    for slot, trial in enumerate(trials):
        assert [result.points for result in train([trial], split)] == [together[slot]]


def test_weights_that_say_nothing_are_refused(tmp_path: Path) -> None:
    """All training rows without weight."""
    path = two_answers(tmp_path)
    pd.read_csv(path).assign(w=0).to_csv(path, index=False)
    with pytest.raises(DataError, match="the weights of all training rows are 0"):
        load_split(spec_of(path, task=Task.CLASSIFICATION, weight="w"))


def test_balanced_classes_count_alike(tmp_path: Path) -> None:
    """Weights are scikit-learn's; a network that sees one rare row in ten recognises both classes as often."""
    random = np.random.default_rng(0)
    y = np.where(random.random(600) < 0.1, "rare", "usual")
    table = pd.DataFrame({"x": random.normal(size=600) + (y == "rare"), "y": y})
    table.to_csv(tmp_path / "t.csv", index=False)
    plain, balanced = (
        load_split(spec_of(tmp_path / "t.csv", task=Task.CLASSIFICATION, class_weights=kind))
        for kind in ("none", "balanced")
    )
    from sklearn.utils.class_weight import compute_class_weight

    labels = balanced.train_y.numpy()
    assert balanced.class_weights is not None
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    np.testing.assert_allclose(balanced.class_weights, expected, rtol=1e-6)
    assert plain.digest != balanced.digest
    one, other = (last(split, use_compiled=True) for split in (plain, balanced))
    assert other["balanced_accuracy"] > one["balanced_accuracy"] + 0.1


# --- targets of many magnitudes ---------------------------------------------------------------------


def test_the_logarithm_of_a_target_can_be_learned(tmp_path: Path) -> None:
    """Case 17: a target of nine magnitudes is remarked on; its logarithm is learned, its errors are in its own unit."""
    random = np.random.default_rng(0)
    x = random.uniform(-3, 6, 300)
    table = pd.DataFrame({"x": x, "y": 10**x * (1 + random.random(300))})
    table.to_csv(tmp_path / "t.csv", index=False)
    plain, log = (load_split(spec_of(tmp_path / "t.csv", target_transform=kind)) for kind in ("none", "log"))
    assert "the target spans 9 orders of magnitude" in plain.warnings[0]
    assert "data.target_transform: log" in plain.warnings[0]
    assert log.warnings == ()
    own = torch.exp(log.validation_y.double() * log.target_scale + log.target_mean)
    other = plain.validation_y.double() * plain.target_scale + plain.target_mean
    np.testing.assert_allclose(own, other, rtol=1e-4, atol=2)
    assert constant_answer(log).metrics == pytest.approx(constant_answer(plain).metrics, rel=1e-4)
    found = last(log, use_compiled=True)
    assert found["rmse"] < 0.7 * constant_answer(log).metrics["rmse"]
    assert math.sqrt(found["loss"]) < 0.2
    # However wild a network is, its error is a number.
    assert quality(torch.full((log.n_validation, 1), 1e4), log)["rmse"] > 1e100
    table.assign(y=table["y"] - 1).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(
        DataError, match=r"the target is -0\.99\d* in a row; data.target_transform: log needs numbers above 0"
    ):
        load_split(spec_of(tmp_path / "t.csv", target_transform="log"))
    assert load_split(DataSpec(name="diabetes")).warnings == ()
