"""A search while it runs: a live display on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from kansearch.cli.tables import duration, table
from kansearch.report.architecture import family_name
from kansearch.report.progress import front_of, objectives_of
from kansearch.report.words import CONSTANT, NONE, count, format_value, short_label
from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records

LINE_S = 10.0
"""Between two lines in a pipe."""

MIN_DONE = 4
"""Trials after which a rate says something."""

MAX_FRONT = 8
"""Rows of the front that the live display shows."""


class Progress:
    """Shows trials done, pruned, failed and running, epochs spent, the front so far and the time left."""

    def __init__(self, study: StoredStudy, console: Console) -> None:
        self._study = study
        self._console = console
        self._begin = time.monotonic()
        self._done_before = _count(read_records(study), "complete", "pruned")
        self._next_line = 0.0
        self._last_line = ""
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next_line = 0.0
        if self._live:
            self._live.stop()
        self._line(read_records(self._study))

    def update(self) -> None:
        """Show how things stand."""
        records = read_records(self._study)
        if self._live:
            self._live.update(self._display(records))
        elif time.monotonic() >= self._next_line:
            self._line(records)

    def _line(self, records: Sequence[TrialRecord]) -> None:
        line = self._counts(records)
        if line != self._last_line:
            self._console.print(line, soft_wrap=True)
        self._last_line = line
        self._next_line = time.monotonic() + LINE_S

    def _counts(self, records: Sequence[TrialRecord]) -> str:
        states = {state: _count(records, state) for state in ("complete", "pruned", "running")}
        done = states["complete"] + states["pruned"]
        parts = [
            f"{done}/{self._study.budget} trials",
            f"{states['complete']} complete",
            f"{states['pruned']} pruned",
            f"{sum(record.state == 'fail' and not record.handed_back for record in records)} failed",
            f"{states['running']} running",
            f"{sum(record.epochs_spent for record in records):,} epochs",
        ]
        left = self._time_left(done)
        return " · ".join(parts + ([f"{duration(left)} left"] if left else []))

    def _time_left(self, done: int) -> float | None:
        """From the rate of this run; None while it has none."""
        new = done - self._done_before
        if new < MIN_DONE or done >= self._study.budget:
            return None
        return (time.monotonic() - self._begin) / new * (self._study.budget - done)

    def _display(self, records: Sequence[TrialRecord]) -> Group:
        done = _count(records, "complete", "pruned")
        # By itself a bar does not end its line.
        bar = Padding(ProgressBar(total=self._study.budget, completed=done, width=60), 0)
        names = self._study.spec.objectives
        front = front_of(records, objectives_of(names, records))
        front.sort(key=lambda record: [record.values[name] for name in reversed(names)])
        header = ["trial", "family", *(short_label(name) for name in names)]
        rows = [
            [str(r.number), family_name(r.family), *(format_value(name, r.values[name]) for name in names)]
            for r in front[:MAX_FRONT]
        ]
        if rows and (constant := self._study.constant) is not None:
            rows.append([NONE, CONSTANT, *(format_value(name, constant.metrics.get(name)) for name in names)])
        more = f", {MAX_FRONT} of them" if len(front) > MAX_FRONT else ""
        title = (
            f"front so far: {count(len(front), 'network')}{more}" if front else "front so far: no trial is complete yet"
        )
        return Group(bar, Text(self._counts(records)), Text(), table(title, header, rows) if rows else Text(title))


def _count(records: Sequence[TrialRecord], *states: str) -> int:
    return sum(record.state in states for record in records)
