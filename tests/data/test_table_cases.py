"""Tables as people's files look, each of a kind that tools were seen to misread; what is right is in the docstring."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kansearch.data.splits import Split, load_split
from kansearch.data.tabular import Table, load_table
from kansearch.errors import DataError, StudyFileError
from kansearch.specs.columns import Column
from kansearch.specs.study_file import load_study_file

from .tables import spec_of, write

CASES = Path(__file__).parent / "cases"


def study(case: str, name: str = "study") -> Path:
    (folder,) = CASES.glob(f"{case}-*")
    return folder / f"{name}.yaml"


def table(case: str, name: str = "study") -> Table:
    return load_table(load_study_file(study(case, name)).data)


def split(case: str, name: str = "study") -> Split:
    return load_split(load_study_file(study(case, name)).data)


def rows(case: str, separator: str = ",") -> list[dict[str, str]]:
    """What the file says, by the standard library."""
    text = (study(case).parent / "t.csv").read_text(encoding="utf-8").removeprefix("sep=;\n")
    return list(csv.DictReader(text.splitlines(), delimiter=separator))


def column(of: Table | Split, name: str) -> Column:
    return next(column for column in of.columns if column.name == name)


def test_01_a_class_called_none_is_a_class() -> None:
    """Three classes (None, Apnoea, Insomnia), no row dropped."""
    read = table("01")
    assert read.class_names == ("Apnoea", "Insomnia", "None")
    assert read.n_dropped == 0
    assert [read.class_names[index] for index in read.target] == [row["problem"] for row in rows("01")]
    assert read.warnings == (
        't.csv: target column "problem" has 72 cells "None", a class of its own; empty cells are missing',
    )


@pytest.mark.parametrize("marker", ["NA", "N/A", "null", "none", "n/a", "<NA>", "NULL", "#N/A", "-", "Nan", "missing"])
def test_any_other_mark_of_a_gap_is_a_class_too(tmp_path: Path, marker: str) -> None:
    """And in a regression it is refused, with what is missing in a target and with the way out."""
    path = write(tmp_path, "a,y\n" + "\n".join(f"{i},{['u', 'v', marker][i % 3]}" for i in range(60)))
    assert load_table(spec_of(path, task="classification")).class_names == tuple(sorted(["u", "v", marker]))
    path = write(tmp_path, "a,y\n" + "\n".join(f"{i},{marker if i == 7 else i * i}" for i in range(60)))
    with pytest.raises(
        DataError, match=rf'target column "y", row 8 is "{marker}"; (in a target only|regression needs)'
    ):
        load_table(spec_of(path))
    read = load_table(spec_of(path, numbers=["y"]))
    assert (len(read.target), read.n_dropped) == (59, 1)


@pytest.mark.parametrize("gap", ["", "?", "NaN", "nan"])
def test_what_is_missing_in_a_target(tmp_path: Path, gap: str) -> None:
    """Only empty cells, ? and NaN."""
    path = write(tmp_path, "a,y\n" + "\n".join(f"{i},{['u', 'v', gap][i % 3]}" for i in range(60)))
    read = load_table(spec_of(path, task="classification"))
    assert (read.class_names, read.n_dropped) == (("u", "v"), 20)


def test_02_excels_line_of_the_separator_is_no_header() -> None:
    """Read as if the line sep=; were not there (2 inputs, 80 rows)."""
    read = table("02")
    assert list(read.features) == ["len", "mass"]
    assert_allclose(read.features["len"], [float(row["len"]) for row in rows("02", ";")])
    assert len(read.target) == 80


def test_03_records_agree_on_a_separator() -> None:
    """Read with ; as separator (2 inputs, 80 rows): a comma in the header is none."""
    read = table("03")
    assert list(read.features) == ["temperature (°C, mean)", "humidity"]
    assert len(read.target) == 80


@pytest.mark.parametrize(
    ("text", "names", "first"),
    [
        ("a|b, c|y\n" + "1|2|3\n" * 30, ["a", "b, c"], [1, 2]),
        ("a\tb;c\ty\n" + "1\t2\t3\n" * 30, ["a", "b;c"], [1, 2]),
        ('a;b;y\n"1,5";2;3\n' + "1,5;2;3\n" * 30, ["a", "b"], [1.5, 2]),
        # By commas there would be as many values, and none of them a number.
        ("dose, mg;y\n" + "\n".join(f"{n / 10:.1f};{n}".replace(".", ",") for n in range(30)), ["dose, mg"], [0]),
        ("a,note,y\n" + "1,x;y;z,3\n" * 30, ["a", "note"], [1, "x;y;z"]),
    ],
    ids=["bars", "tabs", "decimal commas", "commas in all records", "lists in cells"],
)
def test_separators_of_the_same_kind(tmp_path: Path, text: str, names: list[str], first: list[object]) -> None:
    """Whole records decide, not the header and not the name of the file."""
    read = load_table(spec_of(write(tmp_path, text)))
    assert list(read.features) == names
    assert list(read.features.iloc[0]) == first


def test_04_decimal_commas_are_numbers_however_few() -> None:
    """Column "dose" (0,0 0,5 ... 5,5) is numbers with a decimal comma, never 12 categories."""
    read = table("04")
    assert_allclose(read.features["dose"], [float(row["dose"].replace(",", ".")) for row in rows("04", ";")])
    assert (column(read, "dose").form, column(read, "dose").distinct) == ("1234,5", 12)
    assert "read as 1234,5" in column(split("04"), "dose").done


def test_05_dates_money_and_percent_are_numbers() -> None:
    """Dates 31.12.2023, prices "$1,023" and shares "17%" are no categories."""
    read = table("05")
    first = rows("05")[0]
    assert read.features["price"][0] == float(first["price"].strip("$").replace(",", ""))
    assert read.features["share"][0] == float(first["share"].strip("%"))
    assert [column(read, name).kind for name in ("day", "price", "share")] == ["date", "number", "number"]
    assert [column(read, name).unit for name in ("price", "share")] == ["$", "%"]
    days = np.datetime64("1970-01-01") + read.features["day"].to_numpy().astype("timedelta64[D]")
    assert str(days[0]) == "-".join(reversed(first["day"].split(".")))
    assert split("05").n_inputs == 3


def test_06_a_date_of_year_9999_is_a_date() -> None:
    """It is accepted, with a hint that it stands 8,000 years from the others."""
    read = table("06")
    assert column(read, "until").kind == "date"
    assert read.features["until"].max() == 2932896
    (hint,) = (warning for warning in read.warnings if "until" in warning)
    assert "has 9999-12-31 in 50 rows, 7,979 years from all other values: a mark for a missing one?" in hint


def test_07_a_row_number_is_left_out_or_warned_of(tmp_path: Path) -> None:
    """Column "Unnamed: 0" is the row number of a file sorted by class; it is left out as a nameless first column is."""
    read = table("07")
    assert list(read.features) == ["a"]
    assert column(read, "Unnamed: 0").done == "left out: an index that pandas wrote"
    text = "nr,a,y\n" + "\n".join(f"{n + 1},{n * n % 17},{'AB'[n // 40]}" for n in range(80))
    warnings = load_split(spec_of(write(tmp_path, text), task="classification")).warnings
    assert any('column "nr" only counts rows; name it under data.ignore' in warning for warning in warnings)
    assert any('column "nr" nearly gives the target away alone' in warning for warning in warnings)


def test_18_what_excel_leaves_behind() -> None:
    """Every line ends in a comma and the last line is empty cells: 80 rows, remark has 5 categories."""
    read = table("18")
    assert list(read.features) == ["remark", "size"]
    assert len(read.target) == 80
    assert read.n_dropped == 0
    assert sorted(set(read.features["remark"])) == [f'line one\nline "two", {n}' for n in range(5)]
    assert column(read, "column 4").done == "left out: no name and no values"


def test_19_labels_are_read_as_they_stand() -> None:
    """1 and 1.0 beside "unknown" are one class, as they are where no text stands beside them; 007 and 07 are two."""
    assert table("19", "mixed").class_names == ("1", "2", "unknown")
    assert table("19", "zeros").class_names == ("007", "07", "12")
    assert 'target column "y": "1.0" and "1" are one class, as the same number' in table("19", "mixed").warnings[0]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["1E1", "10", "1e1"], ("10", "1E1", "1e1")),
        (["3.1", "3.10", "3.9"], ("3.1", "3.10", "3.9")),
        (["1", "1.0", "1.00", "2"], ("1", "2")),
        (["true", "True", "false"], ("True", "false", "true")),
        (["00", "0", "0.0"], ("0", "00")),
        (["10", "9", "-3.5"], ("-3.5", "9", "10")),
        (["1e400", "2", "inf"], ("1e400", "2", "inf")),
    ],
)
def test_labels_of_the_same_kind(tmp_path: Path, values: list[str], names: tuple[str, ...]) -> None:
    """Labels never pass through floats: sorted by value where all are numbers, and only 1.0 is 1."""
    text = "a,y\n" + "\n".join(f"{n},{values[n % len(values)]}" for n in range(80))
    assert load_table(spec_of(write(tmp_path, text), task="classification")).class_names == names


@pytest.mark.parametrize(("name", "target", "inputs"), [("target", "no", ["on", "2024", "y"]), ("ignore", "y", ["no"])])
def test_20_names_that_yaml_would_change(name: str, target: str, inputs: list[str]) -> None:
    """Columns called no, on and 2024: the words are taken as they stand."""
    read = table("20", name)
    assert read.columns[0].name == target
    assert list(read.features) == inputs


def test_21_two_targets_are_refused() -> None:
    """In a sentence that says one target only."""
    with pytest.raises(StudyFileError, match=r"data.target  names several columns; a study predicts one"):
        load_study_file(study("21", "two"))


@pytest.mark.parametrize("name", ["study", "merged"])
def test_23_long_codes_keep_their_digits(name: str) -> None:
    """Codes of 18 digits, one cell empty: three classes with their exact names, no float in between."""
    read = table("23", name)
    last = "310000000000000003" if name == "study" else "450000000000000000"
    assert read.class_names == ("310000000000000001", "310000000000000002", last)
    assert read.n_dropped == 1


def test_24_codes_may_be_called_categories() -> None:
    """Column shop is a nominal code 1-24 whose order means nothing: data.categories: [shop] says so."""
    assert split("24").n_inputs == 2
    encoded = split("24", "key")
    assert encoded.n_inputs == 25
    assert column(encoded, "shop").kind == "category"
    assert column(encoded, "shop").done == "24 inputs of 0 and 1"


def test_25_a_file_without_a_header() -> None:
    """A message that says so: its first line looks like data."""
    with pytest.raises(DataError) as error:
        table("25")
    assert str(error.value).endswith(
        't.csv has no column "kind" (data.target): its first line looks like data (5.9, 4.0, 0, 0, a), so its columns '
        "are called column 1 to column 5"
    )
    path = study("25").parent / "t.csv"
    read = load_table(spec_of(path, target="column 5", task="classification"))
    assert len(read.target) == len(path.read_text().splitlines())
    assert list(read.features) == ["column 1", "column 2", "column 3", "column 4"]
    assert any("its first line looks like data" in warning for warning in read.warnings)


@pytest.mark.parametrize(
    ("first", "others", "is_header"),
    [
        ("18.0,8,307.0,usa", "15.5,8,350.0,europe\n16.0,8,304.0,usa\n" * 20, False),
        ("p,x,s,n", "e,x,s,y\np,b,y,n\n" * 20, False),
        ("country,2019,2020,2021", "a,1,2,3\nb,2,3,4\n" * 20, True),
        ("0,1,2,3", "5.1,3.5,1.4,0.2\n4.9,3.0,1.4,0.1\n" * 20, True),
        ("name,town", "Ann,Rome\nBob,Oslo\n" * 20, True),
        ("a,2024,y", "1,2,3\n4,5,6\n" * 20, True),
    ],
    ids=["numbers", "letters", "years", "counted by pandas", "texts", "a name above numbers"],
)
def test_headers_of_the_same_kind(tmp_path: Path, first: str, others: str, is_header: bool) -> None:
    """A first line is data when numbers stand above numbers, or a text that stands below, too."""
    names = first.split(",") if is_header else [f"column {n + 1}" for n in range(first.count(",") + 1)]
    path = write(tmp_path, f"{first}\n{others}")
    read = load_table(spec_of(path, target=names[-1], task="classification"))
    assert [column.name for column in read.columns] == [names[-1], *names[:-1]]
    assert len(read.target) == 40 + (not is_header)


def test_28_names_with_markup_stay_what_they_are() -> None:
    """Names with HTML and brackets are read as they stand."""
    read = table("28")
    assert list(read.features) == ["<img src=x onerror=alert(1)>", "[/red] x"]
    assert read.class_names == ("<b>a</b>", "{{b}}")
