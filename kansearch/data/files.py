"""Table files as people and programs write them: from bytes to columns of cells, with what had to be guessed."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import charset_normalizer
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kansearch.data.columns import Cells, cells_of, count, is_gap, shown
from kansearch.data.forms import plain, split
from kansearch.errors import DataError
from kansearch.specs.columns import Column
from kansearch.specs.data import TABLE_SUFFIXES

SEPARATORS = (",", ";", "\t", "|")

_FIRST = 1000
"""So many records show the separator and the header."""

INDEX = "an index that pandas wrote"
"""Why a column is left out that the first release took for an input."""

_END = "\ue000 the end \ue000"
"""Behind the last line of a file; where it is part of a record, a quote was never closed."""

_INDEX = re.compile(r"Unnamed: 0(\.\d+)?|__index_level_\d+__")
"""What pandas calls the index of a table that it wrote without a name."""

_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")


@dataclass(frozen=True, eq=False)
class TableFile:
    """A table as its file has it.

    Attributes:
        source: The file, as a message begins.
        columns: Cells by name, in the order of the file.
        n_rows: Of each column; blank lines are none.
        left_out: Columns that hold nothing to learn from: without a name, or an index that pandas wrote.
        has_header: Whether the names stand in the file; else its columns are called column 1, column 2 ...
        remarks: What was guessed on the way, one sentence each.
        content: SHA-256 of the file, in hex.
    """

    source: str
    columns: Mapping[str, Cells]
    n_rows: int
    left_out: tuple[Column, ...]
    has_header: bool
    remarks: tuple[str, ...]
    content: str

    @property
    def name(self) -> str:
        """The file without its folder, as it is called in a report."""
        return Path(self.source).name


def read_table(path: Path, named: Collection[str] = ()) -> TableFile:
    """The columns of a CSV, TSV or Parquet file.

    Args:
        path: Of the file.
        named: Columns that somebody knows: a first line that has one of them is a header, however it looks.

    Raises:
        DataError: If the file cannot be read or is no table.
    """
    raw = _read_bytes(path)
    if path.suffix.lower() == ".parquet":
        return _parse_parquet(path, raw, {one_line(name) for name in named})
    return _parse_text(path, raw, {one_line(name) for name in named})


def one_line(name: str) -> str:
    """The name of a column without blanks around and without line breaks."""
    return _LINE_BREAK.sub(" ", name.strip())


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; name a table file ({', '.join(TABLE_SUFFIXES)})")
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no file; name a table file ({', '.join(TABLE_SUFFIXES)})")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; a relative path counts from the folder of the study file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the path
        raise DataError(f"{str(path)!r} is no path: {error}") from None
    if not raw.strip():
        raise DataError(f"{path} is empty")
    return raw


# --- Parquet ----------------------------------------------------------------------------------------

_INTEGERS = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}
"""Types of pandas that keep whole numbers whole beside a gap."""


def _parse_parquet(path: Path, raw: bytes, named: Collection[str]) -> TableFile:
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        names = [one_line(name) for name in file.schema_arrow.names]
        _refuse_twice(path, names)
        # Its pandas metadata would turn columns into an index.
        table: pd.DataFrame = file.read().to_pandas(ignore_metadata=True, types_mapper=_INTEGERS.get)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no Parquet file, or a broken one: {str(error).splitlines()[0]}") from None
    if table.empty:
        raise DataError(f"{path} has no rows")
    table.columns = pd.Index(names)
    # What cannot be read is refused where it is used: an ignored column may hold anything.
    columns = {str(name): _later(column, f'{path}: column "{name}"') for name, column in table.items()}
    index = [name for name in columns if _INDEX.fullmatch(name) and name not in named and counts_rows(columns[name])]
    left_out = tuple(_left_out(name, columns.pop(name), INDEX) for name in index)
    return TableFile(str(path), columns, len(table), left_out, True, (), hashlib.sha256(raw).hexdigest())


def _later(column: pd.Series, where: str) -> Cells:
    try:
        return cells_of(column, where)
    except DataError as error:
        refusal = error

        def refuse() -> tuple[np.ndarray, tuple[str, ...]]:
            raise refusal

        return Cells(refuse)


def _left_out(name: str, cells: Cells, why: str) -> Column:
    gaps = cells.count(frozenset(filter(is_gap, cells.texts)))
    distinct = sum(not is_gap(text) for text in cells.texts)
    return Column(name=name, kind="other", role="left out", gaps=gaps, distinct=distinct, done=f"left out: {why}")


# --- text -------------------------------------------------------------------------------------------


def _parse_text(path: Path, raw: bytes, named: Collection[str]) -> TableFile:
    text, remarks = _decode(path, raw)
    text, separator = _without_separator_line(text)
    if not separator:
        separator, others = _separator(text, "\t" if path.suffix.lower() == ".tsv" else ",")
        remarks += [f"its values are separated by {shown(separator)}, and not by {shown(other)}" for other in others]
    if not text.strip():
        raise DataError(f"{path} is empty")
    with _any_length():
        first = [values for values, _ in itertools.islice(_records(path, text, separator), _FIRST)]
        if not first:
            raise DataError(f"{path} has no rows")
        names = [one_line(name) for name in first[0]]
        has_header = bool(set(names) & set(named)) or not _looks_like_data(first)
        if has_header:
            _refuse_twice(path, names)
        else:
            remarks.append(
                f"its first line looks like data ({_listed(first[0])}), so its columns are called column 1 to "
                f"column {len(names)}"
            )
            names = [f"column {place}" for place in range(1, len(names) + 1)]
            while len(names) > 1 and not any(
                values[len(names) - 1 :] and values[len(names) - 1].strip() for values in first
            ):
                names.pop()
        columns, n_blank = _columns(path, text, separator, names, has_header=has_header)
    n_rows = len(columns[0].codes)
    if not n_rows:
        raise DataError(f"{path} has no rows")
    if n_blank:
        remarks.append(f"{count(n_blank, 'line')} of empty cells left out")
    kept: dict[str, Cells] = {}
    left_out: list[Column] = []
    for place, (name, cells) in enumerate(zip(names, columns, strict=True)):
        if not name and all(map(is_gap, cells.texts)):
            left_out.append(_left_out(f"column {place + 1}", cells, "no name and no values"))
        elif not name and place == 0:
            left_out.append(_left_out("column 1", cells, "without a name, as pandas writes an index"))
        elif not name:
            raise DataError(f"{path} has no name for column {place + 1}; give it one")
        elif _INDEX.fullmatch(name) and name not in named and counts_rows(cells):
            left_out.append(_left_out(name, cells, INDEX))
        else:
            kept[name] = cells
    return TableFile(
        str(path), kept, n_rows, tuple(left_out), has_header, tuple(remarks), hashlib.sha256(raw).hexdigest()
    )


def counts_rows(cells: Cells) -> bool:
    """Whether a column counts the rows from 0 or 1, and nothing else."""
    texts = cells.texts
    if len(texts) != len(cells.codes) or texts[0] not in ("0", "1"):
        return False
    return all(text == str(place) for place, text in enumerate(texts, start=int(texts[0])))


# --- encodings --------------------------------------------------------------------------------------

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_WIDE = ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be")
_LOOKED_AT = 50_000
"""Bytes that show an encoding."""

_FEWEST_LETTERS = 8
"""So many different ones make a text of another script."""

_SURE = 0.2
"""How well letters must go with a language before another encoding than that of Western Europe is taken."""


def _decode(path: Path, raw: bytes) -> tuple[str, list[str]]:
    """The text of a file, and what was guessed: what is no UTF-8 says by no sign what it is."""
    marked = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), None)
    try:
        text = raw.decode(marked or "utf-8")
    except UnicodeDecodeError as error:
        if marked:
            raise DataError(f"{path} is no text in {marked.upper()}, as it begins (byte {error.start + 1})") from None
        return _guess(path, raw, error.start + 1)
    if "\0" in text:
        return _guess(path, raw, text.encode().index(b"\0") + 1)
    return text, [] if marked in (None, "utf-8-sig") else [f"it is text in {marked.upper()}"]


def _guess(path: Path, raw: bytes, bad: int) -> tuple[str, list[str]]:
    refusal = DataError(f"{path} is no text in UTF-8 (byte {bad}); save it as CSV in UTF-8")
    if b"\0" in raw:
        encoding = _wide(raw)
        if encoding is None:
            raise DataError(f"{path} is binary, no CSV: it has NUL characters")
    else:
        told = raw.decode("utf-8", errors="surrogateescape")
        n_bad = sum("\udc80" <= sign <= "\udcff" for sign in told)
        if sum(sign > "\x7f" for sign in told) >= 2 * n_bad:
            raise refusal  # UTF-8 but for a few bytes: a file that was put together of two
        encoding = _single(raw)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        raise refusal from None
    if re.search("[\0-\x08\x0e-\x1f\x7f-\x9f]", text):
        raise refusal
    name = encoding.upper().replace("_", "-")
    return text, [f"it is no UTF-8 and was read as {name}, which is a guess; where letters are wrong, save it as UTF-8"]


def _wide(raw: bytes) -> str | None:
    """The encoding of a text of two or four bytes a sign that does not begin with its mark.

    The library asks for that mark, or guesses. Separators and line ends are letters of ASCII, and in the wrong order
    of bytes they would be none.
    """
    n_ascii: dict[str, int] = {}
    for encoding in _WIDE:
        with suppress(UnicodeDecodeError):
            text = raw.decode(encoding)
            has_lines = "\n" in text or "\r" in text
            n_ascii[encoding] = 0 if "\0" in text or not has_lines else sum(map(str.isascii, text))
    best = max(n_ascii, key=lambda encoding: n_ascii[encoding], default=None)
    return best if best and n_ascii[best] else None


def _single(raw: bytes) -> str:
    """The encoding of a text without NUL: that of Western Europe unless most letters are of another script.

    A few letters with accents say nothing to the library, which then names any encoding that has them.
    """
    telling = b"\n".join(line for line in raw.splitlines() if not line.isascii())[:_LOOKED_AT]
    others = Counter(byte for byte in telling if byte > 0x7F)
    if len(others) >= _FEWEST_LETTERS and others.total() > sum(map(str.isalpha, telling.decode("ascii", "ignore"))):
        found = [match.encoding for match in charset_normalizer.from_bytes(telling) if match.coherence >= _SURE]
        if found:  # what Windows wrote first: files of old Macs are rarer than the library knows
            return next((encoding for encoding in found if encoding.startswith("cp125")), found[0])
    return "cp1252"


# --- records ----------------------------------------------------------------------------------------

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n|\Z)', re.IGNORECASE)


def _without_separator_line(text: str) -> tuple[str, str]:
    """The text without Excel's line `sep=;`, and the separator that it names; "" where there is no such line."""
    found = _SEPARATOR_LINE.match(text)
    return (text[found.end() :], found[1]) if found else (text, "")


@contextmanager
def _any_length() -> Iterator[None]:
    """Cells of any length, which the csv module otherwise refuses."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separator(text: str, usual: str) -> tuple[str, list[str]]:
    """The separator by which whole records agree, and others by which they would agree as well.

    Of several the one that makes most values; of these the one that makes most numbers of them. Where records agree by
    none, the usual one is taken if it is in the header at all, and its first wrong line will be named.
    """
    with _any_length():
        found = {sign: _shape(text, sign) for sign in (usual, *SEPARATORS)}
    agreeing = [sign for sign, (width, agrees, _) in found.items() if agrees and width > 1]
    if agreeing:
        best = max(agreeing, key=lambda sign: (found[sign][0], found[sign][2]))
        return best, [sign for sign in agreeing if sign != best and found[sign][0] == found[best][0]]
    if found[usual][0] > 1:
        return usual, []
    return max(found, key=lambda sign: found[sign][0]), []


def _shape(text: str, separator: str) -> tuple[int, bool, float]:
    """Names in the header, whether all records have as many values, and the share of the values that are numbers."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        records = [record for record in itertools.islice(lines, _FIRST) if record]
    except csv.Error:
        return 0, False, 0.0
    if not records:
        return 0, False, 0.0
    width = _width(records[0])
    agrees = all(len(record) >= width and not any(map(str.strip, record[width:])) for record in records)
    cells = [cell.strip() for record in records[1:] for cell in record[:width]]
    return width, agrees, sum(map(_is_numeric, cells)) / max(1, len(cells))


def _width(header: Sequence[str]) -> int:
    """Names of a header, without what stands behind a trailing separator."""
    width = len(header)
    while width > 1 and not header[width - 1].strip():
        width -= 1
    return width


def _is_numeric(text: str) -> bool:
    return not math.isnan(plain(text)) or split(text) is not None


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[list[str], int]]:
    """The records that hold anything, and the line in which each ends.

    Raises:
        DataError: If the text is no CSV; a quote that is never closed would swallow what follows it.
    """
    lines = csv.reader(io.StringIO(f"{text}\n{_END}", newline=""), delimiter=separator, skipinitialspace=True)
    begin = 1
    try:
        for values in lines:
            if values and values[-1].endswith(_END):
                if values != [_END]:
                    raise DataError(f"{path}, line {begin} opens a quote that is never closed")
                return
            if values:
                yield values, lines.line_num
            begin = lines.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num} is no CSV: {error}") from None


def _columns(path: Path, text: str, separator: str, names: list[str], *, has_header: bool) -> tuple[list[Cells], int]:
    """The cells of all columns, and how many lines are nothing but empty cells.

    Every line has as many values as there are names; beyond the last name there may be empty cells.
    """
    width = len(names)
    n_named = _width(names)
    places: list[defaultdict[str, int]] = []
    for _ in range(width):
        place: defaultdict[str, int] = defaultdict()
        place.default_factory = place.__len__
        places.append(place)
    codes: list[list[int]] = [[] for _ in range(width)]
    n_blank = 0
    records = _records(path, text, separator)
    if has_header:
        next(records)
    for values, line in records:
        if len(values) != width:
            if len(values) < n_named or any(value.strip() for value in values[width:]):
                header = f"the header has {count(n_named, 'name')}" if has_header else f"the first has {width}"
                raise DataError(f"{path}, line {line} has {count(len(values), 'value')}; {header}")
            values = (values + [""] * width)[:width]  # noqa: PLW2901 - the rest is empty
        if width > 1 and not any(map(str.strip, values)):
            n_blank += 1
            continue
        for place, code, value in zip(places, codes, values, strict=True):
            code.append(place[value.strip()])
    return [_cells(code, tuple(place)) for code, place in zip(codes, places, strict=True)], n_blank


def _cells(codes: list[int], texts: tuple[str, ...]) -> Cells:
    array = np.array(codes, dtype=np.int64)
    return Cells(lambda: (array, texts))


# --- headers ----------------------------------------------------------------------------------------


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    name, n_times = max(Counter(filter(None, names)).items(), key=lambda item: item[1], default=("", 0))
    if n_times > 1:
        raise DataError(f"{path} has {n_times} columns called {shown(name)}; give each a name of its own")


def _looks_like_data(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is no header: what stands in it stands below, too, or is a number where numbers are.

    A name above numbers makes it a header, and so do numbers that count on: years, or the names that pandas gives.
    """
    header, rows = [cell.strip() for cell in records[0]], records[1:]
    counted = [int(name) for name in header if name.isdecimal()]
    if len(counted) > 2 and all(after == before + 1 for before, after in itertools.pairwise(counted)):
        return False
    n_like = 0
    for place, name in enumerate(header):
        below = {row[place].strip() for row in rows if place < len(row)}
        below = {cell for cell in below if not is_gap(cell)}
        is_number = not math.isnan(plain(name))
        if below and all(map(_is_numeric, below)):
            if not is_number and not is_gap(name):
                return False
            n_like += is_number
        elif name in below:
            n_like += 1
    return 2 * n_like > len(header)


def _listed(values: Sequence[str]) -> str:
    few = ", ".join(value.strip() for value in values[:5])
    text = few + (", ..." if len(values) > 5 else "")
    return text if len(text) <= 60 else f"{text[:57]}..."
