"""Inputs that a person should look at before a number is trusted: counters, ids, and what gives the target away.

Shapes: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

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
    """

    source: str
    column: str
    what: str
    advice: str

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
                found.append(Suspicion(source, str(name), what, advice))
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
    train: tuple[pd.Series, np.ndarray], validation: tuple[pd.Series, np.ndarray], class_names: Sequence[str]
) -> float:
    """The share of the constant answer's error that goes when one column alone is asked.

    The answer to a value is the mean, or the most frequent class, of the training rows that are like it: of the same
    category, or among as many neighbours. It is judged by the validation rows.
    """
    seen, asked = _places(train[0], validation[0])
    if seen is None:
        return 0.0
    n_places = int(max(seen.max(), asked.max())) + 1
    known, true = train[1], validation[1]
    if class_names:
        counts = np.zeros((n_places, len(class_names)), dtype=np.int64)
        np.add.at(counts, (seen, known), 1)
        usual = np.bincount(known, minlength=len(class_names)).argmax()
        answers = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), usual)
        constant, error = (true != usual).mean(), (true != answers[asked]).mean()
    else:
        sums, counts_of = np.bincount(seen, known, n_places), np.bincount(seen, minlength=n_places)
        means = np.where(counts_of > 0, sums / np.maximum(counts_of, 1), known.mean())
        constant, error = np.mean((true - known.mean()) ** 2), np.mean((true - means[asked]) ** 2)
    return float(1 - error / constant) if constant > 0 else 0.0


def _places(train: pd.Series, validation: pd.Series) -> tuple[Codes | None, Codes]:
    """Rows that are alike have the same place; None where training rows show next to nothing about their like."""
    if train.dtype == object:
        codes, values = pd.factorize(train, use_na_sentinel=False)
        if len(values) > len(train) / 4:
            return None, codes
        known = {value: place for place, value in enumerate(values)}
        return codes, np.array([known.get(value, len(values)) for value in validation], dtype=np.int64)
    numbers = train.to_numpy(dtype=float)
    n_bins = min(_MOST_BINS, len(numbers) // 8)
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        return None, np.empty(0, dtype=np.int64)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, n_bins + 1)[1:-1], method="lower"))
    # Gaps are alike, behind the last edge.
    seen, asked = (
        np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x))
        for x in (numbers, validation.to_numpy(dtype=float))
    )
    return seen, asked
