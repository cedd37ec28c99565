"""What a column is, by its cells alone; what its author may say of it; and what is said to him."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kansearch.data.encoder import Encoder
from kansearch.data.files import read_table
from kansearch.data.splits import load_split
from kansearch.data.tabular import Table, load_table
from kansearch.errors import DataError
from kansearch.specs.metrics import Task

from .tables import spec_of, write

NAN = math.nan


def table_of(folder: Path, cells: list[str], **fields: Any) -> Table:
    """A table with these cells in column c, over and over, beside a target."""
    quoted = [f'"{cell}"' for cell in cells]
    text = "c,y\n" + "\n".join(f"{quoted[row % len(cells)]},{row * row % 23}" for row in range(40))
    return load_table(spec_of(write(folder, text), **fields))


NUMBERS: dict[str, tuple[list[str], list[float], str, str]] = {
    "decimal commas": (["0,5", "1,25", "-3"], [0.5, 1.25, -3], "1234,5", ""),
    "thousands": (["1,234.5", "12", "1,000,000"], [1234.5, 12, 1e6], "1,234.5", ""),
    "Indian thousands": (["12,34,567", "1,000.5"], [1234567, 1000.5], "1,234.5", ""),
    "German thousands": (["1.234,5", "1.000.000", "7"], [1234.5, 1e6, 7], "1.234,5", ""),
    "blanks": (["1 234,5", "12 345 678"], [1234.5, 12345678], "1 234,5", ""),
    "narrow blanks": (["1\u202f234,5", "1\u00a0000"], [1234.5, 1000], "1 234,5", ""),
    "Swiss thousands": (["1'234.50", "12\u2019000"], [1234.5, 12000], "1'234.5", ""),
    "dollars": (["$1,023", "$5,000"], [1023, 5000], "1,234.5", "$"),
    "negative dollars": (["-$5.50", "$-2", "($3.00)", "$4"], [-5.5, -2, -3, 4], "1234.5", "$"),
    "euros behind": (["1.023,50 €", "7 €"], [1023.5, 7], "1.234,5", "€"),
    "words of currencies": (["CHF 1'000", "CHF 20"], [1000, 20], "1'234.5", "CHF"),
    "percent": (["17%", "3.5 %"], [17, 3.5], "1234.5", "%"),
    "percent with commas": (["17,5%", "3%"], [17.5, 3], "1234,5", "%"),
    "units": (["5 kg", "7.5 kg"], [5, 7.5], "1234.5", "kg"),
    "units of two words": (["120 sq ft", "80 sq ft"], [120, 80], "1234.5", "sq ft"),
    "typographic minus": (["\u22125", "3"], [-5, 3], "1234.5", ""),
    "marks of gaps": (
        ["1", "NA", "n/a", "-", "#DIV/0!", "unknown", "2"],
        [1, NAN, NAN, NAN, NAN, NAN, 2],
        "1234.5",
        "",
    ),
    "gaps in money": (["$1,000.50", "N/A", "$2", ""], [1000.5, NAN, 2, NAN], "1,234.5", "$"),
    "truth": (["TRUE", "false", ""], [1, 0, NAN], "true, false", ""),
    "points before the month": (["31.12.1970", "01.02.1970"], [364, 31], "%d.%m.%Y", ""),
    "day first": (["31/12/1970", "1/2/1970"], [364, 31], "%d/%m/%Y", ""),
    "month first": (["12/31/1970", "2/1/1970"], [364, 31], "%m/%d/%Y", ""),
    "with a time": (["31.12.1970 12:00", "01.02.1970"], [364.5, 31], "%d.%m.%Y", ""),
    "with a time of two halves": (["12/31/1970 6:00 PM", "2/1/1970 12:00 am"], [364.75, 31], "%m/%d/%Y", ""),
    "names of months": (["31 Dec 1970", "1 Feb 1970"], [364, 31], "%d %b %Y", ""),
    "months alone": (["Feb 1970", "Jan 1971"], [31, 365], "%b %Y", ""),
    "ISO with few digits": (["1970-2-1", "1970-12-31"], [31, 364], "%Y-%m-%d", ""),
    "times of day": (["08:30", "12:15:30"], [8.5, 12 + 15.5 / 60], "12:30", ""),
}


@pytest.mark.parametrize(("cells", "values", "form", "unit"), NUMBERS.values(), ids=NUMBERS)
def test_what_are_numbers(tmp_path: Path, cells: list[str], values: list[float], form: str, unit: str) -> None:
    """However few there are: commas, thousands, money, percent, units, dates and times are no categories."""
    table = table_of(tmp_path, cells)
    np.testing.assert_allclose(table.features["c"][: len(values)], values, rtol=1e-15)
    column = table.columns[1]
    assert (column.form, column.unit) == (form, unit)
    assert column.distinct == len({value for value in values if not math.isnan(value)})


@pytest.mark.parametrize(
    "cells",
    [
        ["01234", "98765", "00501"],
        ["1E1", "10", "12"],
        ["123456789012345678", "123456789012345679"],
        ["Q1", "Q2", "Q3"],
        ["3+", "1", "2"],
        ["1-2", "3-4", "5+"],
        ["3 rooms", "1 room"],
        ["v1.2.3", "v1.2.4"],
        ["10.0.0.1", "10.0.0.2"],
        ["12A", "13B"],
        ["yes", "no"],
        ["-", "x"],
        ["May", "June"],
        ["1/2", "1/3"],
    ],
    ids=str,
)
def test_what_are_names(tmp_path: Path, cells: list[str]) -> None:
    """Codes, blocks, versions and ranges stay as they stand."""
    table = table_of(tmp_path, cells)
    assert list(table.features["c"][: len(cells)]) == cells
    assert table.columns[1].kind == "category"


REFUSED: dict[str, tuple[list[str], str]] = {
    "comma of either kind": (
        ["1,234", "5,678"],
        'or between thousands: row 1 is "1,234"; say how 1234.5 is written there: data.numbers: {COLUMN: \'1,234.5\'}',
    ),
    "euros of either kind": (["1.234 €", "5.678 €"], "comma or point may stand before decimals or between thousands"),
    "day or month": (
        ["01/02/2024", "03/04/2024"],
        'that may be read in several ways: row 1 is "01/02/2024"; say how: data.dates: {COLUMN: \'%d/%m/%Y\'}',
    ),
    "two currencies": (["$5", "€5", "$7"], 'writes its numbers in several ways, "$5" and "€5": data.categories'),
    "points and commas": (["1.5", "1,5", "2.5"], 'writes its numbers in several ways, "1.5" and "1,5"'),
    "a few words": (["0.5", "1.5", "2.5", "much"], 'mixes numbers and texts: row 4 is "much"; allowed: numbers'),
    "a few words among money": (["$5", "$6", "$7", "free"], 'mixes numbers and texts: row 4 is "free"'),
    "a few words among dates": (["2024-01-01", "2024-01-02", "soon"], 'mixes dates and texts: row 3 is "soon"'),
    "dates of two forms": (["2024-01-02", "03.01.2024"], 'writes its dates in several ways: row 1 is "2024-01-02"'),
    "dates with a zone by name": (
        ["2024-01-05 10:00 EST", "2024-01-06 10:00"],
        'holds dates in a form that is not known: row 1 is "2024-01-05 10:00 EST"',
    ),
    "dates in words": (["5. März 2024", "6. Mai 2024"], "holds dates in a form that is not known: row 1 is"),
    "several units": (["5 kg", "500 g", "3 kg"], 'writes its numbers with several units, "5 kg" and "500 g"'),
    "no such day": (["2024-02-30", "2024-02-28"], 'has a date that is in no calendar: row 1 is "2024-02-30"'),
    "too large": (["1e31", "1"], ", row 1 is 1e+31; allowed: numbers from -1e30 to 1e30"),
    "codes of all rows": (
        [f"0{n}" for n in range(10, 50)],
        'has 40 different codes in 40 rows (row 1 is "010"); name it under data.ignore, or under data.numbers',
    ),
    "long numbers of all rows": ([f"{10**17 + n}" for n in range(40)], "has 40 different codes in 40 rows"),
}  # fmt: skip


@pytest.mark.parametrize(("cells", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_asked_or_refused(tmp_path: Path, cells: list[str], message: str) -> None:
    """One line with the column, its first bad value and what its author may say."""
    with pytest.raises(DataError) as error:
        table_of(tmp_path, cells)
    assert f'column "c"{"" if message.startswith(",") else " "}' in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cells", "fields", "values"),
    [
        (["1,234", "5,678"], {"numbers": {"c": "1,234.5"}}, [1234, 5678]),
        (["1,234", "5,678"], {"numbers": {"c": "1.234,5"}}, [1.234, 5.678]),
        (["01/02/1970", "03/04/1970"], {"dates": {"c": "%d/%m/%Y"}}, [31, 92]),
        (["01/02/1970", "03/04/1970"], {"dates": {"c": "%m/%d/%Y"}}, [1, 62]),
        (["19700201", "19700403"], {"dates": ["c"]}, [31, 92]),
        (["007", "08"], {"numbers": ["c"]}, [7, 8]),
        (["0.5", "much", "2.5"], {"numbers": ["c"]}, [0.5, NAN, 2.5]),
        (["$5", "free", "$7"], {"numbers": ["c"]}, [5, NAN, 7]),
        (["1", "2", "3"], {"categories": ["c"]}, ["1", "2", "3"]),
        (["1", "NA", "", "?"], {"categories": ["c"]}, ["1", "NA", None, None]),
        (["1,5", "31.12.2024", "x"], {"categories": ["c"]}, ["1,5", "31.12.2024", "x"]),
    ],
)
def test_the_author_has_the_last_word(
    tmp_path: Path, cells: list[str], fields: dict[str, Any], values: list[Any]
) -> None:
    """data.numbers, data.dates and data.categories say what a column is, and how it is written."""
    read = list(table_of(tmp_path, cells, **fields).features["c"][: len(values)])
    assert [None if isinstance(value, float) and math.isnan(value) else value for value in read] == [
        None if isinstance(value, float) and math.isnan(value) else value for value in values
    ]


def test_what_an_override_left_out_is_said(tmp_path: Path) -> None:
    """Cells that are no numbers are counted aloud, and a form that fits nothing is refused."""
    table = table_of(tmp_path, ["0.5", "much", "2.5", "1"], numbers=["c"])
    assert table.warnings == (
        'table.csv: column "c" has 10 cells without a number, which count as missing: row 2 is "much"',
    )
    with pytest.raises(
        DataError, match=r'column "c" has no dates written as %d/%m/%Y: row 1 is "soon"; data.dates takes'
    ):
        table_of(tmp_path, ["soon", "later"], dates={"c": "%d/%m/%Y"})
    with pytest.raises(DataError, match=r'column "c" holds no numbers: row 1 is "soon"'):
        table_of(tmp_path, ["soon", "later"], numbers=["c"])
    with pytest.raises(DataError, match=r'has no column "d" \(data.categories\)'):
        table_of(tmp_path, ["a", "b"], categories=["d"])


def test_marks_of_gaps_among_texts_are_said(tmp_path: Path) -> None:
    """NA among names may be Namibia."""
    table = table_of(tmp_path, ["DE", "NA", "FR", ""])
    assert list(table.features["c"][:4]) == ["DE", None, "FR", None]
    assert table.warnings == (
        'table.csv: column "c" has 10 cells "NA", which count as missing; data.categories keeps them',
    )


def test_every_column_is_shown_with_what_was_done(tmp_path: Path) -> None:
    """Kind, gaps, distinct values and treatment of the target, the inputs and what was left out."""
    lines = [
        f"{n},{n % 9},{['a', 'b', ''][n % 3]},{n % 5}.5 %,7,,person {n},{'true' if n % 2 else 'false'},{n % 8 or 'NA'}"
        for n in range(60)
    ]
    text = "y,few,town,share,same,nothing,who,is_member,gaps\n" + "\n".join(lines)
    columns = load_split(spec_of(write(tmp_path, text), ignore=["who"])).columns
    assert [(c.name, c.kind, c.role, c.gaps, c.distinct, c.done) for c in columns] == [
        ("y", "number", "target", 0, 60, "predicted"),
        ("few", "number", "input", 0, 9, "standardised"),
        ("town", "category", "input", 20, 2, "2 inputs of 0 and 1, and one for gaps and rarer ones"),
        ("share", "number", "input", 0, 5, "in %, standardised"),
        ("same", "constant", "input", 0, 1, "0 in every row: it says nothing"),
        ("nothing", "empty", "input", 60, 0, "0 in every row: it says nothing"),
        ("is_member", "boolean", "input", 0, 2, "0 and 1, standardised"),
        ("gaps", "number", "input", 8, 7, "standardised; gaps are the median, and marked"),
        ("who", "text", "left out", 0, 60, "left out (data.ignore)"),
    ]


def test_what_gives_the_target_away_is_warned_of(tmp_path: Path) -> None:
    """A copy, a category for each class, an id and a counter; honest inputs are left alone."""
    random = np.random.default_rng(0)
    n = 400
    y = random.integers(0, 3, n)
    honest = y + random.normal(0, 1.5, n)
    ids = random.permutation(n) * 7 + 100_000
    lines = [f"{i},{ids[i]},{honest[i]:.3f},{'xyz'[y[i]]},{y[i] * 10},{'abc'[y[i]]}" for i in range(n)]
    path = write(tmp_path, "row,customer_id,honest,letter,copy,y\n" + "\n".join(lines))
    warnings = load_split(spec_of(path, task="classification")).warnings
    told = {re.findall(r'column "(\w+)" (only counts|has another whole|nearly gives)', text)[0] for text in warnings}
    assert told == {
        ("row", "only counts"),
        ("customer_id", "has another whole"),
        ("letter", "nearly gives"),
        ("copy", "nearly gives"),
    }
    lines = [f"{honest[i]:.3f},{3 * honest[i] + 7:.4f},{random.random():.3f}" for i in range(n)]
    path = write(tmp_path, "y,twin,other\n" + "\n".join(lines))
    (told_twin,) = load_split(spec_of(path)).warnings
    assert 'table.csv: column "twin" nearly gives the target away alone' in told_twin


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "it is text in UTF-16"),
        ("utf-16-le", "read as UTF-16-LE, which is a guess"),
        ("utf-32", "it is text in UTF-32"),
        ("latin-1", "read as CP1252, which is a guess"),
        ("cp1252", "read as CP1252, which is a guess"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, said: str | None) -> None:
    """What is no UTF-8 is found out and said."""
    euro = "€" if encoding != "latin-1" else "£"
    text = f"größe {euro},y\n" + "\n".join(f"{'Åå'[n % 2]}rhus,{n}" for n in range(40))
    read = load_table(spec_of(write(tmp_path, text.encode(encoding))))
    assert list(read.features) == [f"größe {euro}"]
    assert set(read.features[f"größe {euro}"]) == {"Århus", "århus"}
    assert [said in warning for warning in read.warnings] == ([] if said is None else [True])


def test_other_scripts(tmp_path: Path) -> None:
    """Where most letters are of another script, the library that knows languages decides."""
    words = ["Москва", "Новосибирск", "Екатеринбург", "Казань", "Челябинск", "Волгоград"]
    text = "город,y\n" + "\n".join(f"{words[n % 6]},{n}" for n in range(60))
    read = load_table(spec_of(write(tmp_path, text.encode("cp1251"))))
    assert set(read.features["город"]) == set(words)
    assert "read as CP1251, which is a guess" in read.warnings[0]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"size\n(cm)",y\n' + "1,2\n" * 30, ["size (cm)"]),
        ("a,b,y,\n" + "1,2,3\n" * 30, ["a", "b"]),
        ("a,b,y\n" + "1,2,3,\n" * 30, ["a", "b"]),
        ("a,b,y,,\n" + "1,2,3,,\n" * 30, ["a", "b"]),
        ("a,b,y\n" + "1,2,3\n" * 30 + ",,\n,,\n", ["a", "b"]),
        ('"sep=;"\na;b;y\n' + "1;2;3\n" * 30, ["a", "b"]),
        ("SEP=\t\r\na\tb\ty\r\n" + "1\t2\t3\r\n" * 30, ["a", "b"]),
        ("\ufeffsep=,\na,b,y\n" + "1,2,3\n" * 30, ["a", "b"]),
        ("a,b,y\r" + "1,2,3\r" * 30, ["a", "b"]),
    ],
)
def test_habits_of_spreadsheets(tmp_path: Path, text: str, names: list[str]) -> None:
    """Line breaks in a header, trailing separators, blank lines, lines of the separator, ends of lines of old Macs."""
    read = load_table(spec_of(write(tmp_path, text)))
    assert list(read.features) == names
    assert len(read.target) == 30


def test_cells_of_any_length(tmp_path: Path) -> None:
    """A cell may be longer than the csv module takes by itself."""
    long = "x" * 300_000
    read = load_table(spec_of(write(tmp_path, f"a,y\n{long},1\n" + "b,2\n" * 30)))
    assert read.features["a"][0] == long


def test_a_column_that_is_no_header_nor_data_may_be_named(tmp_path: Path) -> None:
    """Who names a column that stands in the first line says that it is a header."""
    path = write(tmp_path, "1,2,5\n" + "3,4,5\n" * 30)
    assert list(read_table(path).columns) == ["column 1", "column 2", "column 3"]
    assert list(read_table(path, {"5"}).columns) == ["1", "2", "5"]


def test_parquet_keeps_long_whole_numbers_beside_a_gap(tmp_path: Path) -> None:
    """A gap makes no floats of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = [310000000000000001, 310000000000000002, None]
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": pa.array(range(60)), "code": pa.array(codes * 20), "y": pa.array(codes * 20)}), path)
    read = load_table(spec_of(path, task="classification"))
    assert read.class_names == ("310000000000000001", "310000000000000002")
    assert list(read.features["code"][:2]) == ["310000000000000001", "310000000000000002"]


# --- what lasts -------------------------------------------------------------------------------------


def test_an_encoder_reads_a_new_file_as_it_read_the_first(tmp_path: Path) -> None:
    """Its JSON knows how numbers and dates are written, and a number of another form is refused."""
    text = "price,day,share,y\n" + "\n".join(
        f'"{n},5 €",{n % 28 + 1:02}.0{n % 9 + 1}.2024,{n % 7}%,{n}' for n in range(10, 60)
    )
    path = write(tmp_path, text)
    split = load_split(spec_of(path))
    assert isinstance(split.encoder, Encoder)
    again = Encoder.model_validate_json(split.encoder.model_dump_json())
    import pandas as pd

    raw = pd.read_csv(path, dtype=str)
    table = load_table(spec_of(path))
    np.testing.assert_array_equal(again.encode(raw, "new.csv"), again.encode(table.features, "old.csv"))
    raw.loc[3, "price"] = "7.5"
    with pytest.raises(DataError, match=r'new.csv: column "price", row 4 is "7.5"; allowed: numbers written as 1234,5'):
        again.encode(raw, "new.csv")


def test_data_that_were_read_right_before_are_the_same_study(tmp_path: Path) -> None:
    """Their digest is what it was; where columns are read in another way than before, the study is another."""
    plain = write(tmp_path, "a,b,y\n" + "\n".join(f"{n},{'uv'[n % 2]},{n * n}" for n in range(60)))
    assert load_split(spec_of(plain)).digest == "a08ed1bb646f42694407e8bead4e2021032806663894ad16e8727bafd7c395b0"
    text = "a;y\n" + "\n".join(f"{n % 9},5;{n}" for n in range(60))
    commas = write(tmp_path, text, "commas.csv")
    import hashlib

    assert load_table(spec_of(plain)).content == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert load_table(spec_of(commas)).content != hashlib.sha256(commas.read_bytes()).hexdigest()


def test_what_is_read_anew_is_other_data(tmp_path: Path) -> None:
    """Studies that learned from an index of pandas, or whose codes were two names, do not go on with other columns."""
    plain = "".join(f"{row},{row % 7},{row % 3}\n" for row in range(40))
    digests = []
    for header in ("Unnamed: 0,a,y\n", "counter,a,y\n"):
        file = write(tmp_path, header + plain)
        digests.append(load_table(spec_of(file)).content == hashlib.sha256(file.read_bytes()).hexdigest())
    assert digests == [False, True]
    names = "".join(f"{name},{row}\n" for row, name in enumerate(["1.0", "1", "a", "b"] * 10))
    file = write(tmp_path, "code,y\n" + names)
    assert load_table(spec_of(file)).content != hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_class_may_be_called_anything(tmp_path: Path) -> None:
    """An exponent of twenty digits is a name like others."""
    labels = ["1E-99999999999999999999", "2"]
    file = write(tmp_path, "a,y\n" + "".join(f"{row},{labels[row % 2]}\n" for row in range(40)))
    assert set(load_table(spec_of(file, task=Task.CLASSIFICATION)).class_names) == set(labels)
