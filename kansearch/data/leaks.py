"""Signs that a random split of a table tells networks what they are judged by: rows that belong together, rows in time.

Letters: N rows, D different values of a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from kansearch.data.columns import NOTHING, Cells, Codes, Flags, Numbers, Texts, Wanted, decide
from kansearch.data.files import TableFile
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


def leak_warnings(
    file: TableFile, target: np.ndarray, present: Flags, spec: DataSpec, wanted: Mapping[str, Wanted]
) -> tuple[str, ...]:
    """What speaks against a random split; nothing where the study names the column to split by.

    Args:
        file: With all its columns, ignored ones among them.
        target: Index of the class of each row, or its value.
        present: The rows that have a target; others do not count.
        spec: Of the data.
        wanted: What the study says of how columns are to be read.
    """
    if any(getattr(spec, key) is not None for key in SPLITTERS):
        return ()
    unseen = (spec.target, spec.text, spec.weight)
    columns = {
        name: column
        for name, cells in file.columns.items()
        if name not in unseen and (column := _read(cells, wanted.get(name, NOTHING)))
    }
    columns = {name: _Read(column.kind, column.rows[present]) for name, column in columns.items()}
    return (*_time(columns), *_repeated(columns, target[present], spec))


class _Read(NamedTuple):
    """A column, with NaN or None for a gap."""

    kind: str
    rows: Numbers | Texts


def _read(cells: Cells, wanted: Wanted) -> _Read | None:
    try:
        reading = decide(cells, wanted)
        values = reading.values(cells)
    except DataError:  # it holds lists, say
        return None
    return None if reading.kind in ("constant", "empty") else _Read(reading.kind, values)


def _time(columns: Mapping[str, _Read]) -> Iterator[str]:
    for name, column in columns.items():
        is_time = column.kind == "date" or (column.kind in ("number", "time") and _TIME.search(_words(name)))
        if not is_time or column.rows.dtype == object:
            continue
        numbers = column.rows.astype(float)
        numbers = numbers[~np.isnan(numbers)]
        steps = np.diff(numbers)
        is_sorted = bool((steps >= 0).all() or (steps <= 0).all())
        if is_sorted and np.count_nonzero(steps) + 1 >= FEWEST_VALUES:
            yield (
                f'data: the rows are sorted by the times in "{name}": a random split lets networks see what lay right '
                f"before and after the rows that judge them; data.order: {name} trains on earlier rows and judges by "
                "later ones"
            )
            return


def _repeated(columns: Mapping[str, _Read], target: np.ndarray, spec: DataSpec) -> Iterator[str]:
    n_rows = len(target)
    measured = _measured(columns)
    for name, column in columns.items():
        is_whole = column.kind == "number" and not np.any(np.nan_to_num(column.rows.astype(float)) % 1)
        is_named = bool(_UNIT.search(_words(name))) or name in spec.ignore
        if not is_whole and column.kind not in ("category", "text", "other"):
            continue
        groups, found = pd.factorize(column.rows)
        n_values = len(found)
        if not FEWEST_VALUES <= n_values <= n_rows / 2:
            continue
        within = [_share_within(groups, numbers) for other, numbers in measured.items() if other != name]
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


def _measured(columns: Mapping[str, _Read]) -> dict[str, Numbers]:
    """Columns of numbers that vary, a few of them."""
    found: dict[str, Numbers] = {}
    for name, column in columns.items():
        if column.kind == "number" and len(pd.unique(column.rows)) >= FEWEST_VALUES:
            found[name] = column.rows.astype(float)
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
