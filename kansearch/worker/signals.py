"""Being asked to stop: between trials a worker finishes its write first, in training it lets go at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequestedError(Exception):
    """The scheduler, the launcher or a person wants this worker to end."""


class StopSignals:
    """SIGTERM and SIGUSR1 as a request to stop.

    Inside `interruptible` the request is raised as StopRequestedError; elsewhere, where the storage may be in
    the middle of a write, it only waits in `requested`. SIGINT is left to whoever started the worker: a
    terminal sends it to the whole group, and one process must decide what it means.
    """

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._receive)

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
