"""Formulas that follow curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kansearch.interpret.symbolic import LIBRARY, suggest

X = np.random.default_rng(0).normal(0.4, 1.3, 200)


@pytest.mark.parametrize(
    ("curve", "text"),
    [
        (lambda x: 2 * x - 1, "2 x - 1"),
        (lambda x: 3 * np.sin(2 * x + 1), "3 sin(2 x + 1)"),
        (lambda x: 0.5 * (x - 1) ** 2 + 2, "0.5 (x - 1)^2 + 2"),
        (lambda x: 4 * x**3, "4 x^3"),
        (lambda x: np.exp(0.7 * x) - 5, "1 exp(0.7 x) - 5"),
        (lambda x: 2 * np.exp(-(x**2)), "2 exp(-x^2)"),
        (lambda x: -np.tanh(2 * x) + 3, "-1 tanh(2 x) + 3"),
        (lambda x: np.abs(x - 0.3), "1 abs(x - 0.3)"),
        (lambda x: np.log(2 * x + 9), None),
        (lambda x: np.sqrt(x + 6), None),
        (lambda x: 1 / (x + 5), "1 1/(x + 5)"),
    ],
)
def test_a_known_function_is_found(curve: Callable[[np.ndarray], np.ndarray], text: str | None) -> None:
    """With all of the variance; its numbers are its formula's, and read well."""
    best, *others = suggest(X, curve(X))
    assert best.r2 > 0.9999
    if text is not None:
        assert best.text == text
    assert [other.r2 for other in others] == sorted((other.r2 for other in others), reverse=True)


@pytest.mark.parametrize("a", [-2.0, 0.3, 1.1])
def test_an_exponential_is_not_taken_for_an_imitation(a: float) -> None:
    """Its factor is one number and not two that grow against each other beyond all bounds."""
    best = suggest(X, 3 * np.exp(a * X) - 2)[0]
    assert (best.name, best.a, best.b, best.c, best.d) == (
        "exp(x)",
        *(pytest.approx(v, abs=1e-6) for v in (a, 0, 3, -2)),
    )


def test_a_root_is_written_with_one_factor() -> None:
    """Not with one outside and one inside that could be any."""
    assert suggest(X, 2 * np.sqrt(9 * X + 54) - 1)[0].text == "6 sqrt(x + 6) - 1"
    assert suggest(X, np.sqrt(8 - X))[0].text == "1 sqrt(-1 x + 8)"


def test_every_suggestion_is_what_it_says() -> None:
    """a, b, c and d give the curve with the share of the variance that is noted."""
    y = np.tanh(X) + 0.1 * X**2
    found = suggest(X, y)
    assert len(found) > 2
    for formula in found:
        function = next(known for known in LIBRARY.values() if known.text.format("x") == formula.name)
        values = formula.c * function.evaluate(formula.a * X + formula.b) + formula.d
        rest = ((values - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        assert formula.r2 == pytest.approx(1 - rest, abs=1e-6)
        assert formula.r2 >= 0.5


def test_the_simpler_of_two_is_preferred() -> None:
    """A line with a thousandth of a bend is a line."""
    assert suggest(X, X + 0.002 * X**3)[0].name == "x"


def test_what_nothing_follows_has_no_formula() -> None:
    """Neither noise nor a constant."""
    assert suggest(X, np.random.default_rng(1).normal(size=200)) == ()
    assert suggest(X, np.full(200, 2.0)) == ()
    assert suggest(np.zeros(200), X) == ()


def test_narrow_inputs_far_from_zero_break_nothing() -> None:
    """Where exp(a x + b) has a b that no number can be the exponential of."""
    for centre in (-1.0, 1.0, 100.0):
        x = centre + 1e-5 * X
        assert suggest(x, np.exp(2 * X))[0].r2 > 0.99
