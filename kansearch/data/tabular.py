"""Tables with one column to predict: scikit-learn's bundled sets, and CSV, TSV and Parquet files."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from kansearch.data.columns import (
    MARKERS,
    NOTHING,
    Cells,
    Numbers,
    Reading,
    Texts,
    Wanted,
    count,
    decide,
    how_read,
    is_gap,
    label,
    names_of,
    shown,
)
from kansearch.data.files import INDEX, TableFile, one_line, read_table
from kansearch.data.forms import plain
from kansearch.data.leaks import leak_warnings
from kansearch.data.roles import Roles, read_roles
from kansearch.errors import DataError
from kansearch.specs.columns import Column
from kansearch.specs.data import ROLES, DataSpec
from kansearch.specs.metrics import Task

Classes = Int64[np.ndarray, "N"]

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
        content: SHA-256, in hex, of the raw data and of how they were read where the first kansearch read otherwise.
        columns: All of a file, the target first; () of a bundled set.
        roles: What columns that are no inputs say of each row.
        warnings: What a person should know of the file, one sentence each.
    """

    source: str
    features: pd.DataFrame
    target: Classes | Numbers
    class_names: tuple[str, ...]
    n_dropped: int
    content: str
    columns: tuple[Column, ...] = ()
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
    wanted = _wanted(spec)
    named = {key: name for key in ROLES if (name := getattr(spec, key)) is not None}
    file = read_table(spec.path, {spec.target, *spec.ignore, *wanted, *filter(None, [spec.text]), *named.values()})
    target_name = name_in(file, spec.target, "data.target")
    ignored = {name_in(file, name, "data.ignore", "has no column to ignore called") for name in spec.ignore}
    asked = {name_in(file, name, _KEYS[what.kind]): what for name, what in wanted.items()}
    roles = {key: name_in(file, name, f"data.{key}") for key, name in named.items()}
    unseen = {target_name, *ignored, *roles.values()}
    names = [name for name in file.columns if name not in unseen]
    if spec.text is not None:
        names = [name_in(file, spec.text, "data.text")]
    if not names:
        raise DataError(
            f'{file.source} has no column but the target "{target_name}" and the ignored ones to learn from'
        )

    target = _target(file, target_name, spec, asked.get(target_name, NOTHING))
    if not target.present.any():
        raise DataError(f"{target.where} is empty in every row")
    inputs = [
        _text_input(file, name) if name == spec.text else _input(file, name, asked.get(name, NOTHING)) for name in names
    ]
    why = {**dict.fromkeys(ignored, "data.ignore"), **{name: f"data.{key}" for key, name in roles.items()}}
    unused = [
        _unused(file, name, why.get(name, "only data.text is read"))
        for name in file.columns
        if name not in (target_name, *names)
    ]
    index = [f"left out: {column.name}" for column in file.left_out if column.done.endswith(INDEX)]
    readings = [read for read in (target.read_as, *(found.read_as for found in inputs), *index) if read]
    content = file.content
    if readings:
        content = hashlib.sha256(f"{content} {readings}".encode()).hexdigest()
    return Table(
        source=file.source,
        # A text column stays `object`: pandas' own text type has another mark for a missing value.
        features=pd.DataFrame(
            {
                found.column.name: pd.Series(rows, dtype=rows.dtype)
                for found in inputs
                for rows in [found.rows[target.present]]
            }
        ),
        target=target.rows[target.present],
        class_names=target.class_names,
        n_dropped=int((~target.present).sum()),
        content=content,
        roles=read_roles(file, roles, target.present, asked),
        columns=(target.column, *(found.column for found in inputs), *unused, *file.left_out),
        warnings=(
            *(f"{file.name}: {remark}" for remark in file.remarks),
            *target.warnings,
            *(warning for found in inputs for warning in found.warnings),
            *leak_warnings(file, target.rows, target.present, spec, asked),
        ),
    )


_KEYS = {"category": "data.categories", "number": "data.numbers", "date": "data.dates"}


def _wanted(spec: DataSpec) -> Mapping[str, Wanted]:
    """What the study says of its columns."""
    return {
        **{name: Wanted("category") for name in spec.categories},
        **{name: Wanted("number", form) for name, form in spec.numbers.items()},
        **{name: Wanted("date", form) for name, form in spec.dates.items()},
    }


def name_in(file: TableFile, name: str, key: str, message: str = "has no column") -> str:
    """The name of a column as its file has it.

    Args:
        file: That has the column.
        name: As somebody wrote it.
        key: Where he wrote it.
        message: What is said of the file if there is none.

    Raises:
        DataError: If there is none.
    """
    wanted = one_line(name)
    names = list(file.columns)
    if wanted in names:
        return wanted
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(wanted.lower(), lower, n=1)
    near = f'; did you mean "{lower[close[0]]}"?' if close else ""
    if not file.has_header:
        raise DataError(f'{file.source} {message} "{wanted}" ({key}): {file.remarks[-1]}')
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise DataError(f'{file.source} {message} "{wanted}" ({key}){near}; its columns: {listed}')


# --- inputs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Read:
    """A column that was read.

    Attributes:
        rows: What all rows hold.
        column: What it is.
        read_as: How, where the first kansearch read it in another way; else "".
        warnings: What a person should know of it.
    """

    rows: Numbers | Texts
    column: Column
    read_as: str
    warnings: tuple[str, ...]


def _input(file: TableFile, name: str, wanted: Wanted) -> _Read:
    where = f"{file.source}: column {_quoted(name)}"
    reading = decide(file.columns[name], wanted)
    if reading.refusal:
        raise DataError(sentence(where, reading.refusal))
    values = reading.values(file.columns[name])
    return _Read(
        values,
        _column(name, reading, values),
        f"{name}: {reading.kind} {reading.form} {reading.unit} {sorted(reading.gaps)}" if reading.is_new else "",
        tuple(sentence(f"{file.name}: column {_quoted(name)}", remark) for remark in reading.remarks),
    )


def _text_input(file: TableFile, name: str) -> _Read:
    """Of texts nothing is asked: whatever has no words is an empty one."""
    cells = file.columns[name]
    reading = decide(cells)
    if not reading.form or reading.refusal:
        reading, values = Reading("text"), names_of(cells, is_gap, str)
    else:
        values = reading.values(cells)
    markers = sorted(text for text in cells.texts if text in MARKERS)
    return _Read(values, _column(name, reading, values), f"{name}: texts {markers}" if markers else "", ())


def _unused(file: TableFile, name: str, why: str) -> Column:
    try:
        reading = decide(file.columns[name])
        column = _column(name, reading, reading.values(file.columns[name]))
    except DataError:  # it may hold anything
        column = Column(name=name, kind="other", role="left out", gaps=0, distinct=0)
    return column.model_copy(update={"role": "left out", "done": f"left out ({why})"})


def _column(name: str, reading: Reading, values: Numbers | Texts) -> Column:
    missing = pd.isna(values)
    return Column(
        name=name,
        kind=reading.kind,
        role="input",
        gaps=int(missing.sum()),
        distinct=len(pd.unique(values[~missing])),
        form=reading.form,
        unit=reading.unit,
    )


def sentence(where: str, what: str) -> str:
    """What is to be said of a place: `x.csv: column "a" has ...`, `x.csv: column "a", row 3 is ...`."""
    return f"{where}, {what}" if what.startswith("row ") else f"{where} {what}"


def _quoted(name: str) -> str:
    return f'"{name}"' if len(name) <= 100 else f'"{name[:97]}..."'


# --- target -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Target(_Read):
    """The column to predict, likewise.

    Attributes:
        where: The file and the column, as a message begins.
        present: The rows that have a target.
        class_names: As `Table` has them.
    """

    where: str
    present: np.ndarray
    class_names: tuple[str, ...]


def _target(file: TableFile, name: str, spec: DataSpec, wanted: Wanted) -> _Target:
    place = f"target column {_quoted(name)}"
    where = f"{file.source}: {place}"
    cells = file.columns[name]
    if spec.resolved_task is Task.CLASSIFICATION:
        return _classes(cells, name, where, f"{file.name}: {place}")
    reading = decide(cells, wanted, is_target=True)
    if reading.refusal and (reading.form or wanted.kind):
        raise DataError(sentence(where, reading.refusal))
    if not reading.form:
        raise DataError(f"{where}, {_no_number(cells)}")
    values = reading.values(cells)
    column = _column(name, reading, values)
    column = column.model_copy(update={"role": "target", "done": f"{how_read(column)}predicted"})
    read_as = f"target: {reading.form} {reading.unit} {sorted(reading.gaps)}" if reading.is_new else ""
    warnings = tuple(sentence(f"{file.name}: {place}", remark) for remark in reading.remarks)
    return _Target(values, column, read_as, warnings, where, ~np.isnan(values), ())


def _no_number(cells: Cells) -> str:
    """Why a column of texts is no target of a regression: its first one."""
    bad = [text for text in cells.texts if not is_gap(text) and np.isnan(plain(text))] or list(cells.texts)
    if bad[0] in MARKERS:
        why = "in a target only empty cells, ? and NaN are missing; data.numbers takes whatever is no number for that"
    else:
        why = "regression needs numbers (names to tell apart are data.task: classification)"
    return f"{cells.example({bad[0]})}; {why}"


def _exact(texts: Collection[str]) -> dict[str, Decimal] | None:
    """Texts as the numbers that they are, since two codes of 18 digits may be the same float; None if one is none."""
    if not all(np.isfinite(plain(text)) for text in texts):
        return None
    try:
        return {text: Decimal(text) for text in texts}
    except InvalidOperation:  # an exponent of twenty digits
        return None


def _classes(cells: Cells, name: str, where: str, place: str) -> _Target:
    """Classes as they stand: numbers by value, texts by alphabet."""
    names = {text: label(text) for text in cells.texts if not is_gap(text)}
    if not names:
        raise DataError(f"{where} is empty in every row")
    found = set(names.values())
    n_rows = cells.count(names)
    if len(found) == 1:
        raise DataError(f"{where} has one class only, {shown(next(iter(found)))}; there is nothing to tell apart")
    if len(found) > min(MAX_CLASSES, max(2, n_rows / 2)):
        raise DataError(
            f"{where} has {len(found)} classes in {n_rows} rows; allowed: at most {MAX_CLASSES} and half the rows "
            "(numbers to predict are data.task: regression)"
        )
    exact = _exact(found)
    are_numbers = exact is not None
    order = sorted(found) if exact is None else sorted(found, key=lambda text: (exact[text], text))
    places = {text: index for index, text in enumerate(order)}
    index = np.array([places[names[text]] if text in names else -1 for text in cells.texts], dtype=np.int64)
    values: Any = index[cells.codes]
    warnings = [
        f"{place} has {count(cells.count({text}), 'cell')} {shown(text)}, a class of its own; empty cells are missing"
        for text in cells.texts
        if text in MARKERS
    ]
    merged = sorted(text for text in names if names[text] != text and names[text] in names)
    if merged:
        warnings.append(f"{place}: {shown(merged[0])} and {shown(names[merged[0]])} are one class, as the same number")
    column = Column(
        name=name,
        kind="category",
        role="target",
        gaps=int((values < 0).sum()),
        distinct=len(order),
        done=f"predicted: {len(order)} classes",
    )
    is_new = (
        any(text in MARKERS for text in names)
        or (are_numbers and len({float(text) for text in found}) < len(found))
        or (len(found) > 2 and all(text.lower() in ("true", "false") for text in found))
    )
    read_as = f"target: {order}" if is_new else ""
    return _Target(values, column, read_as, tuple(warnings), where, values >= 0, tuple(order))
