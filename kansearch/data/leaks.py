"""Signs that a random split of a table tells networks what they are judged by: rows that belong together, rows in time.

Letters: N rows, D different values of a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from kansearch.data.columns import Numbers, as_numbers
from kansearch.data.roles import Codes
from kansearch.errors import DataError
from kansearch.specs.data import SPLITTERS, DataSpec
from kansearch.specs.metrics import Task

FEWEST_VALUES = 10
"""Of a column that may name persons or the like; fewer are categories."""

MOST_OTHERS = 32
"""Columns by which is seen whether rows are alike."""

ALIKE = 0.5
"""Share of a column's variance that is left within groups of like rows; groups drawn at random leave all of it."""

_UNIT = re.compile(
    r"(?:^|_)(?:ids?|person|patient|subject|user|customer|client|participant|household|family|student|employee|session"
    r"|device|machine|batch|site|hospital|clinic|school|sample|specimen|group|fold)(?:_|$)"
)
_TIME = re.compile(r"(?:^|_)(?:times?|timestamp|dates?|datetime|year|month|week|day|hour|minute|epoch|tick)(?:_|$)")


def leak_warnings(table: pd.DataFrame, target: np.ndarray, spec: DataSpec) -> tuple[str, ...]:
    """What speaks against a random split; nothing where the study names the column to split by.

    Args:
        table: The file's columns, ignored ones among them, in the rows that have a target.
        target: Index of the class of each row, or its value.
        spec: Of the data.
    """
    if any(getattr(spec, key) is not None for key in SPLITTERS):
        return ()
    unseen = (spec.target, spec.text, spec.weight)
    names = [str(name) for name, column in table.items() if name not in unseen and not _holds_lists(column)]
    return (*_time(table, names), *_repeated(table, names, target, spec))


def _time(table: pd.DataFrame, names: list[str]) -> Iterator[str]:
    for name in names:
        column = table[name]
        if types.is_bool_dtype(column) or (types.is_numeric_dtype(column) and not _TIME.search(_words(name))):
            continue
        if not types.is_numeric_dtype(column) and not _looks_like_dates(column):
            continue
        try:
            numbers, bad = as_numbers(column, name)
        except DataError:
            continue
        numbers = numbers[~np.isnan(numbers)]
        steps = np.diff(numbers)
        is_sorted = bool((steps >= 0).all() or (steps <= 0).all())
        if not bad.any() and is_sorted and np.count_nonzero(steps) + 1 >= FEWEST_VALUES:
            yield (
                f'data: the rows are sorted by the times in "{name}": a random split lets networks see what lay right '
                f"before and after the rows that judge them; data.order: {name} trains on earlier rows and judges by "
                "later ones"
            )
            return


def _holds_lists(column: pd.Series[Any]) -> bool:
    return (
        bool(types.is_object_dtype(column))
        and not column.head(100).map(lambda value: isinstance(value, str | float | None)).all()
    )


def _looks_like_dates(column: pd.Series[Any]) -> bool:
    if types.is_datetime64_any_dtype(column):
        return True
    first = next((value for value in column.head(100) if isinstance(value, str) and value.strip()), "")
    return bool(re.match(r"\d{4}-\d{2}-\d{2}", first.strip()))


def _repeated(table: pd.DataFrame, names: list[str], target: np.ndarray, spec: DataSpec) -> Iterator[str]:
    n_rows = len(table)
    others: dict[str, Numbers] | None = None
    for name in names:
        column = table[name]
        is_whole, is_named = types.is_integer_dtype(column), bool(_UNIT.search(_words(name))) or name in spec.ignore
        if not is_whole and (types.is_numeric_dtype(column) or _looks_like_dates(column)):
            continue
        if not is_whole and not is_named and not column.head(100).astype(str).str.contains(r"[^\W\d_]{2}").any():
            continue  # numbers, dates or money in disguise
        n_values = column.nunique()
        if not FEWEST_VALUES <= n_values <= n_rows / 2:
            continue
        groups = pd.factorize(column)[0].astype(np.int64)
        if others is None:
            others = _measured(table, names)
        within = [_share_within(groups, numbers) for other, numbers in others.items() if other != name]
        if is_whole and not is_named:
            # Whole numbers are numbers most of the time: all else must say that they are names.
            is_alike = len(within) >= 3 and max(within) < ALIKE
        else:
            is_alike = len(within) > 0 and float(np.median(within)) < ALIKE
        if is_alike or (is_named and (name not in spec.ignore or _tells(groups, target, spec))):
            yield (
                f'data: the {n_values} values of "{name}" stand in {n_rows / n_values:.3g} rows each, which seem to '
                "belong together: a random split judges networks by rows whose like they have seen; "
                f"data.group: {name} keeps them in one part"
            )
            return


def _measured(table: pd.DataFrame, names: list[str]) -> dict[str, Numbers]:
    """Columns of numbers that vary, a few of them."""
    found: dict[str, Numbers] = {}
    for name in names:
        column = table[name]
        if types.is_numeric_dtype(column) and not types.is_bool_dtype(column) and column.nunique() >= FEWEST_VALUES:
            found[name] = column.to_numpy(dtype=float, na_value=np.nan)
        if len(found) == MOST_OTHERS:
            break
    return found


def _tells(groups: Codes, target: np.ndarray, spec: DataSpec) -> bool:
    """Whether a row's group nearly gives its target away."""
    if spec.resolved_task is Task.CLASSIFICATION:
        there = groups >= 0
        table = pd.crosstab(groups[there], target[there]).to_numpy(dtype=float)
        sizes = table.sum(1)
        n_pairs = float((sizes**2 - sizes).sum())
        agreeing = float((table**2).sum() - sizes.sum()) / n_pairs if n_pairs else 0.0
        by_chance = float(((table.sum(0) / table.sum()) ** 2).sum())
        return by_chance < 1 and (agreeing - by_chance) / (1 - by_chance) > 0.8
    return _share_within(groups, target) < 0.1


def _share_within(groups: Codes, numbers: np.ndarray) -> float:
    """Variance within groups over the whole variance; 1 where it cannot be told."""
    there = (groups >= 0) & np.isfinite(numbers)
    own, x = groups[there], numbers[there] - numbers[there].mean() if there.any() else numbers[there]
    counts = np.bincount(own)
    n_groups, n = int((counts > 0).sum()), len(x)
    whole = float((x**2).sum())
    if n <= n_groups or not 0 < whole < np.inf:
        return 1.0
    within = whole - float((np.bincount(own, weights=x) ** 2 / np.maximum(counts, 1)).sum())
    return within / (n - n_groups) / (whole / (n - 1))


def _words(name: str) -> str:
    """A name in small letters with lines between its words.

    >>> _words("PatientID 2")
    'patient_id_2'
    """
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name))).lower()
