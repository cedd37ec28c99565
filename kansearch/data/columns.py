"""What a column of a table is: numbers, dates, true and false, or categories; decided before its values are counted.

A column is read, or refused with its first bad value, or its author is asked; `decide` says which, and whoever reads
tables goes by it. Rows are counted from 1, the header and blank lines aside.

Shapes: N rows, D distinct texts.
"""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from kansearch.data.forms import (
    CLOCK,
    ISO,
    PLAIN,
    TRUTH,
    body,
    date_forms,
    forms_of,
    is_ambiguous,
    is_date,
    is_word,
    looks_iso,
    number,
    plain,
    split,
)
from kansearch.errors import DataError
from kansearch.specs.columns import Column, Kind
from kansearch.specs.data import NUMBER_FORMS

Numbers = Float64[np.ndarray, "N"]
Flags = Bool[np.ndarray, "N"]
Codes = Int64[np.ndarray, "N"]
Texts = np.ndarray[tuple[int], np.dtype[np.object_]]

LARGEST = 1e30
"""Float32 ends near 3e38; up to here standardised numbers stay well inside it."""

FEW = 20
"""Up to so many different texts are categories, however few rows there are."""

# fmt: off
MARKERS = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "None", "n/a",
    "null",
})
"""What programs write for a missing input, beside empty cells, ? and NaN, which always are missing."""

MARKERS_AMONG_NUMBERS = frozenset({
    "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "**", "na", "n.a.", "n. a.", "n.a", "n/a", "none",
    "null", "nan", "nil", "missing", "unknown", "undefined", "blank", "(blank)", "empty", "not available",
    "not applicable", "no data", "nodata", "#n/a", "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!",
})
"""In small letters: what people and spreadsheets write for a missing number. Among texts each is a text."""
# fmt: on

_SIMPLE = (str, bool, int, float, np.generic, decimal.Decimal, dt.date, dt.time)
_SAMPLE = 200
"""So many texts of a column show whether most of them are dates."""


# --- cells ------------------------------------------------------------------------------------------


class Cells:
    """A column as its file has it.

    Args:
        read: Gives which text stands in each row, and the D different texts without blanks around, in order of
            appearance; "" is an empty cell. It is asked when somebody wants to know.
        form: In a file that knows types, as which texts the values would be read.
        numbers: There what the values come to; NaN where one is missing.
    """

    def __init__(
        self, read: Callable[[], tuple[Codes, tuple[str, ...]]], form: str = "", numbers: Numbers | None = None
    ) -> None:
        self._read = read
        self.form = form
        self.numbers = numbers
        self.known: dict[tuple[str, str], Numbers] = {}
        """What the D texts come to in forms and units that were asked for before."""

    @cached_property
    def _cells(self) -> tuple[Codes, tuple[str, ...]]:
        return self._read()

    @property
    def codes(self) -> Codes:
        """Which of the texts stands in each row."""
        return self._cells[0]

    @property
    def texts(self) -> tuple[str, ...]:
        """The different texts."""
        return self._cells[1]

    def flags(self, texts: Container[str]) -> Flags:
        """The rows that have one of these texts."""
        flags: Flags = np.array([text in texts for text in self.texts], dtype=bool)[self.codes]
        return flags

    def count(self, texts: Container[str]) -> int:
        """How many rows have one of these texts."""
        return int(self.flags(texts).sum())

    def example(self, texts: Container[str]) -> str:
        """The first row that has one of these texts, as a message says it: `row 3 is "much"`."""
        row = int(self.flags(texts).argmax())
        return f"row {row + 1} is {shown(self.texts[self.codes[row]])}"


def cells_of(column: pd.Series[Any], where: str) -> Cells:
    """The cells of a column that pandas has.

    Args:
        column: Of any type.
        where: The file and the column, as a message begins.

    Raises:
        DataError: If a value is neither text, number, boolean nor date.
    """
    dtype, types = column.dtype, pd.api.types

    def read() -> tuple[Codes, tuple[str, ...]]:
        return _read_objects(column, where)

    if types.is_datetime64_any_dtype(dtype):
        naive = column if column.dt.tz is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
        return Cells(read, ISO, _floats((naive - pd.Timestamp("1970-01-01")).dt.total_seconds() / 86400))
    if types.is_timedelta64_dtype(dtype):
        return Cells(read, CLOCK, _floats(column.dt.total_seconds() / 86400))
    if types.is_numeric_dtype(dtype):
        return Cells(read, TRUTH if types.is_bool_dtype(dtype) else PLAIN, _floats(column))
    found = read()  # what holds no values is refused here
    return Cells(lambda: found)


def _floats(column: pd.Series[Any]) -> Numbers:
    numbers: Numbers = column.to_numpy(dtype=float, na_value=np.nan)
    return numbers


def _read_objects(column: pd.Series[Any], where: str) -> tuple[Codes, tuple[str, ...]]:
    places: dict[str, int] = {}
    codes = np.empty(len(column), dtype=np.int64)
    for row, value in enumerate(column.astype(object)):
        codes[row] = places.setdefault(_text_of(value, row, where), len(places))
    return codes, tuple(places)


def _text_of(value: object, row: int, where: str) -> str:
    if not isinstance(value, _SIMPLE):
        if value is None or value is pd.NA or value is pd.NaT:
            return ""
        raise DataError(
            f"{where}, row {row + 1} holds a {type(value).__name__}; allowed: numbers, texts, true and false, dates"
        )
    if value != value:  # noqa: PLR0124 - only NaN
        return ""
    if isinstance(value, (float, np.floating)) and value == value // 1:
        return str(int(value))
    return str(value).strip()


def is_gap(text: str) -> bool:
    """Whether a cell is missing whatever the column: an empty one, ? or NaN; Nan is a name."""
    return text in ("", "?", "NaN", "nan", "-NaN", "-nan")


_WHOLE_AS_DECIMAL = re.compile(r"([+-]?(?:0|[1-9][0-9]{0,14}))\.0+")


def label(text: str) -> str:
    """A text as the name of a class or category: 1.0 is 1, and nothing else is merged.

    >>> [label(text) for text in ("1.0", "007", "1E1", "3.10")]
    ['1', '007', '1E1', '3.10']
    """
    whole = _WHOLE_AS_DECIMAL.fullmatch(text)
    return whole[1] if whole else text


# --- readings ---------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """What the author of a study says of a column.

    Attributes:
        kind: category, number or date; "" for nothing.
        form: How its values are written; "" where they are to show it.
    """

    kind: str = ""
    form: str = ""


NOTHING = Wanted()


@dataclass(frozen=True)
class Reading:
    """How a column is read.

    Attributes:
        kind: What it holds.
        form: How its numbers are written; "" where its values are texts.
        unit: What stands beside each number.
        gaps: Texts that stand for a missing value.
        refusal: Why it can be no input, ready to stand behind its place; "" where it can.
        remarks: What a person should know of it, likewise.
        is_new: Whether it is read in another way than by the first kansearch, whose studies of it do not go on.
    """

    kind: Kind
    form: str = ""
    unit: str = ""
    gaps: frozenset[str] = frozenset()
    refusal: str = ""
    remarks: tuple[str, ...] = ()
    is_new: bool = False

    def values(self, cells: Cells) -> Numbers | Texts:
        """What the rows hold: float64 with NaN for a gap, or names of categories with None there."""
        if self.form:
            return read_numbers(cells, self.form, self.unit)[0]
        return names_of(cells, self.gaps.__contains__)


def decide(cells: Cells, wanted: Wanted = NOTHING, *, is_target: bool = False) -> Reading:
    """How a column is to be read.

    Args:
        cells: What its file has.
        wanted: What the study's author says of it.
        is_target: Whether its numbers are predicted: then only empty cells, ? and NaN are gaps, and leading zeros
            make no names of them.
    """
    if wanted.kind == "category":
        return Reading("category", gaps=frozenset(filter(is_gap, cells.texts)), is_new=True)
    if cells.numbers is not None and (wanted.kind or is_target or not _has_long(cells)):
        kinds: dict[str, Kind] = {ISO: "date", CLOCK: "time", TRUTH: "boolean"}
        reading = _measured(Reading(kinds.get(cells.form, "number"), cells.form), cells)
        if wanted.kind == "date" and cells.form != ISO:
            return replace(reading, refusal="holds numbers in a file that knows dates; data.dates is for texts")
        return reading
    column = _Column.of(cells, is_target)
    return _measured(column.as_wanted(wanted) if wanted.kind else column.as_it_is(), cells)


@dataclass(frozen=True)
class _Column:
    """The texts of a column, sorted by whether they may stand for a missing value.

    Attributes:
        cells: Of the column.
        is_target: As for `decide`.
        present: Texts that never do.
        gaps: Those that do in any column.
        gaps_among_numbers: Those, and the ones that do where all others are numbers.
    """

    cells: Cells
    is_target: bool
    present: tuple[str, ...]
    gaps: frozenset[str]
    gaps_among_numbers: frozenset[str]

    @classmethod
    def of(cls, cells: Cells, is_target: bool) -> _Column:
        gaps = frozenset(t for t in cells.texts if is_gap(t) or (t in MARKERS and not is_target))
        more = frozenset(t for t in cells.texts if t.lower() in MARKERS_AMONG_NUMBERS and not is_target)
        present = tuple(text for text in cells.texts if text not in gaps and text not in more)
        return cls(cells, is_target, present, gaps, gaps | more)

    def as_it_is(self) -> Reading:
        """Numbers where all texts are, categories where none has to do with numbers; else refused."""
        if not self.present and self.gaps == self.gaps_among_numbers:
            return Reading("empty", PLAIN, gaps=self.gaps)
        found = self._numbers() if self.present else None
        if found is None and (mixture := self._mixture()):
            return Reading("other", gaps=self.gaps, refusal=mixture)
        if found is None or not found.form:
            return self._categories(are_codes=found is not None)
        is_new = found.is_new or self.gaps != self.gaps_among_numbers
        return replace(found, gaps=self.gaps_among_numbers, is_new=is_new)

    def as_wanted(self, wanted: Wanted) -> Reading:
        """Numbers or dates, because the study's author says so."""
        return self._wanted_dates(wanted.form) if wanted.kind == "date" else self._wanted_numbers(wanted.form)

    def _wanted_dates(self, form: str) -> Reading:
        forms = [form] if form else date_forms(self.present, "%Y%m%d")
        if len(forms) > 1:
            return Reading("date", forms[0], refusal=self._day_or_month(forms))
        how = f"written as {form}" if form else "in a form that is known"
        bad = {text for text in self.present if not forms or math.isnan(number(text, forms[0]))}
        refusal = (
            f"has no dates {how}: {self._example(bad)}; data.dates takes one, {{COLUMN: '%d.%m.%Y'}}" if bad else ""
        )
        return Reading("date", forms[0] if forms else ISO, gaps=self.gaps_among_numbers, refusal=refusal, is_new=True)

    def _wanted_numbers(self, form: str) -> Reading:
        """Whatever is no number counts as missing: this is what the author asks for."""
        parts = [found for text in self.present if (found := split(text)) is not None]
        unit = Counter(found.unit for found in parts).most_common(1)[0][0] if parts else ""
        bodies = [found.body for found in parts if found.unit == unit]
        n_read = {known: sum(not math.isnan(body(text, known)) for text in bodies) for known in NUMBER_FORMS}
        forms = [known for known in NUMBER_FORMS if n_read[known] == max(n_read.values())]
        if not form and is_ambiguous(forms, bodies, unit):
            return Reading("number", forms[0], unit, refusal=self._ambiguous())
        form = form or forms[0]
        bad = frozenset(text for text in self.present if math.isnan(number(text, form, unit)))
        if len(bad) == len(self.present):
            return Reading("number", form, unit, refusal=f"holds no numbers: {self._example(bad)}" if bad else "")
        remarks: tuple[str, ...] = ()
        if bad:
            some = count(self.cells.count(bad), "cell")
            remarks = (f"has {some} without a number, which count as missing: {self._example(bad)}",)
        return Reading("number", form, unit, self.gaps_among_numbers | bad, remarks=remarks, is_new=True)

    def _numbers(self) -> Reading | None:
        """Numbers, dates, times or truth values if all texts are; a category if they are codes; else None."""
        texts = self.present
        if all(text.lower() in ("true", "false") for text in texts):
            return Reading("boolean", TRUTH)
        if all(not math.isnan(plain(text)) for text in texts):
            return Reading("category") if not self.is_target and _are_codes(texts) else Reading("number", PLAIN)
        if (written := self._written_numbers()) is not None:
            return written
        if all(looks_iso(text) for text in texts) and not date_forms(texts):
            bad = {text for text in texts if math.isnan(number(text, ISO))}
            return Reading("date", ISO, refusal=f"has a date that is in no calendar: {self._example(bad)}")
        if forms := date_forms(texts):
            refusal = self._day_or_month(forms) if len(forms) > 1 else ""
            return Reading("date", forms[0], refusal=refusal, is_new=forms[0] != ISO)
        if all(not math.isnan(number(text, CLOCK)) for text in texts):
            return Reading("time", CLOCK, is_new=True)
        return None

    def _written_numbers(self) -> Reading | None:
        """Numbers with decimal commas, marks between thousands, a currency, percent or another unit."""
        parts = [found for text in self.present if (found := split(text)) is not None]
        units = {found.unit for found in parts}
        if len(parts) < len(self.present) or len(units) > 1:
            return None
        unit, bodies = units.pop(), [found.body for found in parts]
        if is_word(unit) and (len(bodies) < 2 or any(_LEADING_ZERO.fullmatch(text) for text in bodies)):
            return None
        forms = forms_of(bodies)
        if not forms:
            return None
        if is_ambiguous(forms, bodies, unit):
            return Reading("number", forms[0], unit, refusal=self._ambiguous())
        thousands = "1,234.5" in forms and any("," in text for text in bodies)
        return Reading("number", "1,234.5" if thousands else forms[0], unit, is_new=True)

    def _mixture(self) -> str:
        """Why texts among which there are numbers or dates can be no categories; "" where they can."""
        texts = [text for text in self.cells.texts if text not in self.gaps]
        if self.present and all(map(_AMOUNT.fullmatch, self.present)):
            few = " and ".join(map(shown, self.present[:3]))
            return f"writes its numbers with several units, {few}: data.categories takes all for names"
        numeric = {text: way for text in texts if (way := _way(text)) is not None}
        words = {text for text in texts if text not in numeric and text not in self.gaps_among_numbers}
        advice = "data.categories takes all for names, data.numbers the rest for gaps"
        if numeric and not words:
            ways: dict[tuple[str, ...], str] = {}
            for text, way in numeric.items():
                ways.setdefault(way, text)
            listed = " and ".join(map(shown, itertools.islice(ways.values(), 3)))
            return f"writes its numbers in several ways, {listed}: {advice}"
        many = len(texts) > FEW
        mostly = 2 * len(numeric) > len(numeric) + len(words)
        mostly_rows = many and 2 * self.cells.count(words) <= self.cells.count(set(texts))
        if (mostly and (many or not all(_DIGITS.fullmatch(text) for text in numeric))) or mostly_rows:
            return (
                f"mixes numbers and texts: {self._example(words)}; allowed: numbers, or an empty cell where one is "
                f"missing ({advice})"
            )
        sample = texts[:_SAMPLE]
        dates = {text for text in sample if is_date(text)}
        others = set(sample) - dates - self.gaps_among_numbers
        if dates and not others:
            return f"writes its dates in several ways: {self._example(dates)}; write them as 2024-12-31"
        if len(dates) > len(others):
            return (
                f"mixes dates and texts: {self._example(others)}; allowed: dates, or an empty cell where one is "
                "missing (data.categories takes all for names)"
            )
        inside = {text for text in texts if _DATE_INSIDE.search(text)}
        if 2 * len(inside) > len(texts):
            strange = {text for text in inside if not is_date(text)} or inside
            return (
                f"holds dates in a form that is not known: {self._example(strange)}; write them as 2024-12-31 or "
                "2024-12-31 17:30 (data.categories takes all for names)"
            )
        return ""

    def _categories(self, *, are_codes: bool) -> Reading:
        texts = {text for text in self.cells.texts if text not in self.gaps}
        n_rows = self.cells.count(texts)
        markers = sorted(text for text in self.gaps if not is_gap(text))
        remarks = tuple(
            f"has {count(self.cells.count({text}), 'cell')} {shown(text)}, which count as missing; data.categories "
            "keeps them"
            for text in markers
        )
        merged = any(label(text) != text and label(text) in texts for text in texts)
        reading = Reading("category", gaps=self.gaps, remarks=remarks, is_new=are_codes or merged)
        if len(texts) == 1 and not self.gaps:
            return replace(reading, kind="constant")
        if len(texts) <= FEW or 2 * len(texts) <= n_rows:
            return reading
        if are_codes:
            return replace(
                reading,
                refusal=f"has {len(texts)} different codes in {n_rows} rows ({self._example(texts)}); name it under "
                "data.ignore, or under data.numbers if they are amounts",
            )
        return replace(
            reading,
            kind="text",
            refusal=f"has {len(texts)} different texts in {n_rows} rows ({self._example(texts)}): an id, free text or "
            "dates not written as 2024-12-31; name it under data.ignore",
        )

    def _example(self, texts: Container[str]) -> str:
        return self.cells.example(texts)

    def _ambiguous(self) -> str:
        marked = {text for text in self.present if "," in text or "." in text}
        return (
            "has numbers whose comma or point may stand before decimals or between thousands: "
            f"{self._example(marked)}; say how 1234.5 is written there: "
            "data.numbers: {COLUMN: '1,234.5'} or {COLUMN: '1.234,5'}"
        )

    def _day_or_month(self, forms: Sequence[str]) -> str:
        ways = " or ".join(f"{{COLUMN: '{form}'}}" for form in forms)
        return f"has dates that may be read in several ways: {self._example(self.present)}; say how: data.dates: {ways}"


_AMOUNT = re.compile(r"[+-]?[0-9][0-9.,' ]*\s[^\W\d_]{1,4}")
"""A number, a blank and a unit."""

_DATE_INSIDE = re.compile(
    r"(?<![0-9])[12][0-9]{3}-[01][0-9]-[0-3][0-9](?![0-9])|(?<![0-9])[0-3]?[0-9]\.?\s+[^\W\d_]{3,9}\.?,?\s+[12][0-9]{3}(?![0-9])"
)
"""A day, with its month in digits or in letters, wherever it stands in a text."""

_LEADING_ZERO = re.compile(r"[+-]?0[0-9]+")
_BLOCK = re.compile(r"[0-9]+E[0-9]+")
_DIGITS = re.compile(r"[+-]?[0-9]+")


def _are_codes(texts: Sequence[str]) -> bool:
    """Whether what could be numbers are names: with leading zeros, too long for a float, or blocks like 1E1."""
    if any(_LEADING_ZERO.fullmatch(text) or _is_long(text) for text in texts):
        return True
    return any(map(_BLOCK.fullmatch, texts)) and all(_BLOCK.fullmatch(t) or _DIGITS.fullmatch(t) for t in texts)


def _is_long(text: str) -> bool:
    """Whether a whole number has more digits than a float keeps."""
    return len(text) > 15 and bool(_DIGITS.fullmatch(text)) and (len(text) > 300 or int(float(text)) != int(text))


def _has_long(cells: Cells) -> bool:
    """Whether typed whole numbers are longer than a float keeps."""
    assert cells.numbers is not None
    return bool((np.abs(cells.numbers) > 2**53).any()) and any(_is_long(text) for text in cells.texts)


def _way(text: str) -> tuple[str, ...] | None:
    """The unit and the forms of a number; None where a text is none, or has a unit that may as well be a word."""
    if not math.isnan(plain(text)):
        return ("", PLAIN)
    parts = split(text)
    if parts is None or is_word(parts.unit):
        return None
    forms = forms_of([parts.body])
    return (parts.unit, *forms) if forms else None


def _measured(reading: Reading, cells: Cells) -> Reading:
    """With what only the numbers of a column show: values out of range, of one kind, or far from all others."""
    if not reading.form or reading.refusal:
        return reading
    numbers, _ = read_numbers(cells, reading.form, reading.unit)
    with np.errstate(invalid="ignore"):
        too_large = np.abs(numbers) > LARGEST
    if too_large.any():
        first = int(too_large.argmax())
        return replace(reading, refusal=f"row {first + 1} is {numbers[first]:g}; allowed: numbers from -1e30 to 1e30")
    distinct, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
    if not len(distinct):
        return replace(reading, kind="empty")
    if len(distinct) == 1 and counts[0] == len(numbers):
        return replace(reading, kind="constant")
    return replace(reading, remarks=(*reading.remarks, *_standing_apart(reading.kind, distinct, counts)))


def _standing_apart(kind: Kind, distinct: Numbers, counts: Codes) -> tuple[str, ...]:
    """A value of several rows that is very far from all others is perhaps a mark of a missing one."""
    if len(distinct) < 5:
        return ()
    remarks = []
    for end, next_, other in ((-1, -2, 0), (0, 1, -1)):
        distance, extent = abs(distinct[end] - distinct[next_]), abs(distinct[next_] - distinct[other])
        if counts[end] > 1 and distance > 10 * extent:
            value, away = f"{distinct[end]:.15g}", f"{distance:.3g}"
            if kind == "date":
                value = str(dt.date(1970, 1, 1) + dt.timedelta(days=float(distinct[end])))
                away = f"{distance / 365.2425:,.0f} years"
            rows = count(int(counts[end]), "row")
            remarks.append(f"has {value} in {rows}, {away} from all other values: a mark for a missing one?")
    return tuple(remarks)


# --- for readers ------------------------------------------------------------------------------------


def read_numbers(cells: Cells, form: str, unit: str = "") -> tuple[Numbers, Flags]:
    """The numbers of cells in a known form, NaN where one is missing, and the rows that hold something else."""
    if cells.numbers is not None:
        return cells.numbers, np.zeros(len(cells.numbers), dtype=bool)
    numbers = cells.known.get((form, unit))
    if numbers is None:
        numbers = np.array([number(text, form, unit) for text in cells.texts], dtype=float)
        cells.known[form, unit] = numbers
    bad = np.isnan(numbers)
    for place in np.flatnonzero(bad):
        text = cells.texts[place]
        bad[place] = not (is_gap(text) or text in MARKERS or text.lower() in MARKERS_AMONG_NUMBERS)
    return numbers[cells.codes], bad[cells.codes]


def as_numbers(column: pd.Series[Any], where: str, form: str = "", unit: str = "") -> Numbers:
    """The numbers of a column in a known form, or in the one that its cells show.

    Raises:
        DataError: If a value is no number in that form, is infinite or beyond `LARGEST`.
    """
    cells = cells_of(column, where)
    if not form:
        shown_form = decide(cells)
        form, unit = (shown_form.form or PLAIN), shown_form.unit
    numbers, bad = read_numbers(cells, form, unit)
    with np.errstate(invalid="ignore"):
        bad |= np.abs(numbers) > LARGEST
    if bad.any():
        first = int(bad.argmax())
        given = shown(column.iloc[first])
        if abs(numbers[first]) > LARGEST:
            raise DataError(f"{where}, row {first + 1} is {given}; allowed: numbers from -1e30 to 1e30")
        how = "" if form == PLAIN and not unit else f" written as {form}{unit and f' with {unit}'}"
        raise DataError(f"{where}, row {first + 1} is {given}; allowed: numbers{how}")
    return numbers


def names_of(cells: Cells, is_missing: Callable[[str], bool], name: Callable[[str], str] = label) -> Texts:
    """The texts of cells as names of categories, None where one is missing."""
    names: Texts = np.array([None if is_missing(text) else name(text) for text in cells.texts], dtype=object)
    rows: Texts = names[cells.codes]
    return rows


def as_names(column: pd.Series[Any], where: str) -> Texts:
    """The values of a column as names of categories, None where there is none.

    Raises:
        DataError: If a value is neither text, number, boolean nor date.
    """
    return names_of(cells_of(column, where), is_gap)


def how_read(column: Column) -> str:
    """How the numbers of a column are written, where it is not as programs write them: `read as 1.234,5, in €, `."""
    usual = {"date": ISO, "time": CLOCK, "boolean": TRUTH}.get(column.kind, PLAIN)
    form = "" if column.form in ("", usual) else f"read as {column.form}, "
    return form + (f"in {column.unit}, " if column.unit else "")


def shown(value: object) -> str:
    """A value as a message shows it: in quotes and in one line, never more than a few words."""
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(value))
    return f'"{text}"' if len(text) <= 40 else f'"{text[:37]}..."'


def count(n: int, noun: str) -> str:
    """A number of things: `1 row`, `2 rows`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
