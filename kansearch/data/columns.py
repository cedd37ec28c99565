"""Columns of a table as numbers or as texts; what is neither is refused with its first bad value.

A number column is float64 with NaN where a value is missing, a text column holds str with None there.
Rows are counted from 1, the header aside.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from kansearch.errors import DataError

Numbers = Float64[np.ndarray, "N"]
Flags = Bool[np.ndarray, "N"]
Texts = np.ndarray[tuple[int], np.dtype[np.object_]]

LARGEST = 1e30
"""Float32 ends near 3e38; up to here standardised numbers stay well inside it."""

FEW = 20
"""Up to so many different texts are categories, however few rows there are."""

MISSING = ("", "?")
"""Texts for a value that is not there, beside pandas' own (NA, NaN, null, None, n/a ...)."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_EPOCH = pd.Timestamp("1970-01-01")
_SIMPLE = (str, bool, int, float, np.generic, decimal.Decimal, dt.date, dt.time)


def column_values(column: pd.Series[Any], where: str) -> Numbers | Texts:
    """What a column holds, as every network sees it.

    Numbers, and texts that all are numbers, are numbers; so are true and false (1 and 0) and dates in
    ISO 8601 (days since 1970). Other texts are categories.

    Args:
        where: The file and the column, as a message begins.

    Raises:
        DataError: If numbers are mixed with texts, are infinite, have decimal commas, or if nearly
            every row has a text of its own.
    """
    numbers, bad = as_numbers(column, where)
    if not bad.any():
        return numbers
    texts = as_texts(column, where)
    present = [text for text in texts if text is not None]
    n_distinct = len(set(present))
    if n_distinct <= FEW:
        return texts
    first = int(bad.argmax())
    example = f"row {first + 1} is {shown(texts[first])}"
    if 2 * bad.sum() <= len(present):
        raise DataError(
            f"{where} mixes numbers and texts: {example}; allowed: numbers, or an empty cell where one is missing"
        )
    if 2 * sum(_is_number(text.replace(",", "")) for text in present) >= len(present):
        raise DataError(f"{where} has numbers with a comma: {example}; write them with a decimal point alone")
    if 2 * n_distinct > len(present):
        raise DataError(
            f"{where} has {n_distinct} different texts in {len(present)} rows ({example}): an id, free text or dates "
            "not written as 2024-12-31; name it under data.ignore"
        )
    return texts


def as_numbers(column: pd.Series[Any], where: str) -> tuple[Numbers, Flags]:
    """The numbers of a column, and which of its values are none.

    Raises:
        DataError: If a number is infinite or beyond `LARGEST`, or a value is a list or bytes.
    """
    numbers, bad = _read_numbers(column, where)
    too_large = np.abs(numbers) > LARGEST
    if too_large.any() and not bad.any():
        first = int(too_large.argmax())
        raise DataError(f"{where}, row {first + 1} is {numbers[first]:g}; allowed: numbers from -1e30 to 1e30")
    return numbers, bad


def _read_numbers(column: pd.Series[Any], where: str) -> tuple[Numbers, Flags]:
    none = np.zeros(len(column), dtype=bool)
    dtype = column.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return _days(column), none
    if pd.api.types.is_timedelta64_dtype(dtype):
        return (column.dt.total_seconds() / 86400).to_numpy(dtype=float, na_value=np.nan), none
    if pd.api.types.is_numeric_dtype(dtype):  # booleans too
        return column.to_numpy(dtype=float, na_value=np.nan), none
    texts = as_texts(column, where)
    present = {text for text in texts if text is not None}
    if present and {text.lower() for text in present} <= {"true", "false"}:
        return np.array([np.nan if text is None else text.lower() == "true" for text in texts], dtype=float), none
    if present and all(_DATE.fullmatch(text) for text in present):
        numbers = _days(pd.to_datetime(pd.Series(texts), format="ISO8601", utc=True, errors="coerce"))
    else:
        numbers = np.array([np.nan if text is None or not _is_number(text) else float(text) for text in texts])
    return numbers, np.isnan(numbers) & np.array([text is not None for text in texts], dtype=bool)


def _days(dates: pd.Series[Any]) -> Numbers:
    naive = dates if dates.dt.tz is None else dates.dt.tz_convert("UTC").dt.tz_localize(None)
    days: Numbers = ((naive - _EPOCH).dt.total_seconds() / 86400).to_numpy(dtype=float, na_value=np.nan)
    return days


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.lower().lstrip("+-") != "nan"


def as_texts(column: pd.Series[Any], where: str) -> Texts:
    """The values of a column as texts: whole numbers without a decimal point, no blanks around.

    Raises:
        DataError: If a value is neither text, number, boolean nor date.
    """
    texts: Texts = np.empty(len(column), dtype=object)
    for row, value in enumerate(column.astype(object)):
        if not isinstance(value, _SIMPLE):
            if value is None or value is pd.NA or value is pd.NaT:
                continue
            raise DataError(
                f"{where}, row {row + 1} holds a {type(value).__name__}; allowed: numbers, texts, true and false, dates"
            )
        if value == value:  # noqa: PLR0124 - all but NaN
            text = str(int(value)) if isinstance(value, (float, np.floating)) and value == value // 1 else str(value)
            texts[row] = None if text.strip() in MISSING else text.strip()
    return texts


def shown(value: object) -> str:
    """A value as a message shows it: in quotes, never more than a few words."""
    text = str(value)
    return f'"{text}"' if len(text) <= 40 else f'"{text[:37]}..."'
