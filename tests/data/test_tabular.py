"""Table files: what is read from them, and the one clear line that each broken one ends with."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kansearch.data.files import read_table
from kansearch.data.partition import split_rows
from kansearch.data.splits import describe, load_split, load_test
from kansearch.data.tabular import load_table
from kansearch.errors import DataError
from kansearch.specs.metrics import Task

from .tables import people, spec_of, write

ROWS = "\n".join(f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(40))
"""Forty rows of two numbers and a class."""

CLASSIFICATION = {"task": Task.CLASSIFICATION}


# --- what is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".CSV"])
@pytest.mark.parametrize(("target", "task"), [("risk", Task.CLASSIFICATION), ("cost", Task.REGRESSION)])
def test_every_kind_of_file_gives_the_same_tensors(tmp_path: Path, suffix: str, target: str, task: Task) -> None:
    """A table is the same table as CSV, TSV and Parquet."""
    table = people()
    path = tmp_path / f"people{suffix}"
    if suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    reference = tmp_path / "reference.csv"
    table.to_csv(reference, index=False)
    split = load_split(spec_of(path, target=target, task=task))
    same = load_split(spec_of(reference, target=target, task=task))
    torch.testing.assert_close(split.train_x, same.train_x)
    torch.testing.assert_close(split.train_y, same.train_y)
    assert split.feature_names[:4] == ("age", "age (missing)", "income", "member")
    assert [name for name in split.feature_names if name.startswith("town")] == [
        "town=Köln",
        "town=Lyon",
        "town=Oslo",
        "town=Århus, old",
        "town=(other)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a;b;y\n" + ROWS.replace(",", ";"),
        "a\tb\ty\n" + ROWS.replace(",", "\t"),
        "\ufeffa,b,y\n" + ROWS,
        "a,b,y\r\n" + ROWS.replace("\n", "\r\n") + "\r\n\r\n",
        ' a , "b" ,y\n' + ROWS.replace(",", " , "),
        ",a,b,y\n" + "\n".join(f"{i},{row}" for i, row in enumerate(ROWS.split("\n"))),
    ],
    ids=["semicolons", "tabs", "byte order mark", "Windows lines", "blanks", "index written by pandas"],
)
def test_csv_as_programs_write_it(tmp_path: Path, text: str) -> None:
    """The habits of spreadsheets and pandas make no difference."""
    plain = load_split(spec_of(write(tmp_path, "a,b,y\n" + ROWS, "plain.csv"), **CLASSIFICATION))
    split = load_split(spec_of(write(tmp_path, text), **CLASSIFICATION))
    assert split.feature_names == ("a", "b")
    assert split.class_names == ("a", "b")
    assert torch.equal(split.train_x, plain.train_x)
    assert torch.equal(split.train_y, plain.train_y)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["yes", "no", "maybe"], ("maybe", "no", "yes")),
        ([True, False], ("False", "True")),
        ([10, 9, 2], ("2", "9", "10")),
        ([1.0, 2.0, None], ("1", "2")),
        ([0.5, -0.5], ("-0.5", "0.5")),
        (["1", "2", "2b"], ("1", "2", "2b")),
        (["2024-02-01", "2024-01-01"], ("2024-01-01", "2024-02-01")),
        (["nan?", "inf"], ("inf", "nan?")),
    ],
)
def test_classes_of_any_type_keep_their_names(tmp_path: Path, values: list[Any], names: tuple[str, ...]) -> None:
    """Classes are numbered by value where they are numbers, else by alphabet, and keep their names."""
    column = [values[row % len(values)] for row in range(60)]
    path = tmp_path / "table.csv"
    pd.DataFrame({"x": range(60), "y": column}).to_csv(path, index=False)
    split = load_split(spec_of(path, **CLASSIFICATION))
    assert split.class_names == names
    assert split.n_outputs == len(names)
    for x, y in zip(split.train_x, split.train_y, strict=True):
        row = round(float(x[0]) * split.encoder.columns[0].scale + split.encoder.columns[0].mean)  # type: ignore[union-attr]
        assert str(column[row]).removesuffix(".0") == names[y]


@pytest.mark.parametrize("task", list(Task))
def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path, task: Task) -> None:
    """Such rows are in no split; a person reads how many there were."""
    lines = [f"{i},{i % 2 + 1 if i % 4 else ''}" for i in range(80)]
    spec = spec_of(write(tmp_path, "x,y\n" + "\n".join(lines)), task=task)
    split = load_split(spec)
    assert split.n_train + split.n_validation + split.n_test == 60
    assert split.n_dropped == 20
    assert describe(spec, load_split(spec)).endswith("; 20 rows without a target left out")


def test_ignored_columns_reach_no_network(tmp_path: Path) -> None:
    """Not even to be checked: they may hold anything."""
    text = "id,x,y\n" + "\n".join(f"person {i},{i},{i}" for i in range(50))
    path = write(tmp_path, text)
    assert load_split(spec_of(path, ignore=("id",))).feature_names == ("x",)
    with pytest.raises(DataError, match=r'column "id" has 50 different texts in 50 rows'):
        load_split(spec_of(path))


def test_parquet_brings_its_own_types(tmp_path: Path) -> None:
    """Dictionaries, decimals, dates, gaps in whole numbers and booleans, and a pandas index are understood."""
    n = 40
    table = pa.table(
        {
            "dictionary": pa.array(["u", "v"] * (n // 2)).dictionary_encode(),
            "decimal": pa.array([i / 4 for i in range(n)]).cast(pa.decimal128(8, 2)),
            "date": pa.array(range(n), pa.int32()).cast(pa.date32()),
            "time": pa.array(range(n), pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            "gaps": pa.array([None if i % 9 == 0 else i for i in range(n)], pa.int64()),
            "flags": pa.array([None if i % 9 == 0 else i % 2 == 0 for i in range(n)], pa.bool_()),
            "__index_level_0__": pa.array(range(n)),
            "y": pa.array(range(n), pa.float32()),
        }
    )
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    split = load_split(spec_of(path))
    assert split.feature_names == (
        "dictionary=u",
        "dictionary=v",
        "decimal",
        "date",
        "time",
        "gaps",
        "gaps (missing)",
        "flags",
        "flags (missing)",
    )
    assert split.train_x.isfinite().all()


def test_a_named_pandas_index_stays_a_column(tmp_path: Path) -> None:
    """A target that pandas keeps as index is found all the same."""
    path = tmp_path / "table.parquet"
    pd.DataFrame({"x": range(20), "y": [i * i for i in range(20)]}).set_index("y").to_parquet(path)
    assert list(read_table(path).columns) == ["x", "y"]
    assert load_split(spec_of(path)).n_train == 12


def test_a_question_mark_is_a_missing_value(tmp_path: Path) -> None:
    """As in the files of the UCI repository."""
    text = "x,y\n" + "\n".join(f"{'?' if i % 10 == 0 else i},{i}" for i in range(60))
    assert load_split(spec_of(write(tmp_path, text))).feature_names == ("x", "x (missing)")


# --- broken files -----------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty": ("", {}, "{path} is empty"),
    "blank": (" \n\n \n", {}, "{path} is empty"),
    "header only": ("a,b,y\n", {}, "{path} has no rows"),
    "random bytes": (bytes(range(256)) * 4, {}, "{path} is binary, no CSV: it has NUL characters"),
    "bytes of no encoding": (b"a,y\n\x81\x02,1\n", {}, "{path} is no text in UTF-8 (byte 5); save it as CSV in UTF-8"),
    "UTF-8 with a byte of something else": (
        "größe,y\n1,2\nüber,3\n".encode() + b"\xfc,1\n",
        {},
        "{path} is no text in UTF-8 (byte 23); save it as CSV in UTF-8",
    ),
    "UTF-16 cut off": ("a,y\n1,2".encode("utf-16")[:-1], {}, "{path} is no text in UTF-16, as it begins (byte 15)"),
    "zeros": (b"\0" * 500, {}, "{path} is binary, no CSV: it has NUL characters"),
    "long line": ("a,b,y\n1,2,3\n1,2,3,4\n", {}, "{path}, line 3 has 4 values; the header has 3 names"),
    "short line": ("a,b,y\n1,2,3\n\n1\n", {}, "{path}, line 4 has 1 value; the header has 3 names"),
    "row names": ("a,y\n" + ROWS, {}, "{path}, line 2 has 3 values; the header has 2 names"),
    "open quote": ('a,b,y\n1,"2,3\n' + ROWS, {}, "{path}, line 2 opens a quote that is never closed"),
    "quote in the last column": (
        'a,y\n1,2\n3,"4\n' + ROWS,
        {},
        "{path}, line 3 opens a quote that is never closed",
    ),
    "same name twice": ("a,a,y\n" + ROWS, {}, '{path} has 2 columns called "a"; give each a name of its own'),
    "no name": ("a,,y\n" + ROWS, {}, "{path} has no name for column 2; give it one"),
    "no target": (
        "a,Price,c\n" + ROWS,
        {"target": "price"},
        '{path} has no column "price" (data.target); did you mean "Price"?; its columns: a, Price, c',
    ),
    "no such target at all": (
        ",".join(f"c{i}" for i in range(20)) + "\n" + ",".join("1" * 20),
        {"target": "zebra"},
        '{path} has no column "zebra" (data.target); its columns: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11',
    ),
    "unknown ignored column": (
        "a,b,y\n" + ROWS,
        {"ignore": ("b", "aa")},
        '{path} has no column to ignore called "aa" (data.ignore); did you mean "a"?; its columns: a, b, y',
    ),
    "only the target": (
        "y\n" + "\n".join("12345" * 4),
        {},
        '{path} has no column but the target "y" and the ignored ones to learn from',
    ),
    "all ignored": (
        "a,b,y\n" + ROWS,
        {"ignore": ("b", "a")},
        '{path} has no column but the target "y" and the ignored ones to learn from',
    ),
    "too few rows": (
        "a,y\n" + "\n".join(f"{i},{i}" for i in range(9)),
        {},
        "{path} has 9 rows with a target: 5 train, 2 validation, 2 test; the train split needs at least 8",
    ),
    "too few to validate": (
        "a,y\n" + "\n".join(f"{i},{i}" for i in range(20)),
        {"validation": 0.01},
        "{path} has 20 rows with a target: 15 train, 1 validation, 4 test; the validation split needs at least 2",
    ),
    "fewer rows than classes to test": (
        "a,y\n" + "\n".join(f"{i},c{i % 9}" for i in range(40)),
        CLASSIFICATION,
        (
            "{path} has 40 rows with a target: 24 train, 8 validation, 8 test; the validation split needs at least 9 "
            "(9 classes)"
        ),
    ),
    "a rare class": (
        "a,y\n" + "\n".join(f"{i},{'rare' if i < 2 else 'common' if i % 2 else 'usual'}" for i in range(40)),
        CLASSIFICATION,
        '{path}: class "rare" has 2 rows; allowed: at least 3, one each to train, to validate and to test',
    ),
    "one class": (
        "a,y\n" + "\n".join(f"{i},same" for i in range(40)),
        CLASSIFICATION,
        '{path}: target column "y" has one class only, "same"; there is nothing to tell apart',
    ),
    "numbers as classes": (
        "a,y\n" + "\n".join(f"1,{i}.5" for i in range(40)),
        CLASSIFICATION,
        (
            '{path}: target column "y" has 40 classes in 40 rows; allowed: at most 1000 and half the rows '
            "(numbers to predict are data.task: regression)"
        ),
    ),
    "too many classes": (
        "a,y\n" + "\n".join(f"1,{i % 1001}" for i in range(3003)),
        CLASSIFICATION,
        (
            '{path}: target column "y" has 1001 classes in 3003 rows; allowed: at most 1000 and half the rows '
            "(numbers to predict are data.task: regression)"
        ),
    ),
    "text to predict as a number": (
        "a,y\n1,2\n2,\n3,much\n4,more\n",
        {},
        (
            '{path}: target column "y", row 3 is "much"; regression needs numbers '
            "(names to tell apart are data.task: classification)"
        ),
    ),
    "no target anywhere": ("a,y\n" + "1,\n" * 30, {}, '{path}: target column "y" is empty in every row'),
    "no class anywhere": ("a,y\n" + "1,?\n" * 30, CLASSIFICATION, '{path}: target column "y" is empty in every row'),
    "one class, called NA": (
        "a,y\n" + "1,NA\n" * 30,
        CLASSIFICATION,
        '{path}: target column "y" has one class only, "NA"; there is nothing to tell apart',
    ),
    "constant target": (
        "a,y\n" + "\n".join(f"{i},5" for i in range(40)),
        {},
        "{path}: the target is 5 in all 24 training rows; there is nothing to learn",
    ),
    "infinite input": (
        "a,b,y\n1,2,3\n1,-inf,3\n",
        {},
        '{path}: column "b", row 2 is -inf; allowed: numbers from -1e30 to 1e30',
    ),
    "infinite target": (
        "a,y\n1,2\n2,3\n1,inf\n",
        {},
        '{path}: target column "y", row 3 is inf; allowed: numbers from -1e30 to 1e30',
    ),
    "huge input": ("a,y\n1,2\n1e31,2\n", {}, '{path}: column "a", row 2 is 1e+31; allowed: numbers from -1e30 to 1e30'),
    "a few texts among numbers": (
        "a,y\n" + "\n".join(f"{'n.a. yet' if i == 30 else i},{i}" for i in range(60)),
        {},
        (
            '{path}: column "a" mixes numbers and texts: row 31 is "n.a. yet"; '
            "allowed: numbers, or an empty cell where one is missing"
        ),
    ),
    "ids": (
        "name,y\n" + "\n".join(f"person {i},{i}" for i in range(60)),
        {},
        (
            '{path}: column "name" has 60 different texts in 60 rows (row 1 is "person 0"): an id, free text or dates '
            "not written as 2024-12-31; name it under data.ignore"
        ),
    ),
}


@pytest.mark.parametrize(("content", "fields", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_table_ends_in_one_clear_line(
    tmp_path: Path, content: str | bytes, fields: dict[str, Any], message: str
) -> None:
    """The message names file, place and value, and what is allowed; every reader gives the same one."""
    path = write(tmp_path, content)
    for reader in (load_split, load_test):
        with pytest.raises(DataError) as error:
            reader(spec_of(path, **fields))
        assert error.value.exit_code == 2
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(message.format(path=path))
        assert len(str(error.value)) < 400


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, a socket and a path that cannot be one are told apart."""
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    for path, message in (
        (tmp_path / "none.csv", "none.csv does not exist; a relative path counts from the folder of the study file"),
        (folder, "folder.csv is a folder; name a table file (.csv, .tsv, .parquet)"),
        (tmp_path / "a\0b.csv", "is no path: embedded null byte"),
        (tmp_path / ("x" * 300 + ".csv"), "cannot be read: File name too long"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            read_table(path)
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        server.bind("socket.csv")
        with pytest.raises(DataError, match=r"socket.csv is no file; name a table file"):
            load_split(spec_of(tmp_path / "socket.csv"))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own words say why a file cannot be read."""
    path = write(tmp_path, "a,y\n" + ROWS)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def refuse(self: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))} cannot be read: Permission denied$"):
        load_split(spec_of(path))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_target_out_of_all_proportion(tmp_path: Path, part: int) -> None:
    """A target that no float32 could hold once it is standardised is refused before the search, in every split."""
    target = np.arange(40) * 1e-20
    row = split_rows("table", target, (), spec_of(tmp_path / "table.csv"))[part][0]
    target[row] = 1e30
    path = write(tmp_path, "x,y\n" + "\n".join(f"{i},{y}" for i, y in enumerate(target)))
    if part == 0:  # then it is the training rows' own scale
        assert load_split(spec_of(path)).train_y.isfinite().all()
        return
    with pytest.raises(DataError, match=r"the target 1e\+30 lies \de\+\d\d standard deviations from the mean"):
        load_split(spec_of(path))


def test_broken_parquet(tmp_path: Path) -> None:
    """Text, a file cut short and a file with garbage inside are no Parquet."""
    whole = tmp_path / "whole.parquet"
    people(500).to_parquet(whole)
    raw = whole.read_bytes()
    for content in (b"a,b\n1,2\n", raw[:-9], raw[: len(raw) // 2], raw[:4] + b"\xff" * 3000 + raw[3004:], b"PAR1" * 9):
        path = write(tmp_path, content, "broken.parquet")
        with pytest.raises(DataError, match=r"broken.parquet is no Parquet file, or a broken one: .+") as error:
            load_split(spec_of(path, target="cost"))
        assert "\n" not in str(error.value)


def test_parquet_columns_that_are_no_values(tmp_path: Path) -> None:
    """Lists, structures and bytes are refused by name, unless ignored; so are names that stand twice."""
    n = 30
    path = tmp_path / "table.parquet"
    for column, kind in (
        (pa.array([[1, 2]] * n), "ndarray"),
        (pa.array([{"a": 1}] * n), "dict"),
        (pa.array([b"raw"] * n), "bytes"),
    ):
        pq.write_table(pa.table({"x": pa.array(range(n)), "odd": column, "y": pa.array(range(n))}), path)
        with pytest.raises(DataError, match=rf'column "odd", row 1 holds a {kind}; allowed: numbers, texts, true'):
            load_split(spec_of(path))
        assert load_split(spec_of(path, ignore=("odd",))).n_inputs == 1
    pq.write_table(pa.Table.from_arrays([pa.array(range(n))] * 3, names=["a", "a", "y"]), path)
    with pytest.raises(DataError, match=r'has 2 columns called "a"'):
        load_split(spec_of(path))
    pq.write_table(pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}), path)
    with pytest.raises(DataError, match=r"table.parquet has no rows$"):
        load_split(spec_of(path))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(str.encode),
        st.lists(
            st.lists(st.sampled_from(["1", "2.5", "", '"', "x", "inf", "y", "1e999", "é"]), max_size=4), max_size=30
        ).map(lambda rows: "\n".join(["x,y", *(",".join(row) for row in rows)]).encode()),
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".parquet"]),
    task=st.sampled_from(list(Task)),
)
def test_no_content_whatsoever_ends_in_another_error(tmp_path: Path, content: bytes, suffix: str, task: Task) -> None:
    """Any bytes in a file are a table or a DataError."""
    path = write(tmp_path, content, f"table{suffix}")
    try:
        split = load_split(spec_of(path, task=task))
    except DataError as error:
        assert str(error)  # noqa: PT017 - most contents are broken, some are not
    else:
        assert split.train_x.isfinite().all()


def test_the_table_keeps_what_the_file_says(tmp_path: Path) -> None:
    """Numbers and texts of a file come through unchanged before they are encoded."""
    table = load_table(spec_of(write(tmp_path, "a,b,y\n1,u,5\n,,6\n3,v,\n"), target="y"))
    np.testing.assert_array_equal(table.features["a"], [1, np.nan])
    assert list(table.features["b"]) == ["u", None]
    np.testing.assert_array_equal(table.target, [5, 6])
    assert table.n_dropped == 1
