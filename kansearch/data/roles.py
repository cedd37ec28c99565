"""Columns of a table that are no inputs: they say whose a row is, when it was, of which part, or how much it counts.

Shapes: N rows that have a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from kansearch.data.columns import (
    LARGEST,
    NOTHING,
    Cells,
    Codes,
    Flags,
    Numbers,
    Wanted,
    decide,
    is_gap,
    names_of,
    read_numbers,
    shown,
)
from kansearch.data.files import TableFile
from kansearch.data.forms import ISO, PLAIN, looks_iso
from kansearch.errors import DataError

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


def read_roles(
    file: TableFile, columns: Mapping[str, str], present: Flags, wanted: Mapping[str, Wanted] = MappingProxyType({})
) -> Roles:
    """What the columns that a study names say of the rows that have a target.

    Args:
        file: That has them.
        columns: By their keys in `data`.
        present: The rows that have a target.
        wanted: What the study says of how columns are to be read.

    Raises:
        DataError: If a row lacks what its column should say, or has something else.
    """

    def column(key: str) -> _Column:
        name = columns[key]
        where = f'{file.source}: column "{name}" (data.{key})'
        return _Column(file.columns[name], wanted.get(name, NOTHING), where, present)

    return Roles(
        group=_groups(column("group")) if "group" in columns else None,
        order=_numbers(column("order"), "numbers or dates") if "order" in columns else None,
        part=_part_numbers(column("split")) if "split" in columns else None,
        weight=_weights(column("weight")) if "weight" in columns else None,
    )


@dataclass(frozen=True, eq=False)
class _Column:
    """Such a column, of which the rows that have a target count.

    Attributes:
        cells: Of all rows.
        wanted: How the study says that they are to be read.
        where: The file and the column, as a message begins.
        present: The rows that count.
    """

    cells: Cells
    wanted: Wanted
    where: str
    present: Flags

    def refuse(self, bad: Flags, allowed: str) -> None:
        """Refuse the first row that counts and is bad."""
        bad = bad & self.present
        if bad.any():
            first = int(bad.argmax())
            text = self.cells.texts[self.cells.codes[first]]
            said = "is empty" if is_gap(text) else f"is {shown(text)}"
            raise DataError(f"{self.where}, row {first + 1} {said}; allowed: {allowed}")


def _groups(column: _Column) -> Codes:
    names = names_of(column.cells, is_gap)
    column.refuse(np.array([name is None for name in names], dtype=bool), "a value in every row")
    codes: Codes = pd.factorize(names[column.present])[0].astype(np.int64)
    return codes


def _part_numbers(column: _Column) -> Codes:
    of_texts = np.array([PART_NAMES.get(text.lower(), -1) for text in column.cells.texts], dtype=np.int64)
    parts: Codes = of_texts[column.cells.codes]
    column.refuse(parts < 0, "train, validation or test in every row")
    there: Codes = parts[column.present]
    return there


def _weights(column: _Column) -> Numbers:
    weights = _numbers(column, "numbers")
    rows = np.flatnonzero(column.present)
    if (weights < 0).any():
        first = int((weights < 0).argmax())
        raise DataError(f"{column.where}, row {rows[first] + 1} is {weights[first]:g}; allowed: numbers from 0 on")
    return weights


def _numbers(column: _Column, allowed: str) -> Numbers:
    reading = decide(column.cells, column.wanted)
    if reading.form and reading.refusal:
        raise DataError(f"{column.where} {reading.refusal}")
    # Among dates the value that is none is the bad one, among numbers the one that is no number.
    looks = sum(looks_iso(text) for text in column.cells.texts) > len(column.cells.texts) / 2
    form = reading.form or (ISO if looks else PLAIN)
    numbers, bad = read_numbers(column.cells, form, reading.unit)
    with np.errstate(invalid="ignore"):
        bad = bad | np.isnan(numbers) | (np.abs(numbers) > LARGEST)
    column.refuse(bad, f"{allowed}, in every row")
    there: Numbers = numbers[column.present]
    return there
