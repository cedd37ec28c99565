"""What every launcher keeps. Its own tests run this contract against its engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kansearch.launch.request import Job, Launcher, LaunchRequest
from tests.commands import PATIENCE_S, wait_until
from tests.faults.crew import check_invariants, create_storm


def check_contract(launcher: Launcher, folder: Path, url: str) -> None:
    """Workers of a plan are watched, found again, stopped and sent anew, and end by themselves or with their words.

    Args:
        launcher: Whose engine has room for two tasks.
        folder: For the study's file.
        url: Of a new storage that the tasks reach.
    """
    study = create_storm(folder, url, trials=6, epochs=1500)
    request = LaunchRequest("storm", 2, secrets={"KANSEARCH_STORAGE": url})
    plan = launcher.plan(request)
    assert url not in plan.text + repr(plan)
    assert launcher.plan(request) == plan

    job = launcher.submit(plan)
    _work(job, until=lambda: study.counts()["running"] == 2 and "2 running" in job.state())
    found = launcher.find(job.name) if job.name else job  # those without a name end with this process
    assert "2 running" in found.state()
    found.stop()
    _work(job, until=lambda: job.poll() == 0)
    assert (job.state(), found.state()) == ("ended", "ended")
    assert job.ended_with() is None
    found.stop()
    wait_until(lambda: study.counts()["running"] == 0)  # the engine may wait for its tasks after it said so
    assert study.counts()["waiting"] >= 2  # they were handed back

    job = launcher.submit(plan)
    _work(job, until=lambda: job.poll() == 0)
    assert job.ended_with() is None
    assert job.state() == "ended"
    assert any(record.resumed_at for record in check_invariants(study, budget=6))
    job.stop()

    job = launcher.submit(launcher.plan(replace(request, study="strom")))
    _work(job, until=lambda: job.poll() == 0)
    gave_up = job.ended_with()
    assert gave_up is not None
    assert gave_up[0] == 2
    assert 'no study "strom" in this storage; did you mean "storm"?' in gave_up[1]
    job.stop()


def _work(job: Job, until: Callable[[], bool]) -> None:
    """Look after a job until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, job.state()
        job.poll()
        time.sleep(0.2)
