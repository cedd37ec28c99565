"""Inputs that a person should look at before a number is trusted: counters, ids, and what gives the target away.

Shapes: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kansearch.data.columns import Codes, Numbers, shown

Rows = tuple[pd.DataFrame, np.ndarray]
"""Inputs and targets of a part."""

GIVEN_AWAY = 0.98
"""Of what the constant answer leaves open so much is answered by one column alone."""

_MOST_ROWS = 10_000
_MOST_BINS = 64
_FEWEST_ROWS = 20
"""Training rows below which a column says much by chance."""

_ID = re.compile(r"(^|[ _.-])(id|ids|uuid|guid|key|index|idx|nr|no|number|row)($|[ _.-])|[a-z](Id|ID)$|^(Nr|No)$")


class Suspicion(NamedTuple):
    """An input that a person should look at.

    Attributes:
        source: The file, as a message begins.
        column: The input.
        what: What looks wrong in it, ready to stand behind its name.
        advice: What is to be done.
        is_leak: Whether it may be a good input that is too good, and not one of no use.
    """

    source: str
    column: str
    what: str
    advice: str
    is_leak: bool = False

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{self.source}: column {shown(self.column)} {self.what}; {self.advice}"


def suspicions(source: str, train: Rows, validation: Rows, class_names: Sequence[str]) -> tuple[Suspicion, ...]:
    """What looks wrong in the inputs of a table.

    Args:
        source: The file, as a message begins.
        train: Its training rows, shuffled.
        validation: Its validation rows.
        class_names: () in regression.
    """
    inputs, target = train[0][:_MOST_ROWS], train[1][:_MOST_ROWS]
    if len(inputs) < _FEWEST_ROWS:
        return ()
    found = []
    for name in inputs.columns:
        both = pd.concat([train[0][name], validation[0][name]])
        if both.dtype != object and (what := _counter_or_id(str(name), both.to_numpy(dtype=float))):
            found.append(
                Suspicion(source, str(name), what, "name it under data.ignore unless it is to be learned from")
            )
        if inputs.shape[1] > 1:
            share = _share_told(
                (inputs[name], target), (validation[0][name][:_MOST_ROWS], validation[1][:_MOST_ROWS]), class_names
            )
            if share >= GIVEN_AWAY:
                what = f"nearly gives the target away alone ({share:.1%} of what the constant answer leaves open)"
                advice = "if it is not known before the target is, name it under data.ignore"
                found.append(Suspicion(source, str(name), what, advice, is_leak=True))
    return tuple(found)


def _counter_or_id(name: str, numbers: Numbers) -> str:
    """What a column of whole numbers is, each of which stands in one row; "" where it is something else."""
    if np.isnan(numbers).any() or (numbers % 1).any() or len(np.unique(numbers)) < len(numbers):
        return ""
    # Test rows are not looked at, so some numbers of a counter are missing here.
    n_possible = numbers.max() - numbers.min() + 1
    if n_possible <= 2 * len(numbers) and numbers.min() in (0, 1, 2, 3):
        return "only counts rows"
    return "has another whole number in every row, as an id has" if _ID.search(name.strip()) else ""


def _share_told(
    train: tuple[pd.Series[Any], np.ndarray],
    validation: tuple[pd.Series[Any], np.ndarray],
    class_names: Sequence[str],
) -> float:
    """The share of the constant answer's error that goes when one column alone is asked.

    The answer to a value is the mean, or the most frequent class, of the training rows that are like it: of the same
    category, of its neighbourhood, or the nearest two, whatever is better. It is judged by the validation rows.
    """
    known, true = train[1], validation[1]
    if class_names:
        constant = float((true != np.bincount(known).argmax()).mean())
    else:
        constant = float(np.mean((true - known.mean()) ** 2))
    if constant == 0:
        return 0.0
    errors = [
        float((true != answers).mean() if class_names else np.mean((true - answers) ** 2))
        for answers in _answers(train, validation[0], class_names)
    ]
    return 1 - min(errors, default=constant) / constant


def _answers(
    train: tuple[pd.Series[Any], np.ndarray], asked: pd.Series[Any], class_names: Sequence[str]
) -> Iterator[np.ndarray]:
    """What training rows that are like the asked ones answer, in several ways of being alike."""
    column, known = train
    if column.dtype == object:
        codes, values = pd.factorize(column, use_na_sentinel=False)
        if len(values) <= len(column) / 4:
            known_values = {value: place for place, value in enumerate(values)}
            unknown = len(values)
            yield _usual(
                codes, np.array([known_values.get(v, unknown) for v in asked]), known, unknown + 1, class_names
            )
        return
    numbers, others = column.to_numpy(dtype=float), asked.to_numpy(dtype=float)
    present = ~np.isnan(numbers)
    if not present.any():
        return
    n_bins = min(_MOST_BINS, len(numbers) // 8)
    edges = np.unique(np.quantile(numbers[present], np.linspace(0, 1, n_bins + 1)[1:-1], method="lower"))
    # Gaps are alike, behind the last edge.
    seen, places = (np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x)) for x in (numbers, others))
    yield _usual(seen, places, known, len(edges) + 2, class_names)
    if present.all() and not np.isnan(others).any():
        order = np.argsort(numbers, kind="stable")
        if class_names:
            nearest = np.searchsorted((numbers[order][1:] + numbers[order][:-1]) / 2, others)
            yield known[order][nearest]
        else:
            yield np.interp(others, numbers[order], known[order])


def _usual(seen: Codes, asked: Codes, known: np.ndarray, n_places: int, class_names: Sequence[str]) -> np.ndarray:
    """The mean or the most frequent class of the training rows at the same place; of all where there are none."""
    n_seen = np.bincount(seen, minlength=n_places)
    if class_names:
        counts = np.zeros((n_places, len(class_names)), dtype=np.int64)
        np.add.at(counts, (seen, known), 1)
        classes: np.ndarray = np.where(n_seen > 0, counts.argmax(axis=1), np.bincount(known).argmax())[asked]
        return classes
    sums = np.bincount(seen, known, n_places)
    means: np.ndarray = np.where(n_seen > 0, sums / np.maximum(n_seen, 1), known.mean())[asked]
    return means
