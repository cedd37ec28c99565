"""Tables to numbers that a network can take in, by what the training rows alone have shown.

An encoder is a value: its JSON beside a network's weights is all that a prediction needs.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64
from pydantic import Field

from kansearch.data.columns import Numbers, Texts, as_numbers, as_texts, shown
from kansearch.errors import DataError
from kansearch.specs.base import Spec

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
    """

    kind: Literal["number"] = "number"
    name: str
    median: float
    mean: float
    scale: float
    has_missing: bool

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, for people."""
        return (self.name, f"{self.name} (missing)") if self.has_missing else (self.name,)

    def encode(self, column: pd.Series[float], where: str) -> Encoded:
        """The features of all rows."""
        numbers, bad = as_numbers(column, where)
        if bad.any():
            first = int(bad.argmax())
            raise DataError(f"{where}, row {first + 1} is {shown(column.iloc[first])}; allowed: numbers")
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
        features[np.arange(len(column)), [places.get(text, other) for text in as_texts(column, where)]] = 1
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


def fit_encoder(train: pd.DataFrame) -> Encoder:
    """Learn an encoder from training rows.

    Args:
        train: Columns of float64 with NaN where a value is missing, or of str with None there.
    """
    return Encoder(
        columns=tuple(
            _fit_texts(str(name), column.to_numpy())
            if column.dtype == object
            else _fit_numbers(str(name), column.to_numpy(dtype=float))
            for name, column in train.items()
        )
    )


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
