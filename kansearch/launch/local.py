"""Workers as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from typing import IO

from kansearch.errors import LaunchError
from kansearch.launch.request import LaunchRequest

MAX_RESTARTS_IN_A_ROW = 3
"""A worker that dies so often within QUICK_DEATH_S of its start is not started again."""

QUICK_DEATH_S = 10.0

ASKED_TO_STOP = 128
"""Exit statuses from here on are those of workers that somebody asked to stop."""

WORKER_ENVIRONMENT = {
    # Workers share the cores of one machine: pools of threads would fight over them.
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # glibc gives large blocks back to the system at once, and each step of a pack would fault the same pages in again:
    # keeping them trains KAN layers 1.2 to 2 times as fast. Other C libraries take no notice.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the highest that every glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""What makes a process a good worker."""


class LocalWorkers:
    """A number of worker processes that is kept up until their work is done."""

    def __init__(self, request: LaunchRequest) -> None:
        self._request = request
        self._workers: list[_Worker] = []

    def start(self) -> None:
        """Start them all."""
        for number in range(self._request.n_workers):
            self._workers.append(_Worker(self._request, number))

    def poll(self) -> int:
        """Replace workers that died; returns how many still work.

        Raises:
            LaunchError: If a worker keeps dying; the message ends with its last words.
        """
        working = 0
        for worker in self._workers:
            status = worker.process.poll()
            if status is None:
                working += 1
            elif status < 0 or status == 1:
                working += 1
                self._restart(worker, status)
        return working

    def ended_with(self) -> tuple[int, str] | None:
        """Exit status and message of the first worker that gave up for a reason that a person can mend."""
        for worker in self._workers:
            status = worker.process.poll()
            if status is not None and 1 < status < ASKED_TO_STOP:
                return status, worker.last_words()
        return None

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ask all workers to stop, and end those that do not within the time."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _restart(self, worker: _Worker, status: int) -> None:
        worker.deaths.append(time.monotonic() - worker.started)
        quick = len(worker.deaths) == MAX_RESTARTS_IN_A_ROW and max(worker.deaths) < QUICK_DEATH_S
        if quick:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise LaunchError(
                f"worker {worker.number} died {MAX_RESTARTS_IN_A_ROW} times within {QUICK_DEATH_S:.0f} s of its start "
                f"({how})\n{worker.last_words()}".rstrip()
            )
        worker.start(self._request)


class _Worker:
    def __init__(self, request: LaunchRequest, number: int) -> None:
        self.number = number
        self.deaths: deque[float] = deque(maxlen=MAX_RESTARTS_IN_A_ROW)
        self.start(request)

    def start(self, request: LaunchRequest) -> None:
        # What a worker has to say goes to a file without a name, so that it cannot tear the progress display.
        self.words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            [*request.command(sys.executable, self.number), "--launcher", str(os.getpid())],
            env={**os.environ, **WORKER_ENVIRONMENT, **request.environment},
            stdin=subprocess.DEVNULL,
            stdout=self.words,
            stderr=self.words,
        )

    def last_words(self) -> str:
        self.words.seek(0)
        lines = self.words.read()[-20_000:].decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-15:])
