"""One task of a cluster, all of whose cores or GPUs have a worker."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from types import FrameType

from kansearch.launch.local import LocalJob
from kansearch.launch.request import LaunchRequest
from kansearch.specs.launch import SLURM_END

POLL_S = 0.2

LEAVE_S = 20.0
"""For workers to write where their trials are, beside their grace."""


def crew(request: LaunchRequest, first_number: int, grace_s: float) -> int:
    """Keep worker processes up until their work is done, and pass on what this process is asked.

    Args:
        request: For the workers.
        first_number: Of the first worker.
        grace_s: For the workers to leave after a request to stop.

    Returns:
        The exit code: that of the signal which asked it or a worker to stop, or of the worker that gave up, or 0.

    Raises:
        LaunchError: If a worker keeps dying.
    """
    asked: list[int] = []

    def pass_on(signal_number: int, frame: FrameType | None) -> None:
        del frame
        # That time is nearly up may be said by the engine and by our own deadline.
        if not asked or signal_number != signal.SIGUSR1:
            asked.append(signal_number)

    for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(each, pass_on)
    # The task's time is this process's to watch: a worker that is started again would count its own anew.
    job = LocalJob(replace(request, environment={**request.environment, SLURM_END: ""}), first_number)
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
