"""The service as its users run it: submit, standing workers, stop, signals, status."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from kansearch.specs.trial import TrialRecord
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.commands import Command, run_in
from tests.conftest import SMALL
from tests.studies import records_in

SLOW = SMALL.replace("epochs: 3", "epochs: 60000") + "  dtype: float64\n"
"""A trial takes minutes: torch trains what is in double precision."""


class Service:
    """A folder with study files, and commands that run there on one storage."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.environment = {"KANSEARCH_STORAGE": url, "OMP_NUM_THREADS": "1"}

    def study(self, name: str, text: str = SMALL) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(text.replace("name: small", f"name: {name}"))
        return path

    def run(self, *arguments: object) -> str:
        done = self.try_(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run_in(self.folder, *arguments, **self.environment)

    def start(self, *arguments: object) -> Command:
        return Command(self.folder, *arguments, environment=self.environment)

    def records(self, name: str) -> tuple[TrialRecord, ...]:
        return read_records(load_study(self.storage, name))

    @functools.cached_property
    def storage(self) -> Storage:
        return open_storage(self.url)

    def n_done(self, name: str) -> int:
        return sum(record.state in ("complete", "pruned") for record in self.records(name))


@pytest.fixture
def service(tmp_path: Path, storage_url: str) -> Service:
    return Service(tmp_path, storage_url)


def test_a_standing_worker_serves_all_studies_and_what_comes_later(service: Service) -> None:
    """Two studies, then a larger budget for one of them; asked to stop it ends as schedulers expect."""
    for name in ("first", "second"):
        said = service.run("submit", service.study(name))
        assert "6 trials for whoever serves this storage" in said
    with service.start("worker", "--all", "--pack", 2) as worker:
        worker.wait_until(lambda: service.n_done("first") == service.n_done("second") == 6)
        service.run("submit", service.study("first"), "--trials", 9)
        worker.wait_until(lambda: service.n_done("first") == 9)
        overview = service.run("status")
        assert re.search(r"first .* 9/9 ", overview)
        assert "1 worker without a study" in overview
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 128 + signal.SIGTERM
    assert "1 worker" not in service.run("status")


def test_a_worker_that_is_asked_to_stop_loses_nothing(service: Service) -> None:
    """It ends its epoch and hands its trials back with a checkpoint from there, and ends with its signal's code."""
    service.run("submit", service.study("slow", SLOW), "--set", "search.pruner=none")
    shown = re.compile(r"workers: 1 live · .*\n  live .*: 2 running, 0 ended")
    for n_before, number in enumerate((signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)):
        with service.start("worker", "slow", "--pack", 2) as worker:
            worker.wait_until(lambda: sum(record.state == "running" for record in service.records("slow")) == 2)
            if n_before == 0:  # later ones begin with a checkpoint
                worker.wait_until(lambda: shown.search(service.run("status", "slow")))
            worker.send_signal(number)
            assert worker.wait() == 128 + number, worker.communicate()[1]
        records = service.records("slow")
        assert [record.state for record in records] == ["fail", "fail"] * (n_before + 1) + ["waiting", "waiting"]
        assert {record.reason for record in records[:-2]} == {"its worker was asked to stop"}
        assert all(record.resumed_at > 0 for record in records[-2:])
    shown_then = service.run("status", "slow")
    assert "0 failed" in shown_then
    assert "6 trials handed back: its worker was asked to stop" in shown_then


def test_a_stopped_study_is_left_and_goes_on_later(service: Service) -> None:
    """By its standing worker and by optimize, whose user is told; a new budget lets it go on."""
    slow = service.study("slow", SLOW)
    service.run("submit", slow, "--set", "search.pruner=none")
    with service.start("worker", "--all", "--pack", 2) as worker:
        worker.wait_until(lambda: any(record.state == "running" for record in service.records("slow")))
        assert "Study slow is stopped" in service.run("stop", "slow")
        worker.wait_until(lambda: all(record.state != "running" for record in service.records("slow")))
        assert "stopped by `kansearch stop`" in service.run("status", "slow")
        assert re.search(r"0/6 stopped", service.run("status"))
        service.run("submit", slow, "--set", "search.pruner=none")
        worker.wait_until(lambda: any(record.state == "running" for record in service.records("slow")))


def test_a_deleted_study_is_left_by_its_workers_first(service: Service) -> None:
    """The standing one goes on with what comes next, under the same name perhaps."""
    service.run("submit", service.study("slow", SLOW), "--set", "search.pruner=none")
    with service.start("worker", "--all", "--pack", 2) as worker:
        worker.wait_until(lambda: any(record.state == "running" for record in service.records("slow")))
        said = service.run("delete", "slow", "--yes")
        assert "Waiting up to 15 s for 1 worker to leave study slow ..." in said
        assert re.search(r"Deleted study slow: 2 trials \(2 running\); 1 live worker\.", said)
        assert 'no study "slow"' in service.try_("status", "slow").stderr
        service.run("submit", service.study("slow"))
        worker.wait_until(lambda: service.n_done("slow") == 6)
        worker.send_signal(signal.SIGTERM)
        assert "was deleted" not in worker.communicate()[1]


def test_delete_asks_before_it_deletes(service: Service) -> None:
    """Whoever has no terminal says it with a flag."""
    service.run("submit", service.study("small"))
    done = service.try_("delete", "small")
    asked = "delete asks before it deletes study small: 0 trials; without a terminal say it with --yes"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"kansearch: {asked}\n")
    for answer, words in (("n", "Nothing was deleted."), ("y", "Deleted study small: 0 trials.")):
        assert "small" in service.run("status")
        terminal, ours = os.openpty()
        os.write(terminal, f"{answer}\n".encode())
        try:
            done = run_in(service.folder, "delete", "small", is_new=True, stdin=ours, **service.environment)
        finally:
            os.close(terminal)
            os.close(ours)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Delete study small: 0 trials, for good? [y/N]: ")
        assert words in done.stdout
    assert "No studies" in service.run("status")


def test_optimize_says_that_somebody_stopped_its_study(service: Service) -> None:
    """With the report of what is there, and how to go on."""
    with service.start("optimize", service.study("slow", SLOW), "--workers", 1, "--pack", 2) as command:
        command.wait_until(lambda: any(r.state == "running" for r in records_in(service.folder, "slow")))
        service.run("stop", "slow")
        output, errors = command.communicate()
        assert command.poll() == 130, errors
    assert "Somebody stopped the study" in output
    assert "go on with: kansearch optimize" in output


WIDE = SLOW.replace("width: {low: 2, high: 8}", "width: 400\n  depth: 4").replace("[mlp, kan]", "mlp")
"""Its checkpoints have megabytes."""


def test_large_checkpoints_go_where_the_study_file_says(service: Service) -> None:
    """Folder and database count from the file's own folder, and are no part of the study: it may move."""
    apart = service.folder / "apart"
    file = service.study("wide", WIDE + "storage: sqlite:///our own.db\nartifacts: apart\n")
    del service.environment["KANSEARCH_STORAGE"]
    here, service.folder = service.folder, service.folder / "elsewhere"
    service.folder.mkdir()
    own = f"sqlite:///{here / 'our own.db'}"
    said = service.run("submit", file, "--trials", 1)
    assert f"kansearch status wide --storage '{own}'" in said  # to be copied
    service.url = service.environment["KANSEARCH_STORAGE"] = own
    with service.start("worker", "wide") as worker:
        worker.wait_until(lambda: [record.state for record in service.records("wide")] == ["running"])
        worker.wait_until(lambda: "1 running" in service.run("status", "wide"))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait() == 128 + signal.SIGTERM, worker.communicate()[1]
    [kept] = apart.iterdir()
    assert kept.stat().st_size > 2**20
    with service.start("worker", "wide") as worker:
        worker.wait_until(lambda: service.records("wide")[-1].state == "running")
        assert service.records("wide")[-1].resumed_at > 0
        worker.kill()
    service.run("submit", file, "--trials", 1, "--artifacts", here / "moved")
    assert (here / "moved").is_dir()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("storage: {user: me, password: hunter2}", "is no text"),
        ("storage: postgresql://me:hunter2@h:x/d", "is none"),
        ("artifacts: s3://me:hunter2@bucket", "is no bucket"),
        ("artifacts: /proc/no/such", "cannot be kept there"),
    ],
)
def test_places_of_a_study_file_are_checked(service: Service, place: str, words: str) -> None:
    """One line, exit code 2, and nothing of what may be a secret."""
    del service.environment["KANSEARCH_STORAGE"]
    done = service.try_("submit", service.study("small", f"{SMALL}{place}\n"))
    assert done.returncode == 2
    assert words in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert not (service.folder / "kansearch.db").exists()


def test_places_are_set_by_their_own_flags(service: Service) -> None:
    """What --set repeats of its value could be a password."""
    done = service.try_("submit", service.study("small"), "--set", "storage=hunter2")
    assert (done.returncode, done.stderr) == (2, "kansearch: --set storage: write --storage instead\n")


@pytest.mark.parametrize("arguments", [(), ("small", "--all")])
def test_a_worker_serves_one_study_or_all(service: Service, arguments: tuple[str, ...]) -> None:
    """One line; exit code 2."""
    done = service.try_("worker", *arguments)
    assert (done.returncode, done.stderr) == (2, "kansearch: a worker needs the NAME of a study, or --all\n")
