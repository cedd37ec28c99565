"""What does distance cost: workers on two hosts and a database that is milliseconds away?

Two network namespaces stand for two hosts, each with one worker; the PostgreSQL is on a third one. The link is a relay
that delivers every packet so many milliseconds late, in both directions, and counts round trips: how often a worker
sends after it was answered, which is how often it waits for the link.

    sudo .venv/bin/python -m benchmarks.two_hosts.run            # needs root, for the namespaces
    sudo .venv/bin/python -m benchmarks.two_hosts.run --ms 0 20 --trials 200 --studies function
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.servers import Postgres, free_port

ROOT = Path(__file__).parents[2]
IP = shutil.which("ip") or "ip"
HOSTS = {"kan-a": "10.77.1", "kan-b": "10.77.2"}


class Link:
    """A relay to a port of this machine that delivers late.

    Args:
        ends: Addresses on which it listens.
        behind: The port.
        seconds: That every packet takes.

    Attributes:
        n_trips: Round trips so far.
    """

    def __init__(self, ends: list[str], behind: int, seconds: float) -> None:
        self.n_trips = 0
        self.port = free_port()
        self._behind, self._seconds = behind, seconds
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ends, ready), daemon=True).start()
        ready.wait()

    def close(self) -> None:
        """Cut it."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, ends: list[str], ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        for end in ends:
            self._loop.run_until_complete(asyncio.start_server(self._serve, end, self.port))
        ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        answered = [True]
        await asyncio.gather(
            self._pass_on(reader, behind_writer, answered, asks=True),
            self._pass_on(behind_reader, writer, answered, asks=False),
        )

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: list[bool], *, asks: bool
    ) -> None:
        while data := await reader.read(2**16):
            self.n_trips += asks and answered[0]
            answered[0] = not asks
            # Later ones wait behind this one, and it was sent at its own time: order and delay are those of a line.
            self._loop.call_later(self._seconds, writer.write, data)
        self._loop.call_later(self._seconds, writer.close)


@contextmanager
def hosts() -> Iterator[list[str]]:
    """Two namespaces, each with a line to this one; gives the addresses of this end."""

    def ip(*words: str) -> None:
        subprocess.run([IP, *words], check=True, capture_output=True)

    try:
        for number, (name, net) in enumerate(HOSTS.items()):
            ip("netns", "add", name)
            ip("link", "add", f"kan-v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("addr", "add", f"{net}.1/24", "dev", f"kan-v{number}")
            ip("link", "set", f"kan-v{number}", "up")
            for words in (["addr", "add", f"{net}.2/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
                ip("-n", name, *words)
            ip("-n", name, "link", "set", "lo", "up")
        yield [f"{net}.1" for net in HOSTS.values()]
    finally:
        for name in HOSTS:
            subprocess.run([IP, "netns", "del", name], check=False, capture_output=True)


def search(
    study: str, trials: int, server: Postgres, ends: list[str], seconds: float, folder: Path, flags: list[str]
) -> list[str]:
    """One row of the table."""
    url, link = server.new_database(), Link(ends, server.port, seconds)
    name = f"{study}-{round(1000 * seconds)}"
    here = {**os.environ, **WORKER_ENVIRONMENT, "KANSEARCH_STORAGE": url}
    kansearch = [sys.executable, "-m", "kansearch"]
    file = str(ROOT / "studies" / f"{study}.yaml")
    submit = [*kansearch, "submit", file, "--name", name, "--trials", str(trials)]
    subprocess.run(submit, env=here, cwd=folder, check=True, capture_output=True)
    workers = [
        subprocess.Popen(
            [IP, "netns", "exec", host, *kansearch, "worker", name, "--number", str(number), *flags],
            env={**here, "KANSEARCH_STORAGE": url.replace(f"127.0.0.1:{server.port}", f"{end}:{link.port}")},
            cwd=folder,
        )
        for number, (host, end) in enumerate(zip(HOSTS, ends, strict=True))
    ]
    opened = load_study(open_storage(url), name)
    while sum(opened.counts().values()) == 0:
        time.sleep(0.02)
    begin, before = time.monotonic(), link.n_trips
    for worker in workers:
        if worker.wait():
            raise RuntimeError(f"a worker ended with {worker.returncode}")
    wall, n_trips = time.monotonic() - begin, link.n_trips - before
    link.close()
    records = read_records(opened)
    epochs = sum(record.epochs_spent for record in records)
    assert len(records) == trials, "the budget is exact"
    return [
        f"`{study}`",
        f"{1000 * seconds:.0f} ms",
        f"{60 * trials / wall:,.0f}",
        f"{epochs / wall:,.0f}",
        f"{n_trips / trials:.1f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ms", type=float, nargs="+", default=[0, 5])
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--studies", nargs="+", default=["function", "digits"])
    parser.add_argument("--pack", help="trials that a worker trains together, instead of its own choice")
    options = parser.parse_args()
    flags = [] if options.pack is None else ["--pack", options.pack]
    print("| study | link, one way | trials a minute | epochs a second | round trips a trial |")
    print("|---|---|---|---|---|")
    with hosts() as ends, Postgres() as server, tempfile.TemporaryDirectory() as folder:
        for study in options.studies:
            for ms in options.ms:
                row = search(study, options.trials, server, ends, ms / 1000, Path(folder), flags)
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
