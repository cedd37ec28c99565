"""What launchers of clusters share: where logs lie, when time is up, and how the commands of an engine are asked."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kansearch.errors import LaunchError, UserError
from kansearch.specs.launch import LaunchSpec

LOGS = Path("kansearch-logs")
"""Folder of logs and of what was sent, where nobody names one."""

ANSWER_S = 60.0
"""For a command to answer: some wait for minutes for an engine that is away."""

LOOK_S = 5.0
"""Between two questions to an engine, which serves a whole site."""

AWAY_S = 600.0
"""An engine that does not answer for so long is away for good: its servers may restart meanwhile."""

TIME_IS_UP = 128 + signal.SIGUSR1
"""Exit status of workers that got SIGUSR1."""


def folder_of_logs(spec: LaunchSpec) -> Path:
    """Where a site wants logs, and what was sent.

    Raises:
        UserError: If it names a user who does not exist.
    """
    try:
        return Path(spec.logs or LOGS).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"logs is {spec.logs}, and there is no such user") from None


@dataclass(frozen=True)
class Engine:
    """An engine, as its commands know it.

    Attributes:
        refusal: What stands before its own words where it refuses.
        missing: What is to be done where its commands are not there.
        look: The command that shows what the engine holds of ours.
        noise: Of the lines that its commands write for their own developers.
    """

    refusal: str
    missing: str
    look: str
    noise: str = r"(?!)"

    def ask(self, *command: str, secrets: Mapping[str, str] = MappingProxyType({}), kept: str = "") -> str:
        """What one of its commands answers.

        Args:
            command: With its arguments.
            secrets: For its environment.
            kept: What stands behind every error: where to find what was to be sent.

        Raises:
            RefusedError: If it refuses.
            LaunchError: If the command is not there, or does not answer; then what it asked for may have happened.
        """
        try:
            done = subprocess.run(  # noqa: S603 - our own command line
                command,
                env={**os.environ, **secrets},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=ANSWER_S,
                check=False,
                start_new_session=True,  # a Ctrl-C on the terminal is for us, not for what is being sent
            )
        except FileNotFoundError:
            raise LaunchError(f"there is no {command[0]} on this machine; {self.missing}{kept}") from None
        except OSError as error:
            raise LaunchError(f"{command[0]} cannot be run: {error.strerror}{kept}") from None
        except subprocess.TimeoutExpired:
            raise LaunchError(
                f"{command[0]} did not answer within {ANSWER_S:.0f} s, and may have done all the same what it was "
                f"asked: {self.look}{kept}"
            ) from None
        if done.returncode == 0:
            return done.stdout
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        lines = [line for line in lines if not re.match(self.noise, line)] or lines
        words = said("\n".join(lines), secrets) or f"exit status {done.returncode}"
        raise RefusedError(f"{self.refusal}: {words}{kept}")


def said(answer: str, secrets: Mapping[str, str] = MappingProxyType({})) -> str:
    """What an engine answered, in one line for people, without the passwords that it may have repeated."""
    for secret in secrets.values():
        answer = answer.replace(secret, "***")
    return re.sub(r"(://[^\s/:@]*:)\S+@", r"\1***@", " ".join(answer.split()))[:500]


@contextlib.contextmanager
def understood(program: str) -> Iterator[None]:
    """Code that reads what a program of an engine answered.

    Raises:
        LaunchError: If that is not what such a program answers.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LaunchError(f"nobody understands what {program} answers ({type(error).__name__}: {error})") from None


class Tasks:
    """How many tasks of a job run or wait, as its engine last said.

    Args:
        count: Asks the engine.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._n, self._next_look, self._answered = 1, 0.0, time.monotonic()

    def number(self) -> int:
        """The number, for which the engine is asked every LOOK_S seconds at most.

        Raises:
            LaunchError: If it has not answered for AWAY_S seconds.
        """
        if time.monotonic() >= self._next_look:
            try:
                self._n = self._count()
                self._answered = time.monotonic()
            except LaunchError:
                if time.monotonic() - self._answered > AWAY_S:
                    raise
            self._next_look = time.monotonic() + LOOK_S
        return self._n


class ElsewhereError(LaunchError):
    """A job of another cluster than the one that was asked."""


class RefusedError(LaunchError):
    """An engine that refuses, with its own words."""


def keep(folder: Path, name: str, text: str) -> Path:
    """Write what is to be sent beside the logs.

    Raises:
        LaunchError: If it cannot be written.
    """
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"{path} cannot be written: {error.strerror}; `logs` names another folder") from None
    return path
