"""Encoders: what the training rows teach them, and what they then make of any row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kansearch.data.columns import cells_of, decide
from kansearch.data.encoder import FARTHEST, MAX_CATEGORIES, Encoder, fit_encoder
from kansearch.errors import DataError

numbers = st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")))
texts = st.sampled_from(["a", "b", "c", None])


def frame(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=object if {type(v) for v in values} & {str} else float)
            for name, values in columns.items()
        }
    )


@given(rows=st.lists(st.tuples(numbers, st.sampled_from("abc")), min_size=12, max_size=40))
def test_encoding_agrees_with_scikit_learn(rows: list[tuple[float, str]]) -> None:
    """Median, missing indicator, standardisation and one-hot are those of scikit-learn's transformers."""
    table = frame(number=[n for n, _ in rows], text=[t for _, t in rows])
    train = table[:8]
    if train["number"].isna().all() or train["number"].dropna().std(ddof=0) < 1e-3:
        return
    has_missing = bool(train["number"].isna().any())
    oracle = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["number"]),
            ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["text"]),
        ]
    ).fit(train)
    expected = oracle.transform(table)
    if has_missing:
        expected = np.insert(expected, 1, table["number"].isna(), axis=1)
    encoded = fit_encoder(train).encode(table, "table")
    np.testing.assert_allclose(encoded, np.clip(expected, -FARTHEST, FARTHEST), rtol=1e-6, atol=1e-8)


@given(
    rows=st.lists(st.tuples(numbers, texts), min_size=5, max_size=30),
    others=st.lists(st.tuples(numbers, st.sampled_from(["a", "z", None])), min_size=1, max_size=5),
)
def test_every_row_encodes_to_finite_numbers(
    rows: list[tuple[float, str | None]], others: list[tuple[float, str | None]]
) -> None:
    """Whatever the training rows are, these and other rows have finite features, one for each name."""

    def table(of: list[tuple[float, str | None]]) -> pd.DataFrame:
        return pd.DataFrame(
            {"n": pd.Series([n for n, _ in of], dtype=float), "t": pd.Series([t for _, t in of], dtype=object)}
        )

    encoder = fit_encoder(table(rows))
    for part in (rows, others):
        encoded = encoder.encode(table(part), "table")
        assert np.isfinite(encoded).all()
        assert np.abs(encoded).max() <= FARTHEST
        assert encoded.shape == (len(part), len(encoder.feature_names))


def test_an_encoder_survives_as_json() -> None:
    """An encoder read back from its JSON encodes as before."""
    table = frame(age=[1.0, np.nan, 4.0], town=["x", None, "y"])
    encoder = fit_encoder(table)
    again = Encoder.model_validate_json(encoder.model_dump_json())
    assert again == encoder
    np.testing.assert_array_equal(again.encode(table, "table"), encoder.encode(table, "table"))


def test_a_missing_indicator_stands_where_training_rows_lack_a_value() -> None:
    """Only a column with gaps in the training rows has the second feature."""
    encoder = fit_encoder(frame(full=[1.0, 2.0, 3.0], gaps=[1.0, np.nan, 3.0]))
    assert encoder.feature_names == ("full", "gaps", "gaps (missing)")
    encoded = encoder.encode(frame(full=[np.nan], gaps=[np.nan]), "table")
    np.testing.assert_allclose(encoded, [[0, 0, 1]], atol=1e-12)


def test_a_constant_column_is_silent_everywhere() -> None:
    """A column that says nothing in the training rows is 0, also where another row differs wildly."""
    encoder = fit_encoder(frame(same=[0.1] * 7, none=[np.nan] * 7))
    np.testing.assert_array_equal(encoder.encode(frame(same=[0.1, 1e9, np.nan], none=[5.0, np.nan, 1e9]), "table"), 0)
    assert encoder.feature_names == ("same", "none")


def test_a_wild_value_is_cut_off() -> None:
    """A value very far from the training rows comes to the farthest allowed, not to an infinite tensor."""
    encoder = fit_encoder(frame(x=[0.0, 1e-30, 2e-30]))
    np.testing.assert_array_equal(encoder.encode(frame(x=[1e30, -1e30]), "table"), [[FARTHEST], [-FARTHEST]])


def test_missing_and_rare_categories_share_a_feature() -> None:
    """With gaps in the training rows there is a feature for them, where unseen texts come too."""
    encoder = fit_encoder(frame(town=["x", None, "y", "x"]))
    assert encoder.feature_names == ("town=x", "town=y", "town=(other)")
    encoded = encoder.encode(frame(town=["y", None, "elsewhere"]), "table")
    np.testing.assert_array_equal(encoded, [[0, 1, 0], [0, 0, 1], [0, 0, 1]])


def test_an_unseen_category_is_silent_where_training_rows_have_no_gaps() -> None:
    """No weight that never saw a 1 answers for it: all features of the column are 0."""
    encoder = fit_encoder(frame(town=["x", "y", "x"]))
    assert encoder.feature_names == ("town=x", "town=y")
    np.testing.assert_array_equal(encoder.encode(frame(town=["elsewhere", "x"]), "table"), [[0, 0], [1, 0]])


def test_a_column_has_a_bounded_number_of_features() -> None:
    """The most frequent categories have features of their own, equal counts by name; the rest share one."""
    values = [f"c{i:03}" for i in range(200)] * 2 + ["c199", "c198"]
    (column,) = fit_encoder(frame(town=values)).columns
    assert column.kind == "category"
    assert len(column.categories) == MAX_CATEGORIES
    assert {"c198", "c199", "c000", "c061"} <= set(column.categories)
    assert "c062" not in column.categories
    assert column.has_other


def test_whole_numbers_are_the_same_category_in_every_file() -> None:
    """A category 3 is known again where a gap has made its column one of 3.0."""
    encoder = fit_encoder(frame(rooms=["1", "2", "3+"]))
    np.testing.assert_array_equal(encoder.encode(frame(rooms=[2.0, np.nan]), "table"), [[0, 1, 0], [0, 0, 0]])


def test_columns_go_by_name() -> None:
    """Another order and further columns change nothing; a column that lacks is named."""
    table = frame(a=[1.0, 2.0], b=[3.0, 5.0])
    encoder = fit_encoder(table)
    shuffled = table[["b", "a"]].assign(c=1)
    np.testing.assert_array_equal(encoder.encode(shuffled, "new.csv"), encoder.encode(table, "old.csv"))
    with pytest.raises(DataError, match=r'^new.csv has no column "b", which the network was trained with$'):
        encoder.encode(table[["a"]], "new.csv")


def test_text_in_a_number_column_is_refused() -> None:
    """Rows to predict that hold text where numbers were trained on name the first bad one."""
    encoder = fit_encoder(frame(a=[1.0, 2.0]))
    with pytest.raises(DataError, match=r'^new.csv: column "a", row 2 is "much"; allowed: numbers$'):
        encoder.encode(frame(a=["1", "much"]), "new.csv")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        (["1", " 2.5 ", "1e3"], [1, 2.5, 1000]),
        ([True, False, None], [1, 0, np.nan]),
        (["true", "False", None], [1, 0, np.nan]),
        (["", "?", "4"], [np.nan, np.nan, 4]),
        (["1970-01-02", "1970-01-01T12:00", None], [1, 0.5, np.nan]),
        (["1970-01-01T00:00:00Z", "1970-01-02 00:00:00+12:00", "1969-12-31"], [0, 0.5, -1]),
        (list(pd.to_datetime(["1970-01-03", None, "1970-01-01"])), [2, np.nan, 0]),
        (list(pd.to_datetime(["1970-01-03"] * 3).tz_localize("UTC")), [2, 2, 2]),
        (list(pd.to_timedelta(["12h", "1D", None])), [0.5, 1, np.nan]),
        (pd.Categorical([3, 1, 3]), [3, 1, 3]),
        (pd.array([1, None, 3], dtype="Int64"), [1, np.nan, 3]),
        ([None, None, np.nan], [np.nan] * 3),
        (["red", " blue", "red "], ["red", "blue", "red"]),
        (["1", "2", "3+"], ["1", "2", "3+"]),
        (["2024-01-01", "soon", "soon"], ["2024-01-01", "soon", "soon"]),
        (["2024-99-99", "2024-01-01", "x"], ["2024-99-99", "2024-01-01", "x"]),
        (["inf", "outf", "inf"], ["inf", "outf", "inf"]),
        ([1, "x", None], ["1", "x", None]),
        (["1_000", "2", "2"], ["1_000", "2", "2"]),
    ],
)
def test_columns_are_numbers_or_texts(values: Any, expected: list[object]) -> None:
    """Booleans, dates and texts that are numbers become numbers; other texts stay, without blanks around."""
    cells = cells_of(pd.Series(values), "here")
    column = decide(cells).values(cells)
    if column.dtype == object:
        assert list(column) == expected
    else:
        np.testing.assert_allclose(column, np.array(expected, dtype=float))
