"""Workers that Slurm places: on a real cluster of virtual nodes."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kansearch.launch.launchers import launcher
from kansearch.specs.launch import LaunchSpec
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.commands import Command, run_in, wait_until
from tests.conftest import missing
from tests.faults.crew import STORM, check_records, n_ended
from tests.launch.contract import check_contract
from tests.launch.slurm_site import Slurm
from tests.servers import MissingPartError, Server

pytestmark = pytest.mark.slow

LOGS = "logs of 5% more"

SITE = """
launcher: slurm
workers: 4
cpus: 2
time: 10m
logs: logs of 5% more
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster of four nodes with two cores each."""
    try:
        cluster = Slurm()
    except MissingPartError as error:
        missing("slurm", str(error))
    with cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _empty_queue(slurm: Slurm) -> Iterator[None]:
    """A task that Slurm requeued may begin minutes later, to find that its study is done."""
    yield
    slurm.ask("scancel", "--user=root")
    wait_until(lambda: not slurm.tasks("RUNNING,PENDING,COMPLETING"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a study of long trials, and the file of a site."""
    (tmp_path / "storm.yaml").write_text(STORM % {"trials": 40, "epochs": 300, "sampler": "random"})
    (tmp_path / "site.yaml").write_text(SITE)
    return tmp_path


def test_tasks_of_slurm_keep_the_contract(
    slurm: Slurm, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all launchers do."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    spec = LaunchSpec(launcher="slurm", logs=str(tmp_path / LOGS))
    check_contract(launcher(spec), tmp_path, postgres.new_database())


def test_a_study_outlives_all_that_slurm_does_to_its_tasks(slurm: Slurm, postgres: Server, folder: Path) -> None:
    """A task is requeued, one is told that its time is up, one gets a time limit, and a node goes down: 40 trials."""
    environment = {"KANSEARCH_STORAGE": postgres.new_database(), **slurm.environment}
    with Command(folder, "optimize", "storm.yaml", "--cluster", "site.yaml", environment=environment) as command:
        command.wait_until(lambda: len(slurm.tasks()) == 4)
        study = load_study(open_storage(environment["KANSEARCH_STORAGE"]), "storm")
        command.wait_until(lambda: n_ended(study) >= 4)
        first, second, third, fourth = sorted(slurm.tasks())
        slurm.ask("scontrol", "requeue", first)
        slurm.ask("scancel", "--signal=USR1", "--batch", second)
        slurm.ask("scontrol", "update", f"jobid={third}", "timelimit=1")
        node = slurm.ask("squeue", "-h", "-r", "-j", fourth, "-o", "%N").strip()
        slurm.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        time.sleep(5)
        slurm.ask("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        output, errors = command.communicate()
        assert command.wait() == 0, (output, errors)
    records = read_records(study)
    check_records(records, budget=40)
    handed_back = [record for record in records if record.handed_back]
    assert handed_back
    assert any(record.resumed_at for record in records)
    # One log a task, whatever happened to it.
    assert len(list((folder / LOGS).glob("storm-*_*.log"))) == 4


def test_ctrl_c_leaves_the_workers_and_one_command_ends_them(slurm: Slurm, postgres: Server, folder: Path) -> None:
    """Ctrl-C says how to go on; the same command finds its workers; status shows the job, and --cancel ends it."""
    environment = {"KANSEARCH_STORAGE": postgres.new_database(), **slurm.environment}
    with Command(folder, "optimize", "storm.yaml", "--cluster", "site.yaml", environment=environment) as command:
        command.wait_until(lambda: len(slurm.tasks()) == 4)
        study = load_study(open_storage(environment["KANSEARCH_STORAGE"]), "storm")
        command.wait_until(lambda: study.counts()["running"] > 0)
        command.send_signal(signal.SIGINT)
        output, errors = command.communicate()
        assert command.wait() == 130, (output, errors)
    words = " ".join(output.split())
    assert "kansearch stop storm --cancel" in words
    assert len(slurm.tasks("RUNNING,PENDING")) == 4  # the node that was down may have begun one anew
    assert re.search(r"\d running", run_in(folder, "status", "storm", **environment).stdout.partition("logs")[2])
    again = run_in(folder, "optimize", "storm.yaml", "--cluster", "site.yaml", "--detach", **environment)
    assert "There are workers already: " in again.stdout, again.stderr
    assert len(slurm.tasks("RUNNING,PENDING")) == 4
    done = run_in(folder, "stop", "storm", "--cancel", **environment)
    assert "cancelled" in done.stdout, done.stderr
    wait_until(lambda: not slurm.tasks("RUNNING,PENDING,COMPLETING"))
    counts = study.counts()
    assert counts["running"] == 0
    assert counts["waiting"] > 0


def test_sixty_four_workers_are_sent_at_once(slurm: Slurm, postgres: Server, folder: Path) -> None:
    """A job array is one request, however large; --detach leaves it to itself."""
    environment = {"KANSEARCH_STORAGE": postgres.new_database(), **slurm.environment}
    flags = ("--cluster", "site.yaml", "--workers", "64", "--detach")
    done = run_in(folder, "optimize", "storm.yaml", *flags, **environment)
    assert done.returncode == 0, done.stderr
    number = done.stdout.partition("Slurm job ")[2].split(",")[0]
    assert len(slurm.ask("squeue", "-h", "-r", "-j", number, "-o", "%i").split()) == 64
    assert run_in(folder, "stop", "storm", "--cancel", **environment).returncode == 0
    wait_until(lambda: not slurm.tasks("RUNNING,PENDING,COMPLETING"))


def test_a_job_that_cannot_begin_says_why(slurm: Slurm, postgres: Server, folder: Path) -> None:
    """Slurm accepts what no node has, and lets it wait: its reason is shown."""
    (folder / "site.yaml").write_text(SITE.replace("cpus: 2", "cpus: 900"))
    environment = {"KANSEARCH_STORAGE": postgres.new_database(), **slurm.environment}
    words = folder / "words"
    words.touch()
    flags = ("--cluster", "site.yaml")
    with Command(folder, "optimize", "storm.yaml", *flags, environment=environment, words=words) as command:
        command.wait_until(lambda: "No trial is being trained: 4 pending (partitionconfig)" in words.read_text())
    assert run_in(folder, "stop", "storm", "--cancel", **environment).returncode == 0
    wait_until(lambda: not slurm.tasks("PENDING"))


@pytest.mark.parametrize(
    ("line", "words"),
    [("partition: gold", "Slurm refused: sbatch: error"), ("memory: 900G", "Slurm refused: sbatch: error")],
)
def test_what_slurm_refuses_is_said_in_its_words(
    slurm: Slurm, postgres: Server, folder: Path, line: str, words: str
) -> None:
    """One line, exit code 3; the script is kept and named."""
    (folder / "site.yaml").write_text(SITE.replace("cpus: 2\n", "") + line + "\n")
    environment = {"KANSEARCH_STORAGE": postgres.new_database(), **slurm.environment}
    done = run_in(folder, "optimize", "storm.yaml", "--cluster", "site.yaml", **environment)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert f"the script is kept: {folder / LOGS / 'storm.sbatch'}" in done.stderr
    assert not slurm.tasks("PENDING")
