"""What was seen in the columns of a table, and what was done with them."""

from __future__ import annotations

from typing import Literal

from kansearch.specs.base import Spec

Kind = Literal["number", "boolean", "date", "time", "category", "text", "constant", "empty", "other"]
"""What a column holds; `other` are values that no network can take in, such as lists."""

Role = Literal["input", "target", "left out"]


class Column(Spec):
    """One column of a table as it was read.

    Attributes:
        name: As in the file; of a column without one, its place.
        kind: What it holds.
        role: Whether it is learned from, predicted or not used.
        gaps: Rows without a value.
        distinct: Different values, gaps aside.
        form: How its numbers are written, by the example of 1234.5: `1.234,5`; how its dates are, as in
            `%d.%m.%Y` or `ISO 8601`; "" where there is nothing to say.
        unit: What stands beside each number: $, %, kg.
        done: What was done with it, in words.
    """

    name: str
    kind: Kind
    role: Role
    gaps: int
    distinct: int
    form: str = ""
    unit: str = ""
    done: str = ""
