"""Being asked to stop: a worker ends its epoch, and lets go at once where that takes too long."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from kansearch.specs.launch import SLURM_END, notice

LAUNCHER_LOOK_S = 1.0
"""Between two looks whether the launcher still runs."""

GRACE_S = 10.0
"""For an epoch to end after somebody asked to stop; schedulers mostly give 30 s until they kill."""


class StopRequestedError(Exception):
    """The scheduler, the launcher or a person wants this worker to end, and does not wait any longer."""


class StopSignals:
    """SIGTERM, SIGUSR1 and SIGINT as a request to stop.

    Whoever is `interruptible` and does not look at `requested` in time gets StopRequestedError at any instruction, and
    so does everybody who is asked a second time; elsewhere, where the storage may be in the middle of a write, a
    request only waits. SIGUSR1 says that time is nearly up, and may be said by several: a second one changes nothing.

    Args:
        launcher_pid: Process number of whoever started the worker and cares for it: when that is killed, the worker is
            asked to stop. SIGINT is left to it: a terminal sends that to the whole group, and one process must decide
            what it means. None where the worker may outlive whoever started it.
        grace_s: How long is in time.
    """

    def __init__(self, launcher_pid: int | None = None, grace_s: float = GRACE_S) -> None:
        self.requested = False
        self.exit_code = 0
        """128 and the number of the signal, by which schedulers know that a process did not end by itself."""
        self._grace_s = grace_s
        self._is_late = False
        self._interruptible = False
        signal.signal(signal.SIGALRM, self._time_is_up)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._receive)
        if launcher_pid is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            threading.Thread(target=_stop_after, args=(launcher_pid,), daemon=True).start()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Code that may be left at any instruction."""
        self._interruptible = True
        try:
            if self._is_late:
                raise StopRequestedError
            yield
        finally:
            self._interruptible = False

    def sleep(self, seconds: float) -> None:
        """Do nothing until somebody asks, for so many seconds at most."""
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number != signal.SIGUSR1:
                self._time_is_up(number, frame)
            return
        self.requested = True
        self.exit_code = 128 + number
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, self._grace_s))

    def _time_is_up(self, _number: int, _frame: FrameType | None) -> None:
        self._is_late = True
        if self._interruptible:
            self._interruptible = False
            raise StopRequestedError


def leave_at(seconds: float | None) -> None:
    """Ask this process to stop after so many seconds, or before its scheduler's time limit where that is known.

    Args:
        seconds: From now; None where nobody says it.
    """
    end = os.environ.get(SLURM_END, "")
    if seconds is None and end.isdigit():
        left = max(0.0, int(end) - time.time())
        seconds = left - notice(left)
    if seconds is not None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.daemon = True
        timer.start()


def _stop_after(launcher_pid: int) -> None:
    """Ask this process to stop once the process that started it is gone."""
    while os.getppid() == launcher_pid:
        time.sleep(LAUNCHER_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
