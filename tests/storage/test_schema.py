"""The version of our own tables."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from kansearch.errors import StorageError
from kansearch.storage.schema import NEWEST, migrate, version
from kansearch.storage.tables import OwnTable
from kansearch.storage.url import open_storage, parse_url

from .rivals import at_once, open_it


@pytest.fixture
def engine(database_url: str) -> Engine:
    return create_engine(parse_url(database_url), poolclass=NullPool)


def execute(engine: Engine, *statements: str, **values: object) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), values)


def test_a_new_storage_has_the_newest_tables(database_url: str, engine: Engine) -> None:
    """With the columns that the code asks for, and the number of the last migration."""
    open_storage(database_url)
    with engine.connect() as connection:
        assert version(connection) == NEWEST
        found = inspect(connection)
        for table in OwnTable.metadata.sorted_tables:
            assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())


def test_an_older_storage_is_brought_up_to_date(database_url: str, engine: Engine) -> None:
    """Checkpoints from before there were versions stay."""
    open_storage(database_url)
    execute(
        engine,
        "DROP TABLE kansearch_version",
        "DROP TABLE kansearch_workers",
        "INSERT INTO studies (study_id, study_name) VALUES (1, 's')",
        "INSERT INTO trials (trial_id, study_id, number, state) VALUES (5, 1, 0, 'RUNNING')",
        "INSERT INTO kansearch_trial_checkpoints (trial_id, epoch, state) VALUES (5, 3, :state)",
        state=b"abc",
    )
    checkpoint = open_storage(database_url).ledger.checkpoint(5)
    assert checkpoint is not None
    assert (checkpoint.epoch, checkpoint.state) == (3, b"abc")
    with engine.connect() as connection:
        assert version(connection) == NEWEST
        assert inspect(connection).has_table("kansearch_workers")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_storage_is_left_alone(database_url: str, engine: Engine, read_only: bool) -> None:
    """The message says which version it has, and nothing is changed."""
    open_storage(database_url)
    execute(engine, "UPDATE kansearch_version SET version_num = '99'", "DROP TABLE kansearch_workers")
    with pytest.raises(
        StorageError, match=rf"tables of a newer kansearch \(version 99\); this one knows up to {NEWEST}"
    ):
        open_storage(database_url, read_only=read_only)
    with engine.connect() as connection:
        assert not inspect(connection).has_table("kansearch_workers")


def test_a_version_that_is_none_is_said(database_url: str, engine: Engine) -> None:
    """In one line with a way out, which works: the tables that are there are left as they are."""
    open_storage(database_url)
    execute(engine, "UPDATE kansearch_version SET version_num = 'three'")
    for read_only in (False, True):
        with pytest.raises(StorageError) as caught:
            open_storage(database_url, read_only=read_only)
        assert str(caught.value) == (
            "the storage's table kansearch_version says 'three'; allowed: one number. Restore a backup, or DROP TABLE "
            "kansearch_version to have it made anew"
        )
    execute(engine, "DROP TABLE kansearch_version")
    open_storage(database_url)
    with engine.connect() as connection:
        assert version(connection) == NEWEST


def test_many_may_open_a_new_storage_at_once(database_url: str, engine: Engine) -> None:
    """Whoever comes second waits for the tables of the first."""
    assert all(at_once(6, open_it, database_url))
    with engine.connect() as connection:
        assert version(connection) == NEWEST
    migrate(engine)


def test_a_new_file_that_somebody_fills_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses at once to begin a write-ahead log while another process makes its first tables."""
    path = tmp_path / "kansearch.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        leaves = threading.Timer(0.3, other.rollback)
        leaves.start()
        open_storage(f"sqlite:///{path}").close()
        leaves.join()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
