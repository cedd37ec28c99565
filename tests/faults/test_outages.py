"""Databases, workers and clocks that are away for a while, or wrong: nothing is lost or doubled."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from kansearch.storage.trials import read_records
from tests.conftest import missing
from tests.servers import Server

from .crew import Crew, check_invariants, create_storm, n_ended

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TRIALS = 44
EPOCHS = 1000
"""Trials of about a second."""


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_outages_stop_nobody(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Also for longer than the silence of the dead; the server is shut down or crashes, and every worker goes on."""
    server: Server = request.getfixturevalue(kind)
    study = create_storm(tmp_path, server.new_database(), TRIALS, EPOCHS)
    url = server.url(str(study.storage.ledger.engine.url.database))
    with Crew(tmp_path, url, "storm", 4, "--pack", "2") as crew:
        for number, seconds in enumerate((5, 45, 10)):
            goal = n_ended(study) + 6
            crew.wait_until(lambda goal=goal: n_ended(study) >= goal)  # type: ignore[misc]
            (server.kill if number % 2 else server.stop)()
            time.sleep(seconds)
            server.start()
            assert crew.keep_up()
            assert len(crew.workers) == 4, crew.words.read_text()[-2000:]
        assert n_ended(study) < TRIALS
        crew.finish()
    assert len(check_invariants(study, TRIALS)) == TRIALS, "a trial was lost or tried again"


def test_a_worker_that_was_paused_does_no_harm(postgres: Server, tmp_path: Path) -> None:
    """When it goes on it finds its trials in other hands, writes nothing of them, and works on."""
    url = postgres.new_database()
    study = create_storm(tmp_path, url, 12, 12000)
    with Crew(tmp_path, url, "storm", 2, "--pack", "2") as crew:
        crew.wait_until(lambda: sum(record.state == "running" for record in read_records(study)) == 4)
        paused = crew.workers[0]
        paused.send_signal(signal.SIGSTOP)
        theirs = {r.number for r in read_records(study) if f"/{paused.pid}-" in str(r.worker)}
        crew.wait_until(lambda: all(r.state == "fail" for r in read_records(study) if r.number in theirs))
        taken = [record for record in read_records(study) if record.number in theirs]
        assert [(r.state, r.reason) for r in taken] == [("fail", "its worker died")] * 2
        paused.send_signal(signal.SIGCONT)
        crew.wait_until(lambda: any(f"/{paused.pid}-" in str(r.worker) for r in read_records(study)[4:]))
        crew.finish()
    records = check_invariants(study, 12)
    assert [record for record in records if record.number in theirs] == taken


@pytest.mark.parametrize(("before", "after"), [("+0", "+1h"), ("+2h", "+1h")], ids=["ahead", "back"])
@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)  # each with a clock of another machine
def test_a_clock_that_jumps_kills_nobody(before: str, after: str, database_url: str, tmp_path: Path) -> None:
    """An hour ahead or back, on the machine of half the workers, in the middle of a search."""
    program = shutil.which("faketime")
    if program is None:
        missing("faketime", "faketime is missing: apt-get install faketime")
    jumps = tmp_path / "jumps"
    jumps.write_text(f"{before}\n")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    # libfaketime sometimes gives the system a time that is none, when it is to sleep until then.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda s: select.select([], [], [], s)\n"
    )
    fake = {
        "PYTHONPATH": str(tmp_path),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(jumps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    study = create_storm(tmp_path, database_url, 24, 1000)
    (tmp_path / "there").mkdir()
    with (
        Crew(tmp_path, database_url, "storm", 1, "--pack", "2") as here,
        Crew(tmp_path / "there", database_url, "storm", 1, "--pack", "2", first=1, environment=fake) as there,
    ):
        here.wait_until(lambda: n_ended(study) >= 3)
        jumps.write_text(f"{after}\n")
        here.wait_until(lambda: n_ended(study) >= 14)  # some signs of life later
        there.finish()
        here.finish()
    records = check_invariants(study, 24)
    assert len(records) == 24, "a trial was lost or tried again"
    assert len({record.worker for record in records}) == 2
