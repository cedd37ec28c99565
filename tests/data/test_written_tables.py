"""Whatever is written to a table is read back as it was written, or refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kansearch.data.tabular import Table, load_table
from kansearch.errors import DataError
from kansearch.specs.metrics import Task

from .tables import spec_of
from .written import File, Written, files


def name_of(column: Written) -> str:
    """The name without line breaks and blanks around, as it is shown."""
    return re.sub(r"\s*[\r\n]+\s*", " ", column.name.strip())


def assert_read_back(file: File, table: Table) -> None:
    """Every value is there: numbers to the last bit, texts letter by letter, and gaps where nothing was written."""
    present = [value is not None for value in file.target.values]
    columns = [*file.inputs, file.target]
    has_blank = file.path.suffix != ".parquet" and not any(column.name == "column 1" for column in table.columns)
    n_blank = sum(has_blank and not any(cells) for cells in zip(*(column.cells for column in columns), strict=True))
    assert table.n_dropped == present.count(False) - n_blank
    kept = [value for value in file.target.values if value is not None]
    if table.class_names:
        assert [table.class_names[index] for index in table.target] == kept
    else:
        assert list(table.target) == kept
    kinds = {column.name: column.kind for column in table.columns}
    gaps = {column.name: column.gaps for column in table.columns}
    assert list(table.features.columns) == [name_of(column) for column in file.inputs]
    for column in file.inputs:
        name = name_of(column)
        read = table.features[name]
        if not column.is_plain:
            if read.dtype != object:
                # A number that was read is one that was written.
                written = {float(cell) for cell in column.cells if re.fullmatch(r"[0-9.]+", cell)}
                assert kinds[name] in ("number", "constant", "empty") or written == set()
            continue
        expected = [value for value, is_there in zip(column.values, present, strict=True) if is_there]
        if read.dtype == object:
            assert [None if text is None else text for text in read] == expected
        else:
            np.testing.assert_array_equal(read, np.array(expected, dtype=float))
            # The sign of a zero, too.
            assert list(np.signbit(read)) == list(np.signbit(np.array(expected, dtype=float)))
        assert gaps[name] == column.values.count(None) - n_blank
        if column.kind:
            assert kinds[name] in (column.kind, "constant", "empty")


def check(folder: Path, data: st.DataObject) -> None:
    file = data.draw(files(folder))
    task = Task.REGRESSION if file.target.kind == "number" else Task.CLASSIFICATION
    spec = spec_of(file.path, target=name_of(file.target), task=task)
    try:
        table = load_table(spec)
    except DataError as error:
        assert not file.is_plain, error  # noqa: PT017 - what is plain has to be read
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert_read_back(file, table)


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=250, derandomize=True, suppress_health_check=QUIET)
@given(data=st.data())
def test_what_is_written_is_read_back(tmp_path: Path, data: st.DataObject) -> None:
    """Names, separators, encodings, marks for gaps, forms of numbers and dates, codes and extreme values."""
    check(tmp_path, data)


@pytest.mark.slow
@settings(max_examples=2000, suppress_health_check=QUIET)
@given(data=st.data())
def test_what_is_written_is_read_back_however_often(tmp_path: Path, data: st.DataObject) -> None:
    """The same on 2,000 tables that differ from run to run."""
    check(tmp_path, data)
