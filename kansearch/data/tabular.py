"""Tables with one column to predict: scikit-learn's bundled sets, and CSV, TSV and Parquet files."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from kansearch.data.columns import MISSING, Numbers, as_numbers, as_texts, column_values, shown
from kansearch.data.leaks import leak_warnings
from kansearch.data.roles import Roles, read_roles
from kansearch.errors import DataError
from kansearch.specs.data import ROLES, TABLE_SUFFIXES, DataSpec
from kansearch.specs.metrics import Task

Classes = Int64[np.ndarray, "N"]

# A text may be longer than the 131,072 characters that Python's CSV reader lets a field have.
csv.field_size_limit(2**31 - 1)

MAX_CLASSES = 1000
"""Of a classification target; more of them are numbers in disguise."""


@dataclass(frozen=True, eq=False)
class Table:
    """All rows that have a target, not yet split.

    Attributes:
        source: The file or the set, as a message begins.
        features: Columns of float64 with NaN where a value is missing, or of str with None there.
        target: Index of the class, or the value.
        class_names: In the order of their indices; () in regression.
        n_dropped: Rows of the file without a target.
        content: SHA-256 of the raw data, in hex.
        roles: What columns that are no inputs say of each row.
        warnings: What its author should know.
    """

    source: str
    features: pd.DataFrame
    target: Classes | Numbers
    class_names: tuple[str, ...]
    n_dropped: int
    content: str
    roles: Roles = field(default_factory=Roles)
    warnings: tuple[str, ...] = ()


def load_table(spec: DataSpec) -> Table:
    """The table of a bundled set or of a file.

    Raises:
        DataError: If the file cannot be read, or is no table that can be learned from.
    """
    return _bundled(spec.name) if spec.name is not None else _from_file(spec)


def _bundled(name: str) -> Table:
    from sklearn import datasets  # noqa: PLC0415 - it takes as long as torch, and files need it not

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    features = bunch.data.astype(float)
    is_regression = "target_names" not in bunch
    target = bunch.target.to_numpy(dtype=float if is_regression else np.int64)
    return Table(
        source=name,
        features=features,
        target=target,
        class_names=() if is_regression else tuple(str(name) for name in bunch.target_names),
        n_dropped=0,
        content=hashlib.sha256(features.to_numpy().tobytes() + target.tobytes()).hexdigest(),
    )


def _from_file(spec: DataSpec) -> Table:
    assert spec.path is not None
    assert spec.target is not None
    source = str(spec.path)
    raw = _read_bytes(spec.path)
    table = _parse(spec.path, raw)
    _look_up(table, [spec.target], f"{source} has no column", "data.target")
    _look_up(table, spec.ignore, f"{source} has no column to ignore called", "data.ignore")
    roles = {key: name for key in ROLES if (name := getattr(spec, key)) is not None}
    for key, name in roles.items():
        _look_up(table, [name], f"{source} has no column", f"data.{key}")
    unseen = {spec.target, *spec.ignore, *roles.values()}
    names = [name for name in table.columns if name not in unseen]
    if spec.text is not None:
        _look_up(table, [spec.text], f"{source} has no column", "data.text")
        names = [spec.text]
    if not names:
        raise DataError(f'{source} has no column but the target "{spec.target}" and the ignored ones to learn from')

    where = f'{source}: target column "{spec.target}"'
    if spec.resolved_task is Task.CLASSIFICATION:
        target, class_names = _classes(table[spec.target], where)
        present = target >= 0
    else:
        target, class_names = _values(table[spec.target], where), ()
        present = ~np.isnan(target)
    if not present.any():
        raise DataError(f"{where} is empty in every row")
    # Of texts nothing is asked: whatever has no words is an empty one.
    features = {
        name: table[name].to_numpy(dtype=object)[present]
        if name == spec.text
        else column_values(table[name], f'{source}: column "{name}"')[present]
        for name in names
    }
    return Table(
        source=source,
        # A text column stays `object`: pandas' own text type has another mark for a missing value.
        features=pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in features.items()}),
        target=target[present],
        class_names=class_names,
        n_dropped=int((~present).sum()),
        content=hashlib.sha256(raw).hexdigest(),
        roles=read_roles(table, present, spec, source),
        warnings=leak_warnings(table[present], target[present], spec),
    )


def _look_up(table: pd.DataFrame, wanted: Iterable[str], message: str, key: str) -> None:
    names = [str(name) for name in table.columns]
    for name in wanted:
        if name not in names:
            lower = {other.lower(): other for other in names}
            close = difflib.get_close_matches(name.lower(), lower, n=1)
            near = f'; did you mean "{lower[close[0]]}"?' if close else ""
            listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise DataError(f'{message} "{name}" ({key}){near}; its columns: {listed}')


# --- target -----------------------------------------------------------------------------------------


def _classes(column: pd.Series[Any], where: str) -> tuple[Classes, tuple[str, ...]]:
    """Index of each row's class, -1 where it is missing, and the names: numbers by value, texts by alphabet."""
    texts = as_texts(column, where)
    counts = Counter(text for text in texts if text is not None)
    n_rows = counts.total()
    if len(counts) == 1:
        raise DataError(f"{where} has one class only, {shown(next(iter(counts)))}; there is nothing to tell apart")
    if len(counts) > min(MAX_CLASSES, max(2, n_rows / 2)):
        raise DataError(
            f"{where} has {len(counts)} classes in {n_rows} rows; allowed: at most {MAX_CLASSES} and half the rows "
            "(numbers to predict are data.task: regression)"
        )
    numbers, bad = as_numbers(column, where)
    order = sorted(counts) if bad.any() else sorted(counts, key=dict(zip(texts, numbers, strict=True)).__getitem__)
    place = {name: index for index, name in enumerate(order)}
    return np.array([-1 if text is None else place[text] for text in texts], dtype=np.int64), tuple(order)


def _values(column: pd.Series[Any], where: str) -> Numbers:
    numbers, bad = as_numbers(column, where)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"{where}, row {first + 1} is {shown(column.iloc[first])}; regression needs numbers "
            "(names to tell apart are data.task: classification)"
        )
    return numbers


# --- files ------------------------------------------------------------------------------------------


def read_table(path: Path) -> pd.DataFrame:
    """The columns of a CSV, TSV or Parquet file as they stand there.

    A first column without a name is a row index that pandas has written, and is left out.

    Raises:
        DataError: If the file cannot be read or is no table.
    """
    return _parse(path, _read_bytes(path))


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


def _parse(path: Path, raw: bytes) -> pd.DataFrame:
    table = _parse_parquet(path, raw) if path.suffix.lower() == ".parquet" else _parse_text(path, raw)
    if table.empty:
        raise DataError(f"{path} has no rows")
    return table


def _parse_parquet(path: Path, raw: bytes) -> pd.DataFrame:
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        _check_header(path, file.schema_arrow.names)
        # Its pandas metadata would turn columns into an index.
        table: pd.DataFrame = file.read().to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no Parquet file, or a broken one: {str(error).splitlines()[0]}") from None
    return table.drop(columns=[name for name in table.columns if str(name).startswith("__index_level_")])


def _parse_text(path: Path, raw: bytes) -> pd.DataFrame:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 (byte {error.start + 1}); save it as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path} is binary, no CSV: it has NUL characters")
    separator = _separator(text, "\t" if path.suffix.lower() == ".tsv" else ",")
    header = _check_lines(path, text, separator)
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=0,
            names=list(range(len(header))),
            index_col=False,
            skipinitialspace=True,
            na_values=list(MISSING),
            low_memory=False,
        )
    except (pd.errors.ParserError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is no table: {str(error).splitlines()[0]}") from None
    table.columns = pd.Index(header)
    return table.drop(columns="") if "" in header else table


def _separator(text: str, usual: str) -> str:
    """The usual separator, unless it leaves the header whole and another one does not."""
    header = text.lstrip("\r\n").partition("\n")[0]
    n_usual = _fields(header, usual)
    return usual if n_usual > 1 else max((usual, ",", ";", "\t"), key=lambda separator: _fields(header, separator))


def _fields(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator), ()))
    except csv.Error:
        return 0


def _check_lines(path: Path, text: str, separator: str) -> list[str]:
    """The header, when every line has as many values as it has names.

    pandas fills up short lines with nothing and makes an index of what is too long, so we count.
    """
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header: list[str] | None = None
    try:
        for values in lines:
            if not values:
                continue
            if header is None:
                header = [name.strip() for name in values]
                _check_header(path, header)
            elif len(values) != len(header):
                raise DataError(
                    f"{path}, line {lines.line_num} has {_count(len(values), 'value')}; "
                    f"the header has {_count(len(header), 'name')}"
                )
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num} is no CSV: {error}") from None
    assert header is not None
    return header


def _check_header(path: Path, names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1 and name:
        raise DataError(f'{path} has {count} columns called "{name}"; give each a name of its own')
    nameless = [position for position, name in enumerate(names, start=1) if not name and position > 1]
    if nameless:
        raise DataError(f"{path} has no name for column {nameless[0]}; give it one")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
