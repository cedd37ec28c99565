"""Tables to numbers that a network can take in, by what the training rows alone have shown.

An encoder is a value: its JSON beside a network's weights is all that a prediction needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64
from pydantic import Field

from kansearch.data.columns import Numbers, Texts, as_names, as_numbers, how_read
from kansearch.errors import DataError
from kansearch.specs.base import Spec
from kansearch.specs.columns import Column

Encoded = Float64[np.ndarray, "N I"]

MAX_CATEGORIES = 64
"""Of one column; rarer ones share a feature."""

FARTHEST = 1000.0
"""Standard deviations from the mean at which an input is cut off.

Among a million training rows none can be farther, so this holds back only wild values of other rows,
which would leave the range of float32 in a network's first powers.
"""


class NumberColumn(Spec):
    """A column of numbers: the median where one is missing, then zero mean and unit variance.

    Attributes:
        scale: Standard deviation of the training rows; 0 where they all are equal. Such a column says
            nothing and is 0 in every row.
        has_missing: Some training rows lack the value, so a second feature says where.
        form: How a file writes the numbers; "" where its cells show it.
        unit: What stands beside them there.
    """

    kind: Literal["number"] = "number"
    name: str
    median: float
    mean: float
    scale: float
    has_missing: bool
    form: str = ""
    unit: str = ""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, for people."""
        return (self.name, f"{self.name} (missing)") if self.has_missing else (self.name,)

    def encode(self, column: pd.Series[float], where: str) -> Encoded:
        """The features of all rows."""
        numbers = as_numbers(column, where, self.form, self.unit)
        missing = np.isnan(numbers)
        centred = np.where(missing, self.median, numbers) - self.mean
        scaled = np.clip(centred / self.scale, -FARTHEST, FARTHEST) if self.scale else np.zeros_like(centred)
        return np.column_stack([scaled, missing] if self.has_missing else [scaled]).astype(float)


class CategoryColumn(Spec):
    """A column of texts: one feature of 0 and 1 for each category.

    Attributes:
        categories: Of the training rows, sorted.
        has_other: Some training rows have no value or a rarer one, and share the last feature. Values
            that no training row has come there too; without that feature they are 0 everywhere, since
            weights that never saw a 1 would answer with their initial noise.
    """

    kind: Literal["category"] = "category"
    name: str
    categories: tuple[str, ...]
    has_other: bool

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, for people."""
        names = (*self.categories, "(other)") if self.has_other else self.categories
        return tuple(f"{self.name}={name}" for name in names)

    def encode(self, column: pd.Series[str], where: str) -> Encoded:
        """The features of all rows."""
        places = {category: place for place, category in enumerate(self.categories)}
        other = len(self.categories)
        features = np.zeros((len(column), other + 1))
        features[np.arange(len(column)), [places.get(text, other) for text in as_names(column, where)]] = 1
        return features if self.has_other else features[:, :other]


class Encoder(Spec):
    """The columns of a table in the order in which a network takes in their features."""

    columns: tuple[Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")], ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, for people."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def encode(self, table: pd.DataFrame, source: str) -> Encoded:
        """The features of all rows; columns that the encoder does not know are left out.

        Args:
            source: The file, as a message begins.

        Raises:
            DataError: If a column is not there, or a number column has something else.
        """
        features = []
        for column in self.columns:
            if column.name not in table.columns:
                raise DataError(f'{source} has no column "{column.name}", which the network was trained with')
            features.append(column.encode(table[column.name], f'{source}: column "{column.name}"'))
        return np.concatenate(features, axis=1)


def fit_encoder(train: pd.DataFrame, columns: Sequence[Column] = ()) -> Encoder:
    """Learn an encoder from training rows.

    Args:
        train: Columns of float64 with NaN where a value is missing, or of str with None there.
        columns: How a file writes them, for those who have another file to predict.
    """
    written = {column.name: column for column in columns if column.role == "input"}

    def fit(name: str, column: pd.Series[Any]) -> NumberColumn | CategoryColumn:
        if column.dtype == object:
            return _fit_texts(name, column.to_numpy())
        fitted = _fit_numbers(name, column.to_numpy(dtype=float))
        file = written.get(name)
        return fitted.model_copy(update={"form": file.form, "unit": file.unit}) if file else fitted

    return Encoder(columns=tuple(fit(str(name), column) for name, column in train.items()))


def told(columns: Sequence[Column], encoder: Encoder) -> tuple[Column, ...]:
    """The columns of a file with what an encoder does with them, in words."""
    fitted = {column.name: column for column in encoder.columns}
    return tuple(
        column.model_copy(update={"done": _done(column, fitted[column.name])})
        if column.role == "input" and column.name in fitted
        else column
        for column in columns
    )


def _done(column: Column, fitted: NumberColumn | CategoryColumn) -> str:
    if isinstance(fitted, CategoryColumn):
        n = len(fitted.categories)
        inputs = "1 input" if n == 1 else f"{n} inputs"
        if not fitted.has_other:
            return f"{inputs} of 0 and 1"
        return f"{inputs} of 0 and 1, and one for gaps and rarer ones"
    if column.kind == "empty" or fitted.scale == 0:
        return "1 where it is missing" if fitted.has_missing else "0 in every row: it says nothing"
    units = {"date": "days since 1970, ", "time": "hours, ", "boolean": "0 and 1, "}
    gaps = "; gaps are the median, and marked" if fitted.has_missing else ""
    return f"{units.get(column.kind, '')}{how_read(column)}standardised{gaps}"


def _fit_numbers(name: str, numbers: Numbers) -> NumberColumn:
    missing = np.isnan(numbers)
    median = 0.0 if missing.all() else float(np.median(numbers[~missing]))
    filled = np.where(missing, median, numbers)
    is_constant = bool(filled.min() == filled.max())
    return NumberColumn(
        name=name,
        median=median,
        mean=float(filled.mean()),
        scale=0.0 if is_constant else float(filled.std()),
        has_missing=bool(missing.any() and not missing.all()),
    )


def _fit_texts(name: str, texts: Texts) -> CategoryColumn:
    counts = Counter(texts)
    n_missing = counts.pop(None, 0)
    # Equal counts by name, so that the order of the rows decides nothing.
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    return CategoryColumn(
        name=name,
        categories=tuple(sorted(ranked[:MAX_CATEGORIES])),
        has_other=n_missing > 0 or len(ranked) > MAX_CATEGORIES,
    )
