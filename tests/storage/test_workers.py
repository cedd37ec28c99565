"""Workers in the storage: who is there, who is late, who is dead."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text, update

from kansearch.storage.ledger import LedgerStorage
from kansearch.storage.studies import StoredStudy, open_studies
from kansearch.storage.tables import WorkerModel
from kansearch.storage.url import open_storage
from kansearch.storage.workers import GRACE_S, LATE_S, Presence, Watch, is_gone, read_workers, worker_name
from tests.commands import wait_until


@pytest.fixture
def ledger(any_storage_url: str) -> LedgerStorage:
    return open_storage(any_storage_url).ledger


def change(ledger: LedgerStorage, **values: object) -> None:
    with ledger.session() as session:
        session.execute(update(WorkerModel).values(values))


def test_a_worker_is_there_from_its_start_to_its_end(ledger: LedgerStorage) -> None:
    """With what it trains; afterwards it says why it ended."""
    with Presence(ledger, "cpu") as presence:
        presence.study_id, presence.trials, presence.n_ended, presence.n_epochs = 3, (4, 7), 12, 340
        presence._beat()
        (worker,) = read_workers(ledger)
        assert (worker.name, worker.state, worker.device) == (worker_name(), "live", "cpu")
        assert (worker.study_id, worker.trials, worker.n_ended, worker.n_epochs) == (3, (4, 7), 12, 340)
    (worker,) = read_workers(ledger)
    assert (worker.state, worker.ended, worker.trials) == ("ended", "its work was done, or it was asked to stop", ())
    with pytest.raises(RuntimeError, match="broken"), Presence(ledger, "cpu"):
        raise RuntimeError("broken")
    assert read_workers(ledger)[0].ended == "RuntimeError: broken"


def test_workers_of_an_older_storage_can_be_read(any_storage_url: str) -> None:
    """One that is only looked at is not brought up to date: what it does not know is 0."""
    storage = open_storage(any_storage_url)
    with Presence(storage.ledger, "cpu"):
        pass
    with storage.ledger.session() as session:
        session.execute(text("ALTER TABLE kansearch_workers DROP COLUMN n_epochs"))
    try:
        (worker,) = read_workers(open_storage(any_storage_url, read_only=True).ledger)
        assert (worker.device, worker.n_epochs, worker.epochs_a_second) == ("cpu", 0, 0.0)
    finally:  # other tests use the database, too
        with storage.ledger.session() as session:
            session.execute(text("ALTER TABLE kansearch_workers ADD COLUMN n_epochs BIGINT DEFAULT 0 NOT NULL"))


def test_a_silent_worker_is_late_and_then_dead(ledger: LedgerStorage) -> None:
    """One of another host, of whose process nobody knows."""
    with Presence(ledger, "cpu"):
        pass
    change(ledger, worker="elsewhere/7-abc")
    with ledger.session() as session:
        seen = session.query(WorkerModel).one().seen_at
    states = []
    for seconds in (0.0, LATE_S + 2, GRACE_S + 2):
        change(ledger, ended=None, seen_at=seen - timedelta(seconds=seconds))
        states.append(read_workers(ledger)[0].state)
    assert states == ["live", "late", "dead"]


def test_others_are_watched_by_ones_own_clock(ledger: LedgerStorage) -> None:
    """However the clock of the database jumps: only a worker that gives no new sign in our grace is dead."""
    times = itertools.count(0.0, 10.0)
    watch = Watch(clock=lambda: next(times))
    names = {"elsewhere/7-abc", "unknown/1-aaa"}
    with Presence(ledger, "cpu"):
        pass
    change(ledger, worker="elsewhere/7-abc", ended=None)
    found = []
    with Presence(ledger, "cpu") as presence:
        for beats, seen in (
            (1, "2020-01-01 00:00:00"),
            (2, "2030-01-01 00:00:00"),
            (3, "2020-01-01"),
            *[(3, "2020-01-01")] * 4,
        ):
            with ledger.session() as session:
                row = session.get_one(WorkerModel, "elsewhere/7-abc")
                row.beats, row.seen_at = beats, datetime.fromisoformat(seen)
            presence._beat()
            found.append(watch.lost(ledger, names))
    assert found == [set()] * 4 + [{"unknown/1-aaa"}] * 2 + [names]


def test_silence_counts_only_while_ones_own_signs_get_through(ledger: LedgerStorage) -> None:
    """A database that was away for minutes, or that can only be read, silences all; then everybody gets time."""
    times = itertools.count(0.0, 300.0)
    watch = Watch(clock=lambda: next(times))

    def is_lost() -> bool:
        return bool(watch.lost(ledger, {"elsewhere/7-abc"}))

    with Presence(ledger, "cpu") as presence:
        assert not any(is_lost() for _ in range(20))
        lost = []
        for _ in range(4):
            presence._beat()
            lost.append(is_lost())
        assert lost == [False, False, False, True]
    assert not any(Watch(clock=lambda: next(times)).lost(ledger, {"elsewhere/7-abc"}) for _ in range(20))


def test_a_worker_that_was_forgotten_registers_again(ledger: LedgerStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clock of the database jumps by days, or its machine slept for so long."""
    monkeypatch.setattr("kansearch.storage.workers.HEARTBEAT_S", 0.1)
    with Presence(ledger, "cpu"):
        with ledger.session() as session:
            session.query(WorkerModel).delete()
        wait_until(lambda: [worker.name for worker in read_workers(ledger)] == [worker_name()])


def test_a_worker_that_ended_or_whose_process_is_gone_is_dead_at_once(ledger: LedgerStorage) -> None:
    """Nobody waits for it."""
    with Presence(ledger, "cpu"):
        pass
    assert Watch().lost(ledger, {worker_name()}) == {worker_name()}
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    place = worker_name().rpartition("/")[0]
    assert is_gone(f"{place}/{process.pid}-abc")
    assert not is_gone(worker_name())
    assert not is_gone(f"elsewhere/{process.pid}-abc")
    assert Watch().lost(ledger, {f"{place}/{process.pid}-abc"})


def test_workers_of_long_ago_are_forgotten(ledger: LedgerStorage) -> None:
    """When the next one begins."""
    with Presence(ledger, "cpu"):
        pass
    change(ledger, worker="elsewhere/7-abc")
    with ledger.session() as session:
        row = session.query(WorkerModel).one()
        row.seen_at = row.seen_at.replace(year=2020)
    with Presence(ledger, "cpu"):
        assert [worker.name for worker in read_workers(ledger)] == [worker_name()]


def test_open_are_studies_that_workers_may_serve(make_study: Callable[..., StoredStudy]) -> None:
    """Not those that were stopped, until somebody sets their budget anew."""
    study = make_study()
    assert [found.spec.name for found in open_studies(study.storage)] == ["small"]
    study.stop()
    assert open_studies(study.storage) == []
    study.set_budget(study.spec.budget)
    assert [found.spec.name for found in open_studies(study.storage)] == ["small"]
