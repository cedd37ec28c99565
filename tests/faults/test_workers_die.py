"""Workers that are killed: no trial lost, none counted twice, none left running, the budget exact."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from kansearch.compiled import trainer
from kansearch.storage.studies import load_study
from kansearch.storage.trials import WORKER
from kansearch.storage.url import open_storage
from tests.commands import Command, run_in, wait_until
from tests.studies import records_in

from .crew import check_records

pytestmark = pytest.mark.faults

# Small packs, so that trials end one after the other and the search is never about to end.
LASTING = ("--pack", "2", "--set", "budget.epochs=200", "--set", "search.pruner=none")
LONG = (*LASTING, "--set", "space.dtype=float64")
"""Trials that torch trains, for it is slow: compiled code would be done before anything can happen to them."""

COMPILED = (*LASTING, "--set", "data.n_train=20000")
"""Trials of some seconds that compiled code trains."""


def optimize(study_file: Path, *arguments: str) -> Command:
    return Command(study_file.parent, "optimize", study_file, *arguments)


def n_ended(folder: Path) -> int:
    return sum(record.state in ("complete", "pruned") for record in records_in(folder))


def at_work(folder: Path) -> list[int]:
    """The process numbers of workers that have trials in hand."""
    study = load_study(open_storage(f"sqlite:///{folder / 'kansearch.db'}"), "small")
    running = (trial for trial in study.trials() if trial.state is TrialState.RUNNING)
    return [int(trial.user_attrs[WORKER].rpartition("/")[2].partition("-")[0]) for trial in running]


def children(process: Command) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split()]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_four_workers_on_one_file_keep_the_budget_exact(study_file: Path) -> None:
    """Four workers spend exactly the budget, and nothing was ever locked."""
    with optimize(study_file, "--workers", "4", "--trials", "200") as process:
        output, errors = process.communicate()
        assert process.poll() == 0, errors
    assert "locked" not in output + errors
    assert len(records_in(study_file.parent)) == 200
    check_records(records_in(study_file.parent), 200)


@pytest.mark.parametrize("arguments", [LONG, COMPILED], ids=["torch", "compiled"])
def test_a_killed_worker_loses_no_trial(arguments: tuple[str, ...], study_file: Path) -> None:
    """Another one takes its trials over, a new one its place; the end is the same exact budget."""
    if arguments is COMPILED and trainer.level() is None:
        pytest.skip("no C compiler: torch would take minutes")
    folder = study_file.parent
    with optimize(study_file, "--workers", "2", "--trials", "16", *arguments) as process:
        process.wait_until(lambda: n_ended(folder) >= 1)
        before = children(process)
        os.kill(at_work(folder)[0], signal.SIGKILL)
        process.wait_until(lambda: set(children(process)) - set(before))
        _, errors = process.communicate()
        assert process.poll() == 0, errors
    check_records(records_in(folder), 16)
    assert "its worker died" in {record.reason for record in records_in(folder)}


def test_killing_everything_at_once_loses_only_what_was_running(study_file: Path) -> None:
    """After SIGKILL of the command and all its workers, the command goes on to the exact budget."""
    arguments = ("--trials", "12", *LONG)
    with optimize(study_file, *arguments, "--workers", "2") as process:
        process.wait_until(lambda: n_ended(study_file.parent) >= 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {r.number: r for r in records_in(study_file.parent) if r.state in ("complete", "pruned")}
    with optimize(study_file, *arguments, "--workers", "1") as again:
        _, errors = again.communicate()
        assert again.poll() == 0, errors
    records = records_in(study_file.parent)
    check_records(records, 12)
    assert all(records[number] == record for number, record in before.items())


def test_workers_do_not_outlive_a_killed_command(study_file: Path) -> None:
    """After SIGKILL of the command alone its workers hand their trials back and end, and nothing is trained twice."""
    with optimize(study_file, "--workers", "1", "--trials", "30", *LONG) as process:
        process.wait_until(lambda: n_ended(study_file.parent) >= 1)
        (worker,) = children(process)
        process.kill()
        process.wait()
        wait_until(lambda: not is_there(worker))
    assert "its worker was asked to stop" in {record.reason for record in records_in(study_file.parent)}
    assert n_ended(study_file.parent) < 30
    assert run_in(study_file.parent, "worker", "small").returncode == 0
    check_records(records_in(study_file.parent), 30)


def test_two_commands_may_begin_the_same_study_at_once(study_file: Path) -> None:
    """One creates it, both search in it, and both end with its report."""
    with (
        optimize(study_file, "--workers", "1", "--trials", "8", "--output", "report-0") as one,
        optimize(study_file, "--workers", "1", "--trials", "8", "--output", "report-1") as other,
    ):
        for command in (one, other):
            output, errors = command.communicate()
            assert command.poll() == 0, output + errors
    check_records(records_in(study_file.parent), 8)
    reports = [(study_file.parent / f"report-{n}/report.json").read_text() for n in range(2)]
    assert json.loads(reports[0])["front"] == json.loads(reports[1])["front"]


def test_workers_stopped_from_outside_are_no_end_of_a_study(study_file: Path) -> None:
    """When every worker is told to stop by somebody else, the command says so instead of calling the study done."""
    with optimize(study_file, "--workers", "1", "--trials", "12", *LONG) as process:
        process.wait_until(lambda: n_ended(study_file.parent) >= 1)
        for pid in children(process):
            os.kill(pid, signal.SIGTERM)
        _, errors = process.communicate()
        assert process.poll() == 3
    assert "stopped from outside; go on with: kansearch optimize" in errors
    assert "running" not in {record.state for record in records_in(study_file.parent)}


def test_a_worker_that_keeps_dying_ends_the_search_with_its_last_words(study_file: Path) -> None:
    """Workers that cannot even start are not started for ever; the operator is told why."""
    broken = study_file.parent / "broken"
    broken.mkdir()
    (broken / "optuna.py").write_text("raise ImportError('this optuna is broken')\n")
    request = (
        "from kansearch.launch.local import LocalJob\n"
        "from kansearch.launch.request import LaunchRequest\n"
        "import time\n"
        f"job = LocalJob(LaunchRequest('small', 1, environment={{'PYTHONPATH': {str(broken)!r}}}))\n"
        "while job.poll():\n    time.sleep(0.05)\n"
    )
    done = subprocess.run([sys.executable, "-c", request], capture_output=True, text=True, check=False)
    assert "LaunchError: worker 0 died 3 times within 10 s of its start" in done.stderr
    assert "this optuna is broken" in done.stderr
