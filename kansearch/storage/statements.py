"""Statements that every trial of a search costs: SQLAlchemy puts each together once, and only the driver runs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect

Rows = list[tuple[Any, ...]]


def run_many(connection: Connection, statement: Any, names: tuple[str, ...], rows: Rows) -> None:
    """Run a statement once for each row, in half the time that `Connection.execute` takes.

    Args:
        connection: Of the database.
        statement: Made once, for it is remembered.
        names: Of all its parameters; of an insert, the columns.
        rows: Their values, in the order of the names.
    """
    text, as_driven = _prepared(statement, connection.dialect, names)
    connection.exec_driver_sql(text, as_driven(rows))


@functools.lru_cache(maxsize=200)
def _prepared(statement: Any, dialect: Dialect, names: tuple[str, ...]) -> tuple[str, Callable[[Rows], Sequence[Any]]]:
    """The text of a statement for a driver, and what makes of rows what the driver takes."""
    compiled = statement.compile(dialect=dialect, column_keys=names)
    of_types = {
        name: parameter.type.dialect_impl(dialect).bind_processor(dialect) for name, parameter in compiled.binds.items()
    }
    processors = [(names.index(name), process) for name, process in of_types.items() if process is not None]

    def processed(row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for place, process in processors:
            values[place] = process(values[place])
        return tuple(values)

    def as_driven(rows: Rows) -> Sequence[Any]:
        if processors:
            rows = [processed(row) for row in rows]
        if not compiled.positional:
            return [dict(zip(names, row, strict=True)) for row in rows]
        if tuple(compiled.positiontup) == names:
            return rows
        return [tuple([row[names.index(name)] for name in compiled.positiontup]) for row in rows]

    return str(compiled), as_driven
