"""The version of our own tables, and how they get to it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from optuna.storages._rdb import models
from sqlalchemy import Connection, Engine, inspect, literal, select

from kansearch.errors import StorageError
from kansearch.storage.tables import VERSION_TABLE, OwnTable

NEWEST = 4
"""The number of the last migration."""


def version(connection: Connection) -> int:
    """Of the tables of a database; 0 where there are none of ours, or from before they had a version.

    Raises:
        StorageError: If the database does not say a number.
    """
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    found = ", ".join(map(str, context.get_current_heads())) or "0"
    if not found.isdecimal():
        raise StorageError(
            f"the storage's table {VERSION_TABLE} says {found[:100]!r}; allowed: one number. Restore a backup, or "
            f"DROP TABLE {VERSION_TABLE} to have it made anew"
        )
    return int(found)


def refuse_newer(connection: Connection, shown: str) -> None:
    """Leave a database alone whose tables a newer kansearch made.

    Args:
        connection: To the database.
        shown: Its URL for people.

    Raises:
        StorageError: If it is one, or nobody knows.
    """
    found = version(connection)
    if found > NEWEST:
        raise StorageError(
            f"storage {shown} has tables of a newer kansearch (version {found}); this one knows up to {NEWEST}: "
            "install a newer one, or name another storage"
        )


def refuse_torn(connection: Connection, shown: str) -> None:
    """Leave a database alone that lost tables: new ones in their place would only hide it.

    Args:
        connection: To the database.
        shown: Its URL for people.

    Raises:
        StorageError: If it is one.
    """
    # First what is in use, then what is there: another process may be making tables now, and fills them last.
    optunas = models.BaseModel.metadata.tables
    is_used = any(
        connection.execute(select(literal(1)).select_from(optunas[name]).limit(1)).first()
        for name in {"studies", "trials"}.intersection(inspect(connection).get_table_names())
    )
    is_ours = version(connection) == NEWEST
    found = set(inspect(connection).get_table_names())
    missing, advice = set[str](), ""
    if is_ours:
        missing = set(OwnTable.metadata.tables) - found
        advice = f"restore a backup, or DROP TABLE {VERSION_TABLE} to have them made anew"
    if is_used and optunas.keys() - found:
        missing, advice = optunas.keys() - found, "restore a backup, or name another storage"
    if missing:
        raise StorageError(f"storage {shown} lacks tables that it had: {', '.join(sorted(missing))}; {advice}")


def migrate(engine: Engine) -> None:
    """Bring our tables up to date; nothing where they are.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: If another process does it at this moment, or nobody may.
    """
    with engine.connect() as connection:
        if version(connection) == NEWEST:
            return
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
