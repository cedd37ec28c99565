"""Known functions that follow a learned curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import least_squares

from kansearch.specs.explanation import Formula

Column = Float64[np.ndarray, "N"]

CLOSE = 2e-3
"""A simpler function is preferred where it explains at most so much less of the variance."""

FEWEST_R2 = 0.5
"""What explains less than half of a curve is no suggestion."""

LARGEST = 300.0
"""Of c, in standard deviations of the curve: beyond it, a function imitates another one with a tiny part of itself."""

LARGEST_EXPONENT = 20.0
"""A constant factor exp(b) beyond exp(20) stays where it is."""

ROUND = 1e-3
"""Smaller constants are not written."""

N_REFINED = 4
"""Of each function: so many of the best starting points are refined."""

SCALES = np.array([s * m for s in (-1, 1) for m in (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.2, 4.6, 6.5)])
SHIFTS = np.linspace(-5, 5, 21)
ROOTS = np.array([s * m for s in (-1, 1) for m in (*np.arange(0.0, 5.01, 0.05), 6.0, 8.0, 12.0, 20.0, 35.0, 50.0)])

STARTS: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]] = {
    "": ([1], [0]),
    "a": (SCALES, [0]),
    "b": ([1], ROOTS),
    "sign b": ([-1, 1], ROOTS),
    "a b": (SCALES, SHIFTS),
}
"""Starting points of a and of b by what is looked for, for inputs that are standardised first."""


@dataclass(frozen=True)
class Known:
    """A function of the library.

    Attributes:
        evaluate: NaN where it is not defined.
        complexity: Simpler ones have less.
        text: With its argument left out.
        tidy: a, b and c to others that stand for the same curve and read better.
        free: What is looked for, a key of `STARTS`. Not what is but another c or d: c exp(a x + b) is as good all along
            a line of b and c, on which rounding would carry c beyond all bounds.
    """

    evaluate: Callable[[Column], Column]
    complexity: int
    text: str
    tidy: Callable[[float, float, float], tuple[float, float, float]] = lambda a, b, c: (a, b, c)
    free: str = "a b"


def _where(is_defined: Callable[[Column], np.ndarray], f: Callable[[Column], Column]) -> Callable[[Column], Column]:
    def evaluate(x: Column) -> Column:
        known = is_defined(x)
        return np.where(known, f(np.where(known, x, 1.0)), np.nan)

    return evaluate


def _of_power(n: int) -> Callable[[float, float, float], tuple[float, float, float]]:
    """C (a x + b)^n = c a^n (x + b / a)^n; of |x| with |a|."""
    return lambda a, b, c: (1.0, b / a, c * (abs(a) if n == 1 else a**n))


def _of_exponential(a: float, b: float, c: float) -> tuple[float, float, float]:
    return (a, 0.0, c * math.exp(b)) if abs(b) < LARGEST_EXPONENT else (a, b, c)


def _of_root(a: float, b: float, c: float) -> tuple[float, float, float]:
    return math.copysign(1.0, a), b / abs(a), c * math.sqrt(abs(a))


def _of_odd(a: float, b: float, c: float) -> tuple[float, float, float]:
    return (-a, -b, -c) if a < 0 else (a, b, c)


def _of_even(a: float, b: float, c: float) -> tuple[float, float, float]:
    return (-a, -b, c) if a < 0 else (a, b, c)


def _of_sine(a: float, b: float, c: float) -> tuple[float, float, float]:
    a, b, c = _of_odd(a, b, c)
    if c < 0:
        b, c = b + math.pi, -c
    return a, math.remainder(b, math.tau), c


LIBRARY: Mapping[str, Known] = {
    "x": Known(lambda x: x, 1, "{}", free=""),
    "x^2": Known(lambda x: x**2, 2, "{}^2", _of_power(2), free="b"),
    "x^3": Known(lambda x: x**3, 3, "{}^3", _of_power(3), free="b"),
    "x^4": Known(lambda x: x**4, 4, "{}^4", _of_power(4), free="b"),
    "abs": Known(np.abs, 3, "abs({})", _of_power(1), free="b"),
    "exp": Known(lambda x: np.exp(np.minimum(x, 50.0)), 2, "exp({})", _of_exponential, free="a"),
    "sin": Known(np.sin, 2, "sin({})", _of_sine),
    "tanh": Known(np.tanh, 3, "tanh({})", _of_odd),
    "gaussian": Known(lambda x: np.exp(-(x**2)), 3, "exp(-{}^2)", _of_even),
    "sqrt": Known(_where(lambda x: x >= 0, np.sqrt), 2, "sqrt({})", _of_root, free="sign b"),
    "log": Known(_where(lambda x: x > 1e-6, np.log), 2, "log({})", free="sign b"),
    "1/x": Known(_where(lambda x: np.abs(x) > 1e-2, lambda x: 1 / x), 2, "1/{}", _of_power(-1), free="b"),
    "arctan": Known(np.arctan, 4, "arctan({})", _of_odd),
}
"""After the symbolic library of Liu et al. (2024), KAN, arXiv:2404.19756, section 2.5.1."""


def suggest(x: Column, y: Column) -> tuple[Formula, ...]:
    """Known functions y = c f(a x + b) + d, the best suggestion first; none where the curve is a constant.

    Args:
        x: What the curve saw, each value as often as the data have it.
        y: The curve there.
    """
    spread = float(y.std())
    centre, width = float(x.mean()), float(x.std())
    if not (spread > 1e-12 and width > 1e-12):
        return ()
    u = (x - centre) / width
    found = [_fit(name, known, u, y) for name, known in LIBRARY.items()]
    good = [f for f in found if f is not None and f.r2 >= FEWEST_R2 and abs(f.c) <= LARGEST * spread]
    if not good:
        return ()
    good.sort(key=lambda formula: -formula.r2)
    close = [formula for formula in good if formula.r2 >= good[0].r2 - CLOSE]
    first = min(close, key=lambda formula: LIBRARY[formula.name].complexity)
    good = [first, *(formula for formula in good if formula is not first)]
    return tuple(_in_units(formula, centre, width) for formula in good)


def _fit(name: str, known: Known, u: Column, y: Column) -> Formula | None:
    scales, shifts = np.meshgrid(*STARTS[known.free], indexing="ij")
    starts = np.stack([scales.ravel(), shifts.ravel()], axis=1).astype(float)
    with np.errstate(all="ignore"):
        values = known.evaluate(starts[:, :1] * u + starts[:, 1:])
        r2 = _r2_of_lines(values, y)
        order = np.argsort(-r2)[:N_REFINED]
        tried = [_refined(known, starts[place], u, y) for place in order if np.isfinite(r2[place])]
    if not tried:
        return None
    a, b, c, d, best = max(tried, key=lambda t: t[-1])
    return Formula(name=name, text="", a=a, b=b, c=c, d=d, r2=best)


def _r2_of_lines(values: Float64[np.ndarray, "S N"], y: Column) -> Float64[np.ndarray, " S"]:
    """R^2 of the best c v + d for each row; -inf where a value is missing."""
    centred = values - values.mean(1, keepdims=True)
    of_y = y - y.mean()
    squares = (centred**2).sum(1)
    r2 = (centred @ of_y) ** 2 / np.maximum(squares * (of_y @ of_y), 1e-300)
    known: Column = np.where(np.isfinite(values).all(1) & (squares > 1e-12), r2, -np.inf)
    return known


def _line(values: Column, y: Column) -> tuple[float, float, float]:
    """c, d and R^2 of the best c v + d."""
    centred = values - values.mean()
    squares = float(centred @ centred)
    c = float(centred @ (y - y.mean())) / squares if squares > 1e-12 else 0.0
    d = float(y.mean() - c * values.mean())
    rest = y - c * values - d
    return c, d, 1 - float(rest @ rest) / float(((y - y.mean()) ** 2).sum())


def _refined(known: Known, start: np.ndarray, u: Column, y: Column) -> tuple[float, float, float, float, float]:
    """a, b, c, d and R^2, from a starting point on."""
    ab = start.copy()
    is_free = ["a" in known.free.split(), "b" in known.free.split()]

    def residuals(free: np.ndarray) -> np.ndarray:
        ab[is_free] = free
        values = known.evaluate(ab[0] * u + ab[1])
        if not np.isfinite(values).all():
            return np.full_like(y, 1e3 * (np.abs(y).max() + 1))
        c, d, _ = _line(values, y)
        rest: Column = c * values + d - y
        return rest

    if any(is_free):
        ab[is_free] = least_squares(residuals, start[is_free], max_nfev=60).x
    c, d, r2 = _line(known.evaluate(ab[0] * u + ab[1]), y)
    return float(ab[0]), float(ab[1]), c, d, r2


def _in_units(formula: Formula, centre: float, width: float) -> Formula:
    """For the curve's own inputs instead of standardised ones."""
    known = LIBRARY[formula.name]
    a, b = formula.a / width, formula.b - formula.a * centre / width
    a, b, c = known.tidy(a, b, formula.c)
    d = formula.d
    if not known.free:
        a, b, c, d = 1.0, 0.0, c * a, d + c * b
    inner = ("x" if a == 1 else f"{a:.3g} x") + ("" if abs(b) < ROUND else f" {_signed(b)}")
    plain = known.text.endswith("({})") or inner == "x"
    text = known.text.format(inner if plain else f"({inner})")
    text = f"{c:.3g} {text}" + ("" if abs(d) < ROUND * abs(c) else f" {_signed(d)}")
    return formula.model_copy(update={"name": known.text.format("x"), "a": a, "b": b, "c": c, "d": d, "text": text})


def _signed(number: float) -> str:
    return f"{'-' if number < 0 else '+'} {abs(number):.3g}"
