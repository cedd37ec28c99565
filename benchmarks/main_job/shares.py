"""Where the CPU time of a worker goes: `kansearch worker`, looked at every few milliseconds of its CPU time.

    python -m benchmarks.main_job.shares SECONDS worker NAME --storage URL

After so many CPU seconds the worker is asked to stop, and the seconds that belong to each subject are printed as JSON.
What has passed since the last look belongs to the room of the house in which the worker is now: that of the innermost
function of kansearch that is running, whichever library it called.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import defaultdict
from types import FrameType

import kansearch
from kansearch.__main__ import main

LOOK_S = 0.005

SUBJECTS = {
    "search": "drawing", "training": "training", "models": "training", "compiled": "training", "storage": "writing",
    "data": "start",
}  # fmt: skip
"""Rooms of kansearch, and what is done there; `writing` is all that has to do with the storage, and `drawing` also the
judging at rungs."""

HOUSE = kansearch.__path__[0] + "/"


def subject(frame: FrameType | None) -> str:
    """What a stack is about: imports, whoever asks for them, are a part of the start."""
    found = None
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith("<frozen importlib"):
            return "start"
        if found is None and path.startswith(HOUSE):
            found = SUBJECTS.get(path.removeprefix(HOUSE).partition("/")[0])
        frame = frame.f_back
    return found or "rest"


def watch(seconds: float) -> dict[str, float]:
    """Seconds of each subject, which grow from now on until the process is asked to stop."""
    looked = time.process_time()
    spent: defaultdict[str, float] = defaultdict(float)
    spent["start"] = looked

    def look(_: int, frame: FrameType | None) -> None:
        nonlocal looked
        now = time.process_time()
        spent[subject(frame)] += now - looked
        if looked < seconds <= now:
            signal.raise_signal(signal.SIGTERM)
        looked = now

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, LOOK_S, LOOK_S)
    return spent


if __name__ == "__main__":
    spent = watch(float(sys.argv[1]))
    sys.argv = ["kansearch", *sys.argv[2:]]
    try:
        main()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(spent))
