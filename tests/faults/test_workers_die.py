"""Workers that are killed: no trial lost, none counted twice, none left running, the budget exact."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage

from .crew import check_records

pytestmark = pytest.mark.faults


def start(study_file: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kansearch", "optimize", str(study_file), *arguments]
    return subprocess.Popen(
        command,
        cwd=study_file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read(folder: Path) -> tuple[TrialRecord, ...]:
    """The study's records; none while it does not exist."""
    if not (folder / "kansearch.db").exists():
        return ()
    try:
        return read_records(load_study(open_storage(f"sqlite:///{folder / 'kansearch.db'}"), "small"))
    except Exception:  # noqa: BLE001 - its tables are being made
        return ()


def wait_for_finished(folder: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while sum(r.state in ("complete", "pruned") for r in read(folder)) < n:
        assert time.monotonic() < deadline, "the search did not begin"
        time.sleep(0.2)


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.slow
def test_four_workers_on_one_file_keep_the_budget_exact_five_times(study_file: Path) -> None:
    """Five times over, four workers spend exactly the budget, and nothing was ever locked."""
    for run in range(5):
        arguments = ("--workers", "4", "--trials", "40", "--name", f"run{run}")
        process = start(study_file, *arguments)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "locked" not in output + errors
        study = load_study(open_storage(f"sqlite:///{study_file.parent / 'kansearch.db'}"), f"run{run}")
        records = read_records(study)
        assert len(records) == 40
        check_records(records, 40)


def test_killed_workers_lose_no_trial(study_file: Path) -> None:
    """While random workers are killed, others take their trials over; the end is the same exact budget."""
    process = start(
        study_file, "--workers", "3", "--trials", "40", "--set", "budget.epochs=300", "--set", "search.pruner=none"
    )
    wait_for_finished(study_file.parent, 1)
    dice = random.Random(0)
    n_killed = 0
    while process.poll() is None and n_killed < 3:
        workers = children(process)
        if workers:
            os.kill(dice.choice(workers), signal.SIGKILL)
            n_killed += 1
        time.sleep(2.0)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    assert n_killed >= 1
    check_records(read(study_file.parent), 40)


def test_killing_everything_at_once_loses_only_what_was_running(study_file: Path) -> None:
    """After SIGKILL of the command and all its workers, the same command goes on to the exact budget."""
    arguments = ("--workers", "2", "--trials", "30", "--set", "budget.epochs=300", "--set", "search.pruner=none")
    process = start(study_file, *arguments)
    wait_for_finished(study_file.parent, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {r.number: r for r in read(study_file.parent) if r.state in ("complete", "pruned")}
    again = start(study_file, *arguments)
    _, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    records = read(study_file.parent)
    check_records(records, 30)
    assert all(records[number] == record for number, record in before.items())


def test_workers_do_not_outlive_a_killed_command(study_file: Path) -> None:
    """After SIGKILL of the command alone its workers hand their trials back and end, and nothing is trained twice."""
    arguments = ("--workers", "2", "--trials", "30", "--set", "budget.epochs=300", "--set", "search.pruner=none")
    process = start(study_file, *arguments)
    wait_for_finished(study_file.parent, 2)
    workers = children(process)
    process.kill()
    again = start(study_file, *arguments)
    process.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its command"
        time.sleep(0.2)
    _, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    check_records(read(study_file.parent), 30)


def test_two_commands_may_begin_the_same_study_at_once(study_file: Path) -> None:
    """One creates it, both search in it, and both end with its report."""
    commands = [start(study_file, "--workers", "1", "--trials", "20", "--output", f"report-{n}") for n in range(2)]
    for command in commands:
        output, errors = command.communicate(timeout=180)
        assert command.returncode == 0, output + errors
    check_records(read(study_file.parent), 20)
    reports = [(study_file.parent / f"report-{n}/report.json").read_text() for n in range(2)]
    assert json.loads(reports[0])["front"] == json.loads(reports[1])["front"]


def test_workers_stopped_from_outside_are_no_end_of_a_study(study_file: Path) -> None:
    """When every worker is told to stop by somebody else, the command says so instead of calling the study done."""
    process = start(study_file, "--workers", "1", "--trials", "30", "--set", "budget.epochs=300")
    wait_for_finished(study_file.parent, 1)
    for pid in children(process):
        os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "stopped from outside; go on with: kansearch optimize" in errors
    assert "running" not in {record.state for record in read(study_file.parent)}


def test_a_worker_that_keeps_dying_ends_the_search_with_its_last_words(study_file: Path) -> None:
    """Workers that cannot even start are not started for ever; the operator is told why."""
    broken = study_file.parent / "broken"
    broken.mkdir()
    (broken / "optuna.py").write_text("raise ImportError('this optuna is broken')\n")
    request = (
        "from kansearch.launch.local import LocalWorkers\n"
        "from kansearch.launch.request import LaunchRequest\n"
        "import time\n"
        f"workers = LocalWorkers(LaunchRequest('small', 1, None, 'cpu', {{'PYTHONPATH': {str(broken)!r}}}))\n"
        "workers.start()\nwhile workers.poll():\n    time.sleep(0.05)\n"
    )
    done = subprocess.run([sys.executable, "-c", request], capture_output=True, text=True, timeout=60, check=False)
    assert "LaunchError: worker 0 died 3 times within 10 s of its start" in done.stderr
    assert "this optuna is broken" in done.stderr
