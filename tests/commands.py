"""The command line as a user meets it, without the seconds in which Python imports its libraries.

A server that has imported them forks a process for each command: with a folder, an environment, words, signals and an
exit code of its own. Workers that `optimize` starts are new Pythons, as everywhere.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 1800.0
"""Tests wait for events, not for clocks: only what would never end is ended, after more than a slow machine needs."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preload"])


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait for an event."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it was not so in all that time"
        time.sleep(0.2)


class Command:
    """A command in a process of its own, with no terminal; whoever leaves it kills it and whatever it started.

    Args:
        folder: In which it runs.
        arguments: Of it.
        environment: Of it, beside ours.
        words: Where both its outputs are added to; else `communicate` gives them.
        is_new: Whether it is a new Python and no fork: for an environment that Python or the system's loader reads.
        stdin: Its input, of which only a new Python has any.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        words: Path | None = None,
        is_new: bool = False,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self._files = [] if words else [tempfile.NamedTemporaryFile("r", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        outputs = [str(words)] * 2 if words else [file.name for file in self._files]
        given = (folder, self.arguments, {**os.environ, **(environment or {})}, outputs)
        self._process: Any = _new_python(*given, stdin) if is_new else _Fork(target=_become, args=given, daemon=True)
        self.pid: int = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill it, whatever it started, and what it said."""
        self.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        for file in self._files:
            file.close()

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that killed it; None while it runs."""
        status: int | None = self._process.poll()
        return status

    def wait(self) -> int:
        """Wait for its end; returns its exit code, as `poll` does."""
        status: int = self._process.wait(PATIENCE_S)
        return status

    def communicate(self) -> tuple[str, str]:
        """What it said until its end, on both outputs."""
        self.wait()
        output, errors = (file.read() for file in self._files)
        return output, errors

    def wait_until(self, is_so: Callable[[], object]) -> None:
        """Let it work until something is so."""
        while not is_so():
            assert self.poll() is None, self.communicate()
            time.sleep(0.2)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it may end at this moment
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command, and not what it started."""
        self.send_signal(signal.SIGKILL)


def run_in(
    folder: Path, *arguments: object, is_new: bool = False, stdin: int = subprocess.DEVNULL, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, with no terminal unless a new Python is given one as its input."""
    with Command(folder, *arguments, environment=environment, is_new=is_new, stdin=stdin) as command:
        output, errors = command.communicate()
        return subprocess.CompletedProcess(command.arguments, command.wait(), output, errors)


class _Fork(FORKS.Process):  # type: ignore[name-defined,misc]
    """With the methods of `subprocess.Popen`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.start()

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float) -> int:
        self.join(timeout)
        assert self.exitcode is not None, "it does not end"
        return self.exitcode


def _new_python(
    folder: Path, arguments: list[str], environment: dict[str, str], outputs: list[str], stdin: int
) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        output, errors = (stack.enter_context(open(name, "ab")) for name in outputs)  # noqa: PTH123
        return subprocess.Popen(
            [sys.executable, "-m", "kansearch", *arguments],
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            preexec_fn=_hear_interrupts,  # noqa: PLW1509 - no other thread runs here
        )


def _hear_interrupts() -> None:
    """Where the tests themselves run in the background, the signal is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _become(folder: Path, arguments: list[str], environment: dict[str, str], outputs: list[str]) -> None:
    """Be a command from here on."""
    os.setsid()
    for number, name in enumerate(outputs, start=1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["kansearch", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from kansearch.__main__ import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
