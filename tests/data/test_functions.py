"""The formulas: which there are, where they live and how they are sampled."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from kansearch.data.functions import FORMULAS, sample
from kansearch.data.splits import load_split, load_test
from kansearch.specs.data import FUNCTIONS, DataSpec


def test_every_declared_formula_is_here() -> None:
    """The names that a study file may use are exactly the formulas that exist, in the same order."""
    assert tuple(FORMULAS) == FUNCTIONS


@pytest.mark.parametrize(
    ("name", "point", "value"),
    [
        ("multi_sine", (0.0,), 0.5),
        ("multi_sine", (math.pi / 2,), 1 - 0.5 + 0.2),
        ("noisy_sine", (math.pi / 6,), 0.5),
        ("feynman_i_6_2", (1.5, 2.5), scipy.stats.norm.pdf(1.5, scale=2.5)),
        ("feynman_i_9_18", (2.0, 0.5, 1.0, 0.5, 1.0, 0.5), 2 / 0.75),
        ("feynman_i_12_11", (4.0, math.pi / 2), 5.0),
        ("feynman_i_26_2", (0.5, math.pi / 2), math.pi / 6),
        # The third side of a triangle with sides 1 and a.
        ("feynman_i_29_16", (2.0, 1.0 + math.pi / 3, 1.0), math.sqrt(3)),
        ("feynman_i_44_4", (3.0, math.e), 3.0),
    ],
)
def test_a_formula_has_its_known_values(name: str, point: tuple[float, ...], value: float) -> None:
    """At points where the value is known by other means, the formula has it."""
    assert FORMULAS[name].evaluate(*np.array(point)) == pytest.approx(value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_formula_is_finite_and_smooth_on_its_domain(name: str) -> None:
    """At random points, corners and edges of the domain, the value and its slope are finite and moderate."""
    formula = FORMULAS[name]
    low, high = np.array(list(formula.domain.values()), dtype=float).T
    random = np.random.default_rng(1)
    points = random.uniform(low, high, size=(4000, len(low)))
    at_end = random.random(points.shape) < 0.4
    points = np.where(at_end, np.where(random.random(points.shape) < 0.5, low, high), points)
    values = formula.evaluate(*points.T)
    assert np.isfinite(values).all()
    for variable in range(len(low)):
        step = np.zeros(len(low))
        step[variable] = 1e-6 * (high - low)[variable]
        inside = np.clip(points, low + step, high - step)
        slope = (formula.evaluate(*(inside + step).T) - formula.evaluate(*(inside - step).T)) / 2e-6
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() < 30 * (values.max() - values.min())


@given(seed=st.integers(0, 2**32 - 1), n_test=st.integers(8, 100))
def test_more_test_samples_change_no_training_sample(seed: int, n_test: int) -> None:
    """Each split has a stream of random numbers of its own."""
    few = sample(DataSpec(name="feynman_i_9_18", seed=seed, n_train=20, n_validation=10, n_test=8))
    many = sample(DataSpec(name="feynman_i_9_18", seed=seed, n_train=20, n_validation=10, n_test=n_test))
    for part in (0, 1):
        np.testing.assert_array_equal(few[part].x, many[part].x)
        np.testing.assert_array_equal(few[part].y, many[part].y)
    np.testing.assert_array_equal(few[2].x, many[2].x[:8])


def test_splits_share_no_sample() -> None:
    """No point of one split is in another."""
    points = [tuple(x) for part in sample(DataSpec(name="feynman_i_6_2", seed=3)) for x in part.x]
    assert len(set(points)) == len(points) == 2500


def test_noise_is_on_training_targets_only() -> None:
    """Noise has the asked size on the training targets; inputs and the other splits do not feel it."""
    clean = sample(DataSpec(name="multi_sine", n_train=20_000))
    noisy = sample(DataSpec(name="multi_sine", n_train=20_000, noise=0.5))
    noise = noisy[0].y - clean[0].y
    assert noise.std() / clean[0].y.std() == pytest.approx(0.5, rel=0.02)
    np.testing.assert_array_equal(noisy[0].x, clean[0].x)
    for part in (1, 2):
        np.testing.assert_array_equal(noisy[part].y, clean[part].y)


def test_noisy_sine_has_noise_unless_told_otherwise() -> None:
    """A tenth of the target's standard deviation, without a word in the study file; 0 takes it away."""
    train, validation, _ = sample(DataSpec(name="noisy_sine", n_train=20_000))
    assert (train.y - np.sin(train.x[:, 0])).std() / np.sin(train.x).std() == pytest.approx(0.1, rel=0.03)
    np.testing.assert_array_equal(validation.y, np.sin(validation.x[:, 0]))
    silent, _, _ = sample(DataSpec(name="noisy_sine", noise=0))
    np.testing.assert_array_equal(silent.y, np.sin(silent.x[:, 0]))


def test_noisy_sine_is_tested_beyond_its_training_range() -> None:
    """It is trained and judged within two periods, and tested half a period beyond on both sides."""
    train, validation, test = sample(DataSpec(name="noisy_sine"))
    assert max(np.abs(train.x).max(), np.abs(validation.x).max()) <= 2 * np.pi
    assert 2 * np.pi < np.abs(test.x).min() < 2.05 * np.pi
    assert 2.95 * np.pi < np.abs(test.x).max() <= 3 * np.pi
    assert 0.4 < (test.x < 0).mean() < 0.6
    np.testing.assert_array_equal(test.y, np.sin(test.x[:, 0]))

    spec = DataSpec(name="noisy_sine")
    trained, held_out = load_split(spec).train_x, load_test(spec).x
    assert ((held_out < trained.min()) | (held_out > trained.max())).all()


def test_a_formula_is_scaled_by_its_training_samples() -> None:
    """Inputs and targets of training have zero mean and unit variance; the target's unit can be had back."""
    spec = DataSpec(name="feynman_i_44_4", seed=5)
    split = load_split(spec, dtype=torch.float64)
    for tensor in (split.train_x, split.train_y):
        torch.testing.assert_close(tensor.mean(dim=0), torch.zeros_like(tensor[0]), atol=1e-12, rtol=0)
        torch.testing.assert_close(tensor.std(dim=0, correction=0), torch.ones_like(tensor[0]))
    _, validation, test = sample(spec)
    for y, samples in ((split.validation_y, validation), (load_test(spec, dtype=torch.float64).y, test)):
        np.testing.assert_allclose(y[:, 0] * split.target_scale + split.target_mean, samples.y, rtol=1e-9, atol=1e-12)
    assert split.feature_names == ("n", "a")
    assert (split.n_inputs, split.n_outputs, split.class_names) == (2, 1, ())
