"""Tables as Hypothesis draws them: what is in them, and how a program or a person may write them to a file."""

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

ALWAYS_MISSING = ("", "?", "NaN", "nan")
MISSING_AMONG_NUMBERS = ("NA", "n/a", "null", "-", "#DIV/0!", "unknown")
WESTERN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüßéèñçåøÅÆ"
ANY = WESTERN + "łżščІдяЖλΩ東京あいう한글ไทย😀"
SIGNS = " -_.,;|\t'\"/()<>{}[]%$#&€\n:="


@dataclass(frozen=True)
class Written:
    """A column with what its cells say and what that means.

    Attributes:
        name: In the header.
        cells: As they are written.
        values: What they mean: numbers, texts, None for a gap.
        kind: That a reader should find; "" where several are right.
        is_plain: Whether it has to be read; else it may be refused.
    """

    name: str
    cells: tuple[str, ...]
    values: tuple[Any, ...]
    kind: str
    is_plain: bool = True


@dataclass(frozen=True)
class File:
    """A table in a file.

    Attributes:
        path: Of the file.
        inputs: Its columns but for the target.
        target: That column.
        is_plain: Whether it has to be read.
    """

    path: Path
    inputs: tuple[Written, ...]
    target: Written
    is_plain: bool


def _words(alphabet: str) -> st.SearchStrategy[str]:
    letters = st.text(alphabet, min_size=1, max_size=8)
    mixed = st.builds("{}{}{}".format, letters, st.text(alphabet + SIGNS, max_size=8), letters)
    return st.one_of(letters, mixed).filter(
        lambda text: text.lower() not in ("nan", "inf", "none", "na", "infinity", "null")
    )


def _grouped(number: float, group: str, mark: str) -> str:
    return f"{number:,.2f}".translate(str.maketrans({",": group, ".": mark}))


_WRITTEN_NUMBERS = {
    "whole": (st.integers(-(10**9), 10**9), str),
    "few": (st.integers(0, 4), str),
    "float": (st.floats(-1e30, 1e30), repr),
    "tiny": (st.floats(-1e-300, 1e-300), repr),
    "decimal comma": (st.integers(-99999, 99999), lambda n: f"{n / 10:.1f}".replace(".", ",")),
    "thousands": (st.integers(-(10**8), 10**8), lambda n: _grouped(n / 100, ",", ".")),
    "German thousands": (st.integers(-(10**8), 10**8), lambda n: _grouped(n / 100, ".", ",")),
    "Swiss thousands": (st.integers(-(10**8), 10**8), lambda n: _grouped(n / 100, "'", ".")),
    "dollars": (st.integers(0, 10**8), lambda n: f"${n / 100:,.2f}"),
    "euros": (st.integers(0, 10**8), lambda n: _grouped(n / 100, ".", ",") + " €"),
    "percent": (st.integers(-100, 100), lambda n: f"{n}%"),
    "kilograms": (st.integers(1, 10**4), lambda n: f"{n / 10} kg"),
}
_SCALE = {
    "decimal comma": 10, "thousands": 100, "German thousands": 100, "Swiss thousands": 100, "dollars": 100,
    "euros": 100, "kilograms": 10,
}  # fmt: skip
_DATES = st.dates(dt.date(1900, 1, 1), dt.date(2100, 12, 31))
_EPOCH = dt.date(1970, 1, 1)


@st.composite
def numbers(draw: st.DrawFn, name: str, n_rows: int, *, is_target: bool = False) -> Written:
    """A column of numbers in some form."""
    form = draw(st.sampled_from(sorted(_WRITTEN_NUMBERS)))
    strategy, write = _WRITTEN_NUMBERS[form]
    drawn = draw(st.lists(strategy, min_size=n_rows, max_size=n_rows))
    n_kept = 0
    if form == "kilograms":  # the same words in every row may be a name
        drawn[:2] = [1, 2]
        n_kept = 2
    values = [float(value) / _SCALE.get(form, 1) for value in drawn]
    cells = [write(value) for value in drawn]
    return draw(_with_gaps(name, cells, values, "number", is_target=is_target, n_kept=n_kept))


@st.composite
def dates(draw: st.DrawFn, name: str, n_rows: int) -> Written:
    """A column of dates, in a form in which the days of one row at least are no month."""
    form = draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d %b %Y"]))
    drawn = draw(st.lists(_DATES, min_size=n_rows, max_size=n_rows))
    drawn[0] = drawn[0].replace(day=27)
    values = [float((day - _EPOCH).days) for day in drawn]
    # strftime writes years before 1000 in another way than strptime reads them; there are none.
    return draw(_with_gaps(name, [day.strftime(form) for day in drawn], values, "date", n_kept=1))


@st.composite
def truths(draw: st.DrawFn, name: str, n_rows: int) -> Written:
    """A column of true and false."""
    drawn = draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows))
    write = draw(st.sampled_from([str, lambda value: str(value).lower(), lambda value: str(value).upper()]))
    return draw(_with_gaps(name, [write(value) for value in drawn], [float(value) for value in drawn], "boolean"))


@st.composite
def _with_gaps(
    draw: st.DrawFn,
    name: str,
    cells: list[str],
    values: list[float],
    kind: str,
    *,
    is_target: bool = False,
    n_kept: int = 0,
) -> Written:
    markers = ALWAYS_MISSING if is_target else ALWAYS_MISSING + MISSING_AMONG_NUMBERS
    gaps = draw(st.dictionaries(st.integers(n_kept, len(cells) - 1), st.sampled_from(markers), max_size=5))
    return Written(
        name,
        tuple(gaps.get(row, cell) for row, cell in enumerate(cells)),
        tuple(None if row in gaps else value for row, value in enumerate(values)),
        kind,
    )


@st.composite
def categories(draw: st.DrawFn, name: str, n_rows: int, alphabet: str) -> Written:
    """A column of few texts, or of codes that look like numbers."""
    codes = draw(st.booleans())
    code = st.from_regex(r"0[0-9]{1,4}|[1-9][0-9]{17}", fullmatch=True)
    pool = draw(st.lists(code if codes else _words(alphabet), min_size=1, max_size=6, unique=True))
    if codes:
        pool[0] = "007"
    pool = list(dict.fromkeys(pool))
    drawn = [pool[0], *draw(st.lists(st.sampled_from(pool), min_size=n_rows - 1, max_size=n_rows - 1))]
    gaps = draw(st.dictionaries(st.integers(1, n_rows - 1), st.sampled_from(ALWAYS_MISSING), max_size=5))
    return Written(
        name,
        tuple(gaps.get(row, text) for row, text in enumerate(drawn)),
        tuple(None if row in gaps else text for row, text in enumerate(drawn)),
        "" if len(set(drawn)) == 1 else "category",
    )


@st.composite
def doubtful(draw: st.DrawFn, name: str, n_rows: int) -> Written:
    """A column that a reader may well refuse, but must not misread."""
    cell = st.one_of(
        st.sampled_from(
            ["1", "1.5", "1,5", "1,234", "x", "", "NA", "inf", "1e31", "-1e999", "12:30", "1/2/2024", "$5"]
        ),
        st.integers(0, 50).map(str),
    )
    cells = draw(st.lists(cell, min_size=n_rows, max_size=n_rows))
    return Written(name, tuple(cells), tuple(cells), "", is_plain=False)


@st.composite
def classes(draw: st.DrawFn, name: str, n_rows: int, alphabet: str) -> Written:
    """A target of classes, among them words that programs take for a missing value, and codes."""
    special = st.sampled_from(
        ["None", "NA", "null", "N/A", "007", "07", "7", "1E1", "10", "310000000000000001", "3.10"]
    )
    pool = draw(st.lists(st.one_of(special, _words(alphabet)), min_size=2, max_size=5, unique=True))
    drawn = pool + draw(st.lists(st.sampled_from(pool), min_size=n_rows - len(pool), max_size=n_rows - len(pool)))
    gaps = draw(st.dictionaries(st.integers(len(pool), n_rows - 1), st.sampled_from(ALWAYS_MISSING), max_size=5))
    return Written(
        name,
        tuple(gaps.get(row, text) for row, text in enumerate(drawn)),
        tuple(None if row in gaps else text for row, text in enumerate(drawn)),
        "category",
    )


@st.composite
def files(draw: st.DrawFn, folder: Path) -> File:
    """A table in a file of some form, separator and encoding."""
    form = draw(st.sampled_from(["csv", "csv", "tsv", "parquet"]))
    encoding = "utf-8" if form == "parquet" else draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"])
    )  # fmt: skip
    alphabet = WESTERN if encoding in ("cp1252", "latin-1") else ANY
    n_rows = draw(st.integers(20, 40))
    name = st.one_of(_words(alphabet + "0123456789"), st.sampled_from(["2024", "no", "on", "null", "0", "1e3"]))
    names = draw(st.lists(name, min_size=2, max_size=6, unique_by=lambda text: " ".join(text.split())))
    twice = draw(st.integers(0, 9)) == 0
    if twice:
        names.append(names[0])
    columns = [
        draw(
            st.one_of(
                numbers(text, n_rows),
                numbers(text, n_rows),
                dates(text, n_rows),
                truths(text, n_rows),
                categories(text, n_rows, alphabet),
                categories(text, n_rows, alphabet),
                *([doubtful(text, n_rows)] if draw(st.integers(0, 4)) == 0 else []),
            )
        )
        for text in names[1:]
    ]
    target = draw(st.one_of(numbers(names[0], n_rows, is_target=True), classes(names[0], n_rows, alphabet)))
    path = folder / f"table.{form}"
    if form == "parquet":
        # Dates and truth values are numbers there.
        columns = [
            replace(column, kind="number") if column.kind in ("date", "boolean") else column for column in columns
        ]
        _write_parquet(path, [*columns, target])
        is_plain = not twice
    else:
        is_plain = _write_text(draw, path, [target, *columns] if twice else [*columns, target], encoding) and not twice
    return File(path, tuple(columns), target, is_plain and all(column.is_plain for column in columns))


def _write_parquet(path: Path, columns: list[Written]) -> None:
    """Numbers as numbers, texts as texts; of what is doubtful the cells."""
    arrays = [pa.array(column.values if column.kind == "number" else _or_none(column)) for column in columns]
    pq.write_table(pa.Table.from_arrays(arrays, names=[column.name for column in columns]), path)


def _or_none(column: Written) -> list[str | None]:
    return list(column.cells) if not column.is_plain else [None if v is None else str(v) for v in column.values]


def _write_text(draw: st.DrawFn, path: Path, columns: list[Written], encoding: str) -> bool:
    """Write a text file; returns whether its bytes tell how they are to be read."""
    usual = "\t" if path.suffix == ".tsv" else ","
    separator = draw(st.sampled_from([usual, usual, ",", ";", "\t", "|"]))
    out = io.StringIO()
    if draw(st.integers(0, 9)) == 0:
        out.write(f"sep={separator}\n")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end)
    tail = [""] if draw(st.integers(0, 4)) == 0 else []
    index = draw(st.integers(0, 4)) == 0
    rows = zip(*(column.cells for column in columns), strict=True)
    writer.writerow([*([""] if index else []), *(column.name for column in columns), *tail])
    for row, cells in enumerate(rows):
        writer.writerow([*([str(row)] if index else []), *cells, *tail])
    if tail and draw(st.booleans()):
        writer.writerow(["" for _ in range(len(columns) + index + 1)])
    text = out.getvalue()
    try:
        raw = text.encode(encoding)
    except UnicodeEncodeError:  # a sign of €, in Latin-1
        raw = text.encode("utf-8")
        encoding = "utf-8"
    path.write_bytes(raw)
    if encoding in ("cp1252", "latin-1") and not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return True
        return False  # it is a text in UTF-8 as well
    return True
