"""A real Ray on this host: a head without cores, and nodes with some, each a direct child that can be killed whole.

Ray listens on every address that there is, so it is to run where there is loopback alone: in a network namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from tests.commands import wait_until
from tests.servers import free_port

ADDRESS = "127.0.0.1:6379"

CLIENT_ADDRESS = "ray://127.0.0.1:10001"

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # else it leaves a token in the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    # For the server of a client to start, on a machine that has other tests to run.
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "600",
    # A lost node is noticed within seconds.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}


class RaySite:
    """A cluster.

    Args:
        n_nodes: Beside the head.
        cpus: That each claims to have.
    """

    def __init__(self, n_nodes: int = 2, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kan-ray-"))  # short: sockets lie in it
        self.nodes: list[subprocess.Popen[bytes]] = []
        try:
            self._start("--head", "--port=6379", "--num-cpus=0", "--ray-client-server-port=10001")
            wait_until(lambda: self.n_nodes() == 1)
            for _ in range(n_nodes):
                self.add_node(cpus)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.nodes):
            kill_all([process.pid, *descendants(process.pid)])
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_node(self, cpus: int) -> None:
        """One more; two at once would choose the same ports."""
        before = self.n_nodes()
        self._start(f"--address={ADDRESS}", f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={free_port()}")
        wait_until(lambda: self.n_nodes() > before)

    def lose_node(self) -> None:
        """Kill the last node with all that runs there, at once."""
        process = self.nodes.pop()
        kill_all([process.pid, *descendants(process.pid)])
        process.wait()

    def n_nodes(self) -> int:
        """How many the head knows."""
        code = (
            "import sys; from ray._raylet import GcsClient\n"
            f"nodes = GcsClient(address={ADDRESS!r}).get_all_node_info(timeout=5).values()\n"
            "print(sum(node.state == 0 for node in nodes))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
        )
        for process in self.nodes:
            assert process.poll() is None, (self.folder / "words").read_text()[-3000:]
        return int(done.stdout) if done.returncode == 0 else 0

    def _start(self, *options: str) -> None:
        command = [Path(sys.executable).with_name("ray"), "start", "--block", "--disable-usage-stats", *options]
        command += ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
        command += [f"--temp-dir={self.folder}", "--include-dashboard=false"] if "--head" in options else []
        with (self.folder / "words").open("ab") as words:
            process = subprocess.Popen(
                command,
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        self.nodes.append(process)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [(int(child), int(parent)) for child, parent in (line.split() for line in listed.stdout.splitlines())]
    found = [pid]
    for parent in found:
        found += [child for child, of in pairs if of == parent]
    return found[1:]


def kill_all(pids: list[int]) -> None:
    """Without a word; a process that has ended is content."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
