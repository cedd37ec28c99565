"""Statements that every trial of a search costs: SQLAlchemy puts each together once, and only the driver runs it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, exc

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


@contextlib.contextmanager
def last_writes(connection: Connection) -> Iterator[None]:
    """Commit behind what is written here; where the driver can (PostgreSQL), all of it is one round trip.

    Nothing may be read here, for no statement waits for its answer. An error of any is raised at the end at the latest,
    and then nothing is committed.

    Args:
        connection: With a transaction, which ends here.
    """
    if connection.dialect.name == "postgresql" and _has_pipelines():
        with _as_alchemy_errors(connection), connection.connection.driver_connection.pipeline():  # type: ignore[union-attr]
            yield
            connection.exec_driver_sql("COMMIT")
    else:
        yield
    connection.commit()


@functools.cache
def _has_pipelines() -> bool:
    """Whether the driver can send statements together; with a client library before PostgreSQL 14's it cannot."""
    from psycopg import Pipeline  # noqa: PLC0415 - of an extra

    return Pipeline.is_supported()


@contextlib.contextmanager
def _as_alchemy_errors(connection: Connection) -> Iterator[None]:
    """What a pipeline raises at its end goes past SQLAlchemy, which would know whether it is the connection's loss."""
    from psycopg import Error  # noqa: PLC0415 - of an extra

    try:
        yield
    except Error as error:
        is_lost = bool(connection.connection.driver_connection.broken)  # type: ignore[union-attr]
        dialect = connection.dialect
        if is_lost:
            connection.invalidate(error)
        raise exc.DBAPIError.instance(
            None, None, error, Error, connection_invalidated=is_lost, dialect=dialect
        ) from error


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
