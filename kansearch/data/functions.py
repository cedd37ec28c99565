"""Formulas to approximate, each with a domain on which it is finite and smooth.

Training targets may carry noise; validation and test targets are always clean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from kansearch.specs.data import DataSpec

Column = Float64[np.ndarray, "N"]

AI_FEYNMAN = (
    "Udrescu and Tegmark (2020), arXiv:1905.11481, made dimensionless as in Liu et al. (2024), arXiv:2404.19756"
)
OWN = "kansearch: a sum of sines, or one sine with noise, as every tutorial has them"


@dataclass(frozen=True)
class Formula:
    """A function to approximate.

    Attributes:
        expression: For people.
        domain: Lowest and highest value of each variable, which are drawn evenly and independently.
        evaluate: The variables, in the order of `domain`, to the target.
        source: Where the formula is from.
        noise: Standard deviation of the noise on the training targets, in units of the clean
            target's standard deviation, where a study does not say.
        beyond: Above 0, test samples lie outside the domain of the one variable, at most so far away:
            the error on the test split is the error of extrapolation.
    """

    expression: str
    domain: Mapping[str, tuple[float, float]]
    evaluate: Callable[..., Column]
    source: str
    noise: float = 0.0
    beyond: float = 0.0


@dataclass(frozen=True)
class Samples:
    """Inputs in the unit of the formula, and its values there (with the noise, if any)."""

    x: Float64[np.ndarray, "N I"]
    y: Column


FORMULAS: Mapping[str, Formula] = {
    "multi_sine": Formula(
        "sin x + 0.5 cos 2x + 0.2 sin 5x",
        {"x": (-5, 5)},
        lambda x: np.sin(x) + 0.5 * np.cos(2 * x) + 0.2 * np.sin(5 * x),
        OWN,
    ),
    "noisy_sine": Formula("sin x", {"x": (-2 * np.pi, 2 * np.pi)}, np.sin, OWN, noise=0.1, beyond=np.pi),
    # Where the domains differ from those of AI Feynman, they stay clear of a division by zero, of the
    # steep end of arcsin and of the tip of a cone, where no smooth network can follow.
    "feynman_i_6_2": Formula(
        "exp(-theta^2 / (2 sigma^2)) / sqrt(2 pi sigma^2)",
        {"theta": (1, 3), "sigma": (1, 3)},
        lambda theta, sigma: np.exp(-(theta**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2),
        AI_FEYNMAN,
    ),
    "feynman_i_9_18": Formula(
        "a / ((b - 1)^2 + (c - d)^2 + (e - f)^2)",
        {
            "a": (0.5, 2),
            "b": (0.25, 0.65),
            "c": (0.75, 1.35),
            "d": (0.25, 0.65),
            "e": (0.75, 1.35),
            "f": (0.25, 0.65),
        },
        lambda a, b, c, d, e, f: a / ((b - 1) ** 2 + (c - d) ** 2 + (e - f) ** 2),
        AI_FEYNMAN,
    ),
    "feynman_i_12_11": Formula(
        "1 + a sin(theta)",
        {"a": (0.2, 5), "theta": (1, 5)},
        lambda a, theta: 1 + a * np.sin(theta),
        AI_FEYNMAN,
    ),
    "feynman_i_26_2": Formula(
        "arcsin(n sin(theta))",
        {"n": (0, 0.95), "theta": (1, 5)},
        lambda n, theta: np.arcsin(n * np.sin(theta)),
        AI_FEYNMAN,
    ),
    "feynman_i_29_16": Formula(
        "sqrt(1 + a^2 - 2 a cos(theta1 - theta2))",
        {"a": (1.5, 5), "theta1": (1, 5), "theta2": (1, 5)},
        lambda a, theta1, theta2: np.sqrt(1 + a**2 - 2 * a * np.cos(theta1 - theta2)),
        AI_FEYNMAN,
    ),
    "feynman_i_44_4": Formula(
        "n ln a",
        {"n": (1, 5), "a": (0.2, 5)},
        lambda n, a: n * np.log(a),
        AI_FEYNMAN,
    ),
}


def sample(spec: DataSpec) -> tuple[Samples, Samples, Samples]:
    """Training, validation and test samples of a formula.

    Each split, and the noise, has a stream of random numbers of its own: more test samples leave the
    training samples as they are.
    """
    assert spec.name is not None
    formula = FORMULAS[spec.name]
    of_train, of_validation, of_test, of_noise = np.random.default_rng(spec.seed).spawn(4)
    train = _inside(formula, of_train, spec.n_train)
    validation = _inside(formula, of_validation, spec.n_validation)
    test = (_outside if formula.beyond else _inside)(formula, of_test, spec.n_test)
    noise = formula.noise if spec.noise is None else spec.noise
    noisy = train.y + noise * train.y.std() * of_noise.standard_normal(spec.n_train)
    return Samples(train.x, noisy), validation, test


def _inside(formula: Formula, random: np.random.Generator, n: int) -> Samples:
    low, high = np.array(list(formula.domain.values()), dtype=float).T
    return _at(formula, random.uniform(low, high, size=(n, len(low))))


def _outside(formula: Formula, random: np.random.Generator, n: int) -> Samples:
    ((low, high),) = formula.domain.values()
    distance = random.uniform(-formula.beyond, formula.beyond, size=(n, 1))
    return _at(formula, distance + np.where(distance < 0, low, high))


def _at(formula: Formula, x: Float64[np.ndarray, "N I"]) -> Samples:
    return Samples(x, formula.evaluate(*x.T))
