"""Being asked to stop: between trials a worker finishes its write first, in training it lets go at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

LAUNCHER_LOOK_S = 1.0
"""Between two looks whether the launcher still runs."""


class StopRequestedError(Exception):
    """The scheduler, the launcher or a person wants this worker to end."""


class StopSignals:
    """SIGTERM and SIGUSR1 as a request to stop.

    Inside `interruptible` the request is raised as StopRequestedError; elsewhere, where the storage may be in
    the middle of a write, it only waits in `requested`. SIGINT is left to whoever started the worker: a
    terminal sends it to the whole group, and one process must decide what it means.

    Args:
        launcher_pid: Process number of whoever started the worker and cares for it: when that is killed, the worker is
            asked to stop. None where it may outlive whoever started it.
    """

    def __init__(self, launcher_pid: int | None = None) -> None:
        self.requested = False
        self._interruptible = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._receive)
        if launcher_pid is not None:
            threading.Thread(target=_stop_after, args=(launcher_pid,), daemon=True).start()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Code that may be left at any instruction."""
        self._interruptible = True
        try:
            if self.requested:
                raise StopRequestedError
            yield
        finally:
            self._interruptible = False

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._interruptible:
            self._interruptible = False
            raise StopRequestedError


def _stop_after(launcher_pid: int) -> None:
    """Ask this process to stop once the process that started it is gone."""
    while os.getppid() == launcher_pid:
        time.sleep(LAUNCHER_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
