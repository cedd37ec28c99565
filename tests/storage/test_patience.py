"""Waiting for a database that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import exc

from kansearch.errors import StorageError
from kansearch.storage.ledger import LedgerStorage
from kansearch.storage.patience import PATIENCE_S, does_pass, patient, wait_for
from kansearch.storage.studies import create_study
from kansearch.storage.trials import begin_trials, read_records
from kansearch.storage.url import open_storage
from tests.servers import Server

from .test_trials import candidate


@pytest.mark.parametrize("which", ["postgres", "mariadb"])
def test_a_search_waits_for_a_database_that_restarts(
    which: str, request: pytest.FixtureRequest, make_spec: Callable[..., object]
) -> None:
    """Stopped or killed: a transaction is done once when it is back, and none is lost."""
    server: Server = request.getfixturevalue(which)
    storage = open_storage(server.new_database())
    study = create_study(storage, make_spec("budget.trials=9"), digest="0" * 64, data_line="", versions={})  # type: ignore[arg-type]
    for end in (server.stop, server.kill):
        end()
        back = threading.Timer(1.0, server.start)
        back.start()
        begin = time.monotonic()
        assert len(begin_trials(study, [candidate()], n_seen=len(read_records(study)))) == 1
        assert time.monotonic() - begin > 0.5
        back.join()
    assert [record.state for record in read_records(study)] == ["running", "running"]


@pytest.mark.parametrize("which", ["postgres", "mariadb"])
def test_nobody_waits_for_what_does_not_pass(which: str, request: pytest.FixtureRequest) -> None:
    """A database that does not exist, and a user that does not."""
    server: Server = request.getfixturevalue(which)
    for url in (server.url("nosuch"), server.new_database().replace("://kan@", "://nobody:secret@")):
        begin = time.monotonic()
        with pytest.raises(StorageError) as caught:
            open_storage(url, patience_s=1200)
        assert time.monotonic() - begin < 600
        assert "secret" not in str(caught.value)


def test_whoever_only_looks_does_not_wait(postgres: Server) -> None:
    """A server that is away is said at once."""
    url = postgres.new_database()
    open_storage(url)
    postgres.stop()
    begin = time.monotonic()
    try:
        with pytest.raises(StorageError, match="cannot be opened"):
            open_storage(url, read_only=True)
    finally:
        postgres.start()
    assert time.monotonic() - begin < PATIENCE_S


class AwayError(Exception):
    """What a driver raises of a connection."""


def away(code: str | None = "57P01") -> exc.OperationalError:
    error = AwayError("terminating connection")
    error.sqlstate = code  # type: ignore[attr-defined]
    AwayError.__module__ = "psycopg.errors"
    return exc.OperationalError("select 1", {}, error)


def test_patience_ends() -> None:
    """With the error of the last try; and what does not pass is tried once."""
    tries = []

    def fail(error: Exception) -> None:
        tries.append(error)
        raise error

    with pytest.raises(exc.OperationalError):
        wait_for(lambda: fail(away()), 0.5)
    assert len(tries) > 2
    tries.clear()
    with pytest.raises(exc.OperationalError):
        wait_for(lambda: fail(away("42P01")), 5)
    assert len(tries) == 1
    assert not does_pass(ValueError("no"))


def test_a_method_inside_another_is_not_tried_alone() -> None:
    """It is part of that one's transaction."""
    calls: list[str] = []

    class Inner:
        patience_s = 5.0

        def read(self) -> None:
            calls.append("read")
            if calls.count("read") == 1:
                raise away()

        def write(self) -> None:
            calls.append("write")
            self.read()

    patient("read", "write")(Inner)
    Inner().write()
    assert calls == ["write", "read", "write", "read"]


def test_trials_whose_creation_was_confirmed_to_nobody_are_ours(
    make_study: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of a transaction may be lost when a database goes down: nothing is created twice."""
    study = make_study()
    create, lost = LedgerStorage._create_trials, []

    def lose(self: LedgerStorage, *arguments: object) -> object:
        created = create(self, *arguments)  # type: ignore[arg-type]
        if not lost:
            lost.append(created)
            raise away()
        return created

    monkeypatch.setattr(LedgerStorage, "_create_trials", lose)
    (trial,) = begin_trials(study, [candidate()], n_seen=0)  # type: ignore[arg-type]
    assert trial.number == 0
    assert len(read_records(study)) == 1  # type: ignore[arg-type]
