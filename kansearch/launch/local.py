"""Workers as processes of this machine."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import IO

from kansearch.errors import LaunchError
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.request import LaunchRequest, Plan

MAX_RESTARTS_IN_A_ROW = 3
"""A worker that dies so often within QUICK_DEATH_S of its start is not started again."""

QUICK_DEATH_S = 10.0

ASKED_TO_STOP = 128
"""Exit statuses from here on are those of workers that somebody asked to stop."""


class LocalLauncher:
    """Starts workers as processes of this machine; they end with the process that started them."""

    def plan(self, request: LaunchRequest) -> Plan:
        """A command line for each worker."""
        lines = [shlex.join(_command(request, number)) for number in range(request.n_tasks)]
        return Plan(request, "\n".join(lines) + "\n")

    def submit(self, plan: Plan) -> LocalJob:
        """Start them all."""
        return LocalJob(plan.request)

    def find(self, name: str) -> LocalJob:
        """None outlives the process that started it.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError(f"{name or 'a local job'} ended with the process that started it")


def _command(request: LaunchRequest, number: int) -> list[str]:
    return [sys.executable, "-m", "kansearch", *request.command(number)]


class LocalJob:
    """A number of worker processes that is kept up until their work is done.

    Args:
        request: For which they are.
        first_number: Of the first worker.
        log: To which all of them add what they have to say; None for a place of each one's own, of which only last
            words are ever seen.

    Attributes:
        name: None by which it could be found.
        line: Nothing that people need to know.
    """

    def __init__(self, request: LaunchRequest, first_number: int = 0, log: Path | None = None) -> None:
        self.name = ""
        self.line = ""
        self._request = request
        self._workers = [_Worker(request, first_number + number, log) for number in range(request.n_tasks)]

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

    def state(self) -> str:
        """How many still work."""
        n_working = sum(worker.process.poll() is None for worker in self._workers)
        return f"{n_working} running" if n_working else "ended"

    @property
    def is_working(self) -> bool:
        """Whether any still works; none is replaced."""
        return any(worker.process.poll() is None for worker in self._workers)

    def stopped_with(self) -> int | None:
        """Exit status of the first worker that was asked to stop; its time may have been up."""
        statuses = (worker.process.poll() for worker in self._workers)
        return next((status for status in statuses if status is not None and status >= ASKED_TO_STOP), None)

    def signal(self, number: int) -> None:
        """Send a signal to all workers."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ask all workers to stop, and end those that do not within the time."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.close()

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
    def __init__(self, request: LaunchRequest, number: int, log: Path | None) -> None:
        self.number = number
        self._log = log
        self._said = ""
        self.words: IO[bytes] | None = None
        self.deaths: deque[float] = deque(maxlen=MAX_RESTARTS_IN_A_ROW)
        self.start(request)

    def start(self, request: LaunchRequest) -> None:
        # What a worker has to say goes to a file, without a name if need be: it must not tear the progress display.
        self.close()
        self.words = tempfile.TemporaryFile() if self._log is None else self._log.open("ab+")  # noqa: SIM115
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            [*_command(request, self.number), "--launcher", str(os.getpid())],
            env={**os.environ, **WORKER_ENVIRONMENT, **request.environment, **request.secrets},
            stdin=subprocess.DEVNULL,
            stdout=self.words,
            stderr=self.words,
        )

    def last_words(self) -> str:
        if self.words is not None:
            self.words.seek(0)
            self._said = last_words(self.words.read().decode(errors="replace"))
        return self._said

    def close(self) -> None:
        """Keep the last words of a worker that has ended, and not its file."""
        if self.words is not None:
            self.last_words()
            self.words.close()
            self.words = None


def last_words(text: str) -> str:
    """The end of what a worker said."""
    return "\n".join(text[-20_000:].strip().splitlines()[-15:])
