"""Workers that Ray places, on a real cluster; `test_ray.py` runs this file in a network namespace of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from kansearch.launch.launchers import launcher
from kansearch.specs.launch import LaunchSpec
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from kansearch.storage.workers import read_workers
from tests.commands import Command, run_in, wait_until
from tests.faults.crew import STORM, check_records, n_ended
from tests.launch.contract import check_contract
from tests.launch.ray_site import ADDRESS, CLIENT_ADDRESS, ENVIRONMENT, RaySite, descendants
from tests.servers import Server

RAY = {**ENVIRONMENT, "RAY_ADDRESS": ADDRESS}

NAME = f"storm-{os.getpid()}"
"""Of the study: others may run storms on this machine."""

LONG = ("--name", NAME, "--launcher", "ray", "--workers", "2", "--pack", "2", "--set", "search.pruner.min_epochs=200")


@pytest.fixture(scope="module")
def site() -> Iterator[RaySite]:
    """A head, and two nodes with two cores each."""
    with RaySite() as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a study of long trials."""
    (tmp_path / "storm.yaml").write_text(STORM % {"trials": 40, "epochs": 1800, "sampler": "random"})
    return tmp_path


def workers_here() -> list[str]:
    """The worker processes of the study."""
    listed = subprocess.run(["ps", "-eo", "stat=,args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if f"kansearch worker {NAME} " in line and line[0] != "Z"]


def test_actors_keep_the_contract(
    site: RaySite, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the tasks of all launchers do."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    spec = LaunchSpec(launcher="ray", address=ADDRESS, logs=str(tmp_path / "logs"))
    try:
        check_contract(launcher(spec), tmp_path, postgres.new_database())
    finally:
        ray.shutdown()  # the driver is this process, which Ray would end with its cluster


def test_ctrl_c_leaves_the_workers_and_one_command_ends_them(site: RaySite, postgres: Server, folder: Path) -> None:
    """Ctrl-C says how to watch and how to cancel; status shows the actors; --cancel ends them, and no trial is left."""
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    with Command(folder, "optimize", "storm.yaml", *LONG, environment=environment) as command:
        command.wait_until(lambda: len(workers_here()) == 2)
        study = load_study(open_storage(environment["KANSEARCH_STORAGE"]), NAME)
        command.wait_until(lambda: n_ended(study) >= 1)
        command.send_signal(signal.SIGINT)
        output, errors = command.communicate()
        assert command.wait() == 130, (output, errors)
    assert f"kansearch stop {NAME} --cancel" in " ".join(output.split())
    before = n_ended(study)
    wait_until(lambda: n_ended(study) > before)
    wait_until(lambda: "2 running" in run_in(folder, "status", NAME, **environment).stdout)
    words = folder / "words"
    words.touch()
    with Command(folder, "optimize", "storm.yaml", *LONG, environment=environment, words=words) as again:
        again.wait_until(lambda: "There are workers already: 2 running" in words.read_text())
        assert len(workers_here()) == 2
    done = run_in(folder, "stop", NAME, "--cancel", **environment)
    assert done.returncode == 0, done.stderr
    assert workers_here() == []
    counts = study.counts()
    assert counts["running"] == 0
    assert counts["waiting"] > 0
    assert "actors" not in run_in(folder, "status", NAME, **environment).stdout


def test_a_study_outlives_the_loss_of_a_node(site: RaySite, postgres: Server, folder: Path) -> None:
    """All processes of a node are killed: its worker comes back elsewhere, and 40 trials end, none of them twice."""
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    with Command(folder, "optimize", "storm.yaml", *LONG, environment=environment) as command:
        command.wait_until(lambda: len(workers_here()) == 2)
        study = load_study(open_storage(environment["KANSEARCH_STORAGE"]), NAME)
        command.wait_until(lambda: n_ended(study) >= 2 and len(read_workers(study.storage.ledger)) == 2)
        site.lose_node()
        command.wait_until(lambda: len(read_workers(study.storage.ledger)) == 3)
        output, errors = command.communicate()
        assert command.wait() == 0, (output, errors)
    assert "raylet" not in output + errors
    site.add_node(cpus=2)
    records = read_records(study)
    check_records(records, budget=40)
    assert "its worker died" in {record.reason for record in records}
    assert any(record.resumed_at for record in records)
    # One log an actor, wherever it is placed.
    assert len(list((folder / "kansearch-logs").glob(f"{NAME}-*_?.log"))) == 2
    wait_until(lambda: workers_here() == [])


def test_sixty_four_workers_wait_for_their_places(site: RaySite, postgres: Server, folder: Path) -> None:
    """Resources are respected; --detach leaves them to themselves."""
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    many = ("--workers", "64", "--trials", "1000", "--detach")
    done = run_in(folder, "optimize", "storm.yaml", *LONG, *many, **environment)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "60 waiting, 4 running" in run_in(folder, "status", NAME, **environment).stdout)
    assert "cancelled" in run_in(folder, "stop", NAME, "--cancel", **environment).stdout
    wait_until(lambda: workers_here() == [])


@pytest.mark.skipif(
    "ray-client" not in os.environ.get("KANSEARCH_REQUIRE", "").split(","),
    reason="Ray's client loses its server or a gone actor now and then: KANSEARCH_REQUIRE=ray,ray-client runs it",
)
def test_a_cluster_is_reached_from_elsewhere(site: RaySite, postgres: Server, folder: Path) -> None:
    """By the address of a client, which is on no node: workers are watched, shown, and cancelled by another command."""
    environment = {**RAY, "RAY_ADDRESS": CLIENT_ADDRESS, "KANSEARCH_STORAGE": postgres.new_database()}
    many = ("--trials", "1000")
    with Command(folder, "optimize", "storm.yaml", *LONG, *many, environment=environment) as command:
        command.wait_until(lambda: len(workers_here()) == 2)
        study = load_study(open_storage(environment["KANSEARCH_STORAGE"]), NAME)
        command.wait_until(lambda: "2 running" in run_in(folder, "status", NAME, **environment).stdout)
        done = run_in(folder, "stop", NAME, "--cancel", **environment)
        assert done.returncode == 0, done.stderr  # they may have left before they were asked
        output, errors = command.communicate()
        assert command.wait() == 130, (output, errors)
    assert workers_here() == []
    assert study.counts()["running"] == 0


def test_a_cluster_that_grows_is_waited_for(site: RaySite, postgres: Server, folder: Path) -> None:
    """A task that no node can hold is refused, unless the site says that its cluster brings such nodes."""
    (folder / "site.yaml").write_text("launcher: ray\ncpus: 3\nautoscaling: true\n")
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    one = ("--name", NAME, "--workers", "1", "--cluster", "site.yaml")
    with Command(folder, "optimize", "storm.yaml", *one, environment=environment) as command:
        command.wait_until(lambda: "1 waiting" in run_in(folder, "status", NAME, **environment).stdout)
        assert workers_here() == []
        site.add_node(cpus=3)
        command.wait_until(lambda: len(workers_here()) == 3)
        assert run_in(folder, "stop", NAME, "--cancel", **environment).returncode == 0
        command.wait()
    site.lose_node()


def test_a_worker_that_gives_up_ends_the_command_with_its_words(site: RaySite, postgres: Server, folder: Path) -> None:
    """What a person can mend is said as on this machine, with the worker's exit code."""
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    done = run_in(folder, "optimize", "storm.yaml", *LONG, "--device", "cuda", **environment)
    assert done.returncode == 2, done.stderr
    assert "cuda" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpus: 64", f"no node of the Ray cluster at {ADDRESS} has 64 CPUs, 0 GPUs; the largest has 2 CPUs, 0 GPUs"),
        ("memory: 900T", "has 1 CPUs, 0 GPUs and 943718400M of memory; the largest has 2 CPUs"),
        ("logs: /proc/kansearch", "/proc/kansearch"),
        ("address: 127.0.0.1:6380", "the Ray cluster at 127.0.0.1:6380 cannot be reached: Connection refused"),
        ("address: nowhere.invalid:6379", "the Ray cluster at nowhere.invalid:6379 cannot be reached: "),
        ("address: http://127.0.0.1:8265", "the Ray cluster at http://127.0.0.1:8265 "),
    ],
)
def test_what_ray_refuses_is_said_in_one_line(
    site: RaySite, postgres: Server, folder: Path, text: str, words: str
) -> None:
    """Exit code 3, and no worker is left."""
    (folder / "site.yaml").write_text(f"launcher: ray\n{text}\n")
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    done = run_in(folder, "optimize", "storm.yaml", "--cluster", "site.yaml", **environment)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("kansearch: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert workers_here() == []


def test_a_cluster_of_another_version_is_named(site: RaySite, postgres: Server, folder: Path) -> None:
    """With Ray's own words, which hold both versions."""
    key = "b'CLUSTER_METADATA', namespace=b'cluster'"
    code = (
        "import json, sys; from ray._raylet import GcsClient\n"
        f"client = GcsClient(address={ADDRESS!r})\n"
        f"said = json.loads(client.internal_kv_get({key}))\n"
        "said['ray_version'] = sys.argv[1]\n"
        f"client.internal_kv_put(b'CLUSTER_METADATA', json.dumps(said).encode(), True, namespace=b'cluster')"
    )
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    subprocess.run([sys.executable, "-c", code, "2.9.3"], env={**RAY}, check=True)
    try:
        done = run_in(folder, "optimize", "storm.yaml", "--launcher", "ray", **environment)
    finally:
        subprocess.run([sys.executable, "-c", code, ray.__version__], env={**RAY}, check=True)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "Version mismatch: The cluster was started with: Ray: 2.9.3" in done.stderr


def test_a_port_at_which_something_else_listens_is_given_up(postgres: Server, folder: Path) -> None:
    """It lets everybody in and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = {**RAY, "RAY_ADDRESS": address, "KANSEARCH_STORAGE": postgres.new_database()}
        done = run_in(folder, "optimize", "storm.yaml", "--launcher", "ray", **environment)
    assert done.returncode == 3
    assert f"the Ray cluster at {address} " in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_cluster_one_is_started_and_ends_with_the_command(folder: Path) -> None:
    """It says so; after Ctrl-C nothing runs, and the same command goes on to the budget."""
    arguments = ("optimize", "storm.yaml", *LONG, "--trials", "8")
    with Command(folder, *arguments, environment=ENVIRONMENT) as command:
        command.wait_until(lambda: len(workers_here()) == 2)
        study = load_study(open_storage(f"sqlite:///{folder / 'kansearch.db'}"), NAME)
        command.wait_until(lambda: n_ended(study) >= 1)
        started = descendants(command.pid)
        command.send_signal(signal.SIGINT)
        output, errors = command.communicate()
        assert command.wait() == 130, (output, errors)
    assert "of a Ray on this machine, which ends with this command" in " ".join(output.split())
    assert started
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert study.counts()["running"] == 0
    done = run_in(folder, *arguments, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    check_records(read_records(study), budget=8)
    assert json.loads((folder / "reports" / NAME / "report.json").read_text())["front"]


def test_a_cluster_that_is_gone_ends_the_command(site: RaySite, postgres: Server, folder: Path) -> None:
    """With one line, before Ray ends the process without any; nobody is left behind. The last case, as it must be."""
    environment = {**RAY, "KANSEARCH_STORAGE": postgres.new_database()}
    with Command(folder, "optimize", "storm.yaml", *LONG, environment=environment) as command:
        command.wait_until(lambda: len(workers_here()) == 2)
        while site.nodes:
            site.lose_node()
        _, errors = command.communicate()
        assert command.wait() == 3, errors
    assert errors == f"kansearch: the Ray cluster at {ADDRESS} cannot be reached: Connection refused\n"
    assert workers_here() == []
