"""One task of a cluster, all of whose cores or GPUs have a worker."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from types import FrameType

from kansearch.launch.local import LocalJob
from kansearch.launch.request import LaunchRequest

POLL_S = 0.2

LEAVE_S = 20.0
"""For workers to write where their trials are, beside their grace."""


def crew(arguments: Sequence[str], processes: int, number: int, grace_s: float) -> int:
    """Keep worker processes up until their work is done, and pass on what this process is asked.

    Args:
        arguments: Of `kansearch`, with which this process was started: its workers get all but these two.
        processes: How many.
        number: Of this task: its workers have the numbers from `processes` times that one on.
        grace_s: For the workers to leave after a request to stop.

    Returns:
        The exit code: that of the signal which asked it or a worker to stop, or of the worker that gave up, or 0.

    Raises:
        LaunchError: If a worker keeps dying.
    """
    asked: list[int] = []

    def pass_on(signal_number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(signal_number)

    for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(each, pass_on)
    study, *others = _without(arguments[1:], ("--processes", "--number"))
    job = LocalJob(LaunchRequest(study, processes, tuple(others)), first_number=number * processes)
    try:
        until = float("inf")
        n_passed = 0
        while job.poll() if not asked else job.is_working:
            if len(asked) > n_passed:
                until = min(until, time.monotonic() + grace_s + LEAVE_S)
                job.signal(asked[n_passed])
                n_passed += 1
            if time.monotonic() > until:
                break
            time.sleep(POLL_S)
    finally:
        job.stop()
    if asked:
        return 128 + asked[0]
    gave_up = job.ended_with()
    if gave_up is None:
        return job.stopped_with() or 0
    print(gave_up[1])  # noqa: T201 - the last words of a worker, into the task's log
    return gave_up[0]


def _without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Arguments without some flags and their values."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.partition("=")
        if flag not in flags:
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept
