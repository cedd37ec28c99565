"""docker/ as its README tells people to use it: really built, really run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import missing
from tests.docker.podman import ROOT, Podman
from tests.servers import MissingPartError, free_port

pytestmark = [pytest.mark.containers, pytest.mark.slow]

N_TRIALS = 20
PASSWORD = 'p@s:s/w$1 #"%'
PATIENCE_S = 240


@pytest.fixture(scope="module")
def podman() -> Podman:
    """With the images from which docker/ begins."""
    try:
        made = Podman()
    except MissingPartError as error:
        missing("containers", str(error))
    made.make_bases()
    return made


class Service:
    """docker/compose.yaml, running with two workers."""

    def __init__(self, podman: Podman, folder: Path) -> None:
        self.podman, self.port = podman, free_port()
        self.project = f"kansearch-{uuid.uuid4().hex[:8]}"
        self.settings = folder / "settings"
        self.settings.write_text(
            f"POSTGRES_PASSWORD='{PASSWORD}'\nKANSEARCH_DASHBOARD_PASSWORD='{PASSWORD}'\n"
            f"WORKERS=2\nDASHBOARD_PORT={self.port}\n"
        )

    def compose(self, *arguments: object) -> str:
        """A command of compose."""
        return self.podman.compose("--env-file", self.settings, "--project-name", self.project, *arguments)

    def kansearch(self, *arguments: object) -> str:
        """A command of kansearch, in a container of its own."""
        return self.compose("--profile", "commands", "run", "-T", "--rm", "--env=COLUMNS=200", "kansearch", *arguments)

    def containers(self, service: str) -> list[str]:
        """Of one service."""
        return self.podman.run("ps", "--all", "--quiet", f"--filter=name={self.project}_{service}_").split()

    def get(self, path: str, password: str | None = None) -> int:
        """What the dashboard answers; 0 where there is none yet."""
        request = Request(f"http://127.0.0.1:{self.port}{path}")
        if password is not None:
            request.add_header("Authorization", f"Basic {b64encode(f'kansearch:{password}'.encode()).decode()}")
        try:
            with urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except OSError:
            return 0

    def remove(self) -> None:
        """With all that it holds."""
        self.podman.run("pod", "rm", "--force", "--time=0", f"pod_{self.project}", check=False)
        self.compose("down", "--volumes")


def wait_until(is_so: Callable[[], object], pause_s: float = 0.5) -> None:
    """Ask again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(pause_s)


@pytest.fixture(scope="module")
def service(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """All of it, begun at once: whoever needs another waits for it."""
    made = Service(podman, tmp_path_factory.mktemp("service"))
    try:
        made.compose("build", "worker")
        made.compose("up", "--detach")
        yield made
    finally:
        made.remove()


def test_a_study_outlives_a_worker_that_is_killed(service: Service) -> None:
    """Two workers share a study; one is killed with trials in its hands; exactly the budget counts in the end."""
    # In double precision, which torch trains: in single a worker's trials are over before it can be killed.
    service.kansearch("submit", "/studies/digits.yaml", "--trials", N_TRIALS, "--set", "space.dtype=float64")
    victim = ""

    def has_victim() -> bool:
        nonlocal victim
        at_work = re.findall(r"live (\w{12}) 1 \(cpu, .*?\): [1-9]\d* running", service.kansearch("status", "digits"))
        victim = at_work[0] if len(at_work) == 2 else ""
        return bool(victim)

    wait_until(has_victim)
    os.kill(service.podman.inspect(victim)["State"]["Pid"], signal.SIGKILL)

    words = ""

    def is_done() -> bool:
        nonlocal words
        words = service.kansearch("status", "digits")
        return f"{N_TRIALS}/{N_TRIALS} trials" in words and " 0 running" in words

    wait_until(is_done, pause_s=5)  # asking takes time from the workers
    assert "handed back: its worker died" in words
    complete, pruned = (int(re.findall(rf"(\d+) {state}", words)[0]) for state in ("complete", "pruned"))
    assert complete + pruned == N_TRIALS
    assert " 0 failed · 0 running · 0 waiting" in words


def test_the_dashboard_asks_who_is_there(service: Service) -> None:
    """It says that it is well to everybody, and shows studies to whoever knows the password."""
    wait_until(lambda: service.get("/healthz") == 200)
    assert service.get("/api/studies") == 401
    assert service.get("/api/studies", "wrong") == 401
    assert service.get("/api/studies", PASSWORD) == 200


def test_containers_stop_when_they_are_asked(service: Service) -> None:
    """A worker says by which signal it ended, the dashboard that all is well; both own nothing of their containers."""
    wait_until(lambda: service.get("/healthz") == 200)
    ends = {"worker": 128 + signal.SIGTERM, "dashboard": 0}
    containers = {container: name for name in ends for container in service.containers(name)}
    assert len(containers) == 3
    for container in containers:
        assert service.podman.run("exec", container, "id", "-u").strip() == "10001"
        assert "Read-only file system" in service.podman.run("exec", container, "touch", "/opt/x", check=False)
    service.podman.run("stop", *containers)
    for container, name in containers.items():
        assert service.podman.inspect(container)["State"]["ExitCode"] == ends[name], name


def test_a_build_whose_compiler_does_not_work_is_refused(podman: Podman, tmp_path: Path) -> None:
    """The inner loops, without which a machine may live, belong to an image: one line says what the build needs."""
    (tmp_path / ".dockerignore").write_text(ignored := (ROOT / ".dockerignore").read_text())
    for name in re.findall(r"^!(.+)", ignored, flags=re.MULTILINE):
        there = tmp_path / name
        there.parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, there)
    (tmp_path / "kansearch/compiled/compiled.h").write_text("#error no compiler takes this")
    with pytest.raises(RuntimeError, match=r"(?m)^kansearch: its inner loops were not compiled; .*C compiler"):
        podman.build(tmp_path, "--target=wheel")


def test_a_build_for_an_unknown_device_is_refused(podman: Podman) -> None:
    """One line names what DEVICE is and what it may be."""
    with pytest.raises(RuntimeError, match=r'(?m)^kansearch: DEVICE is "tpu"; must be cpu or cuda'):
        podman.build(ROOT, "--build-arg=DEVICE=tpu")
