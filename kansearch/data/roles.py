"""Columns of a table that are no inputs: they say whose a row is, when it was, of which part, or how much it counts.

Shapes: N rows that have a target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from kansearch.data.columns import Flags, Numbers, as_numbers, as_texts, shown
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec

Codes = Int64[np.ndarray, "N"]

PART_NAMES = {
    "train": 0, "training": 0,
    "validation": 1, "valid": 1, "val": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip
"""What a column may call the parts, in small letters."""


@dataclass(frozen=True, eq=False)
class Roles:
    """What such columns say; None where none is named.

    Attributes:
        group: Number of its group, from 0.
        order: What decides which rows are earlier.
        part: 0 trains, 1 validates, 2 tests.
        weight: How much it counts, at least 0.
    """

    group: Codes | None = None
    order: Numbers | None = None
    part: Codes | None = None
    weight: Numbers | None = None


def read_roles(table: pd.DataFrame, present: Flags, spec: DataSpec, source: str) -> Roles:
    """What the columns that a study names say of the rows that have a target.

    Raises:
        DataError: If a row lacks what its column should say, or has something else.
    """

    def column(key: str) -> tuple[pd.Series[Any], str]:
        name = getattr(spec, key)
        return table[name], f'{source}: column "{name}" (data.{key})'

    return Roles(
        group=None if spec.group is None else _groups(*column("group"), present),
        order=None if spec.order is None else _numbers(*column("order"), present, "numbers or dates"),
        part=None if spec.split is None else _part_numbers(*column("split"), present),
        weight=None if spec.weight is None else _weights(*column("weight"), present),
    )


def _groups(column: pd.Series[Any], where: str, present: Flags) -> Codes:
    texts = as_texts(column, where)
    _refuse(where, column, present & np.array([text is None for text in texts], dtype=bool), "a value in every row")
    codes: Codes = pd.factorize(texts[present])[0].astype(np.int64)
    return codes


def _part_numbers(column: pd.Series[Any], where: str, present: Flags) -> Codes:
    parts: Codes = np.array(
        [-1 if text is None else PART_NAMES.get(text.lower(), -1) for text in as_texts(column, where)], dtype=np.int64
    )
    _refuse(where, column, present & (parts < 0), "train, validation or test in every row")
    there: Codes = parts[present]
    return there


def _weights(column: pd.Series[Any], where: str, present: Flags) -> Numbers:
    weights = _numbers(column, where, present, "numbers")
    rows = np.flatnonzero(present)
    if (weights < 0).any():
        first = int((weights < 0).argmax())
        raise DataError(f"{where}, row {rows[first] + 1} is {weights[first]:g}; allowed: numbers from 0 on")
    return weights


def _numbers(column: pd.Series[Any], where: str, present: Flags, allowed: str) -> Numbers:
    numbers, bad = as_numbers(column, where)
    missing = np.isnan(numbers) & ~bad
    if (is_no_date := bad & ~column.astype(str).str.match(r"\s*\d{4}-\d{2}-\d{2}").to_numpy(dtype=bool)).any():
        bad = is_no_date  # among dates the value that is none is the bad one
    _refuse(where, column, present & (bad | missing), f"{allowed}, in every row")
    there: Numbers = numbers[present]
    return there


def _refuse(where: str, column: pd.Series[Any], bad: Flags, allowed: str) -> None:
    if bad.any():
        first = int(bad.argmax())
        value = column.iloc[first]
        said = "is empty" if pd.isna(value) or not str(value).strip() else f"is {shown(value)}"
        raise DataError(f"{where}, row {first + 1} {said}; allowed: {allowed}")
