"""Storms: many workers on one database, of which one after the other is killed, paused, or loses its database."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from kansearch.storage.trials import read_records
from tests.servers import Server

from .crew import Crew, check_invariants, create_storm, run_storm

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_a_storm_loses_nothing(database_url: str, tmp_path: Path) -> None:
    """16 workers, 500 trials, one worker killed every 2 s: the budget is exact, and all invariants hold."""
    happened = run_storm(tmp_path, database_url)
    assert happened["killed"] >= 5


@pytest.mark.parametrize("which", ["postgres", "mariadb"])
def test_a_database_that_goes_down_again_and_again_stops_nobody(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Five times, for 10 to 20 s, politely and by a crash: every worker goes on, and none dies of it."""
    server: Server = request.getfixturevalue(which)
    url = server.new_database()
    study = create_storm(tmp_path, url, trials=300, epochs=1500)
    with Crew(tmp_path, url, "storm", 4, "--pack", "2") as crew:
        first = set(crew.workers.values())
        for outage, end in zip((10, 12, 15, 10, 20), (server.stop, server.kill) * 3, strict=False):
            time.sleep(12)
            end()
            time.sleep(outage)
            server.start()
        while crew.keep_up():
            assert set(crew.workers.values()) <= first, crew.words.read_text()[-2000:]
            time.sleep(0.2)
        assert set(crew.statuses) == {0}, crew.words.read_text()[-2000:]
    check_invariants(study, 300)


def test_a_worker_that_sleeps_for_two_minutes_wakes_up_and_does_no_harm(postgres: Server, tmp_path: Path) -> None:
    """Others take its trials over; it finds that out and goes on with new ones."""
    url = postgres.new_database()
    study = create_storm(tmp_path, url, trials=400, epochs=3000)
    with Crew(tmp_path, url, "storm", 2, "--pack", "2") as crew:
        while not any(record.state in ("complete", "pruned") for record in read_records(study)):
            time.sleep(0.3)
        sleeper = crew.workers[0]
        os.kill(sleeper.pid, signal.SIGSTOP)
        waker = threading.Timer(120, os.kill, (sleeper.pid, signal.SIGCONT))
        waker.start()
        while crew.keep_up():
            time.sleep(0.3)
        waker.cancel()
        os.kill(sleeper.pid, signal.SIGCONT) if sleeper.poll() is None else None
        assert set(crew.statuses) == {0}, crew.words.read_text()[-2000:]
    records = check_invariants(study, 400)
    assert any(record.reason == "its worker died" for record in records)
