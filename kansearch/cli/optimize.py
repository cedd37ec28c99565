"""`kansearch optimize`: from a study file to a report, with everything checked before anything is computed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path

from kansearch.cli.places import find_places
from kansearch.cli.progress import Progress
from kansearch.cli.results import report_study
from kansearch.cli.studies import enter_study
from kansearch.cli.tables import console, say, table
from kansearch.errors import KansearchError, LaunchError, UserError
from kansearch.launch.local import LocalWorkers
from kansearch.launch.request import LaunchRequest
from kansearch.report.render import check_writable
from kansearch.report.words import count, divergence_sentence, front_rows, verdict_sentences
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records, rescue_lost_trials
from kansearch.storage.url import ENVIRONMENT

POLL_S = 0.5
MAX_WORKERS = 1024
DEFAULT_WORKERS = 8
INTERRUPTED = 130


class Optimize:
    """One run of the command: plan, launch, watch, report."""

    def __init__(
        self,
        study_file: Path,
        name: str | None,
        storage: str | None,
        artifacts: str | None,
        overrides: list[str],
        workers: int | None,
        pack: int | None,
        device: str,
        output: Path | None,
        command: str,
    ) -> None:
        if workers is not None and not 1 <= workers <= MAX_WORKERS:
            raise UserError(f"--workers is {workers}; must be from 1 to {MAX_WORKERS}")
        self.command = command
        self.n_workers = workers or min(len(os.sched_getaffinity(0)), DEFAULT_WORKERS)
        self.pack = pack
        self.device = device
        self.spec: StudySpec = load_study_file(study_file, overrides, name)
        self.places = find_places(self.spec, study_file, storage, artifacts)
        self.output = output or Path("reports") / self.spec.name
        self.console = console()

    def run(self) -> int:
        """Do it all; returns the exit code."""
        check_writable(self.output)
        with self.console.status("reading the data, checking the space") if self.console.is_terminal else nullcontext():
            from kansearch.training.device import find_device

            find_device(self.device)
            study = enter_study(self.spec, self.places, self.console)
        interrupted = self._search(study)
        summary, page = report_study(study, self.output)
        header, rows = front_rows(summary)
        self.console.print()
        if rows:
            self.console.print(table(f"Pareto front of {self.spec.name}: {count(len(rows), 'network')}", header, rows))
            for sentence in verdict_sentences(summary):
                say(self.console, sentence)
        else:
            self.console.print("No trial is complete yet, so there is no front.")
            if sentence := divergence_sentence(read_records(study)):
                say(self.console, f"  {sentence}")
        say(self.console, f"Report: {page}")
        if interrupted:
            say(
                self.console,
                f"Stopped. Nothing finished is lost{_storage_hint(self.command)}; go on with: {self.command}",
            )
            return INTERRUPTED
        return 0

    def _search(self, study: StoredStudy) -> bool:
        """Keep workers at it until the budget is done; returns whether a person stopped them."""
        if study.is_done:
            return False
        environment = {ENVIRONMENT: self.places.storage}
        request = LaunchRequest(self.spec.name, self.n_workers, self.pack, self.device, environment)
        # A scheduler's polite end is a person's Ctrl-C; both must find the workers in the care of the `finally`.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        workers = LocalWorkers(request)
        try:
            workers.start()
            with Progress(study, self.console) as progress:
                while workers.poll():
                    rescue_lost_trials(study)
                    progress.update()
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            self.console.print("Stopping the workers ...")
            workers.stop()
            rescue_lost_trials(study)
            return True
        finally:
            workers.stop()
            signal.signal(signal.SIGTERM, previous)
        rescue_lost_trials(study)
        if study.is_done:
            return False
        if study.is_stopped:
            self.console.print("Somebody stopped the study (kansearch stop).")
            return True
        gave_up = workers.ended_with()
        if gave_up is not None:
            raise _WorkerGaveUpError(*gave_up)
        raise LaunchError(f"the workers of {self.spec.name} were stopped from outside; go on with: {self.command}")


def _storage_hint(command: str) -> str:
    """What the command line does not say of the storage."""
    if "***" in command:
        return " (put back what *** stands for)"
    if "--storage" not in command and os.environ.get(ENVIRONMENT):
        return f" ({ENVIRONMENT} must be set as now)"
    return ""


class _WorkerGaveUpError(KansearchError):
    """A worker ended with a message for whoever can mend it."""

    def __init__(self, exit_code: int, words: str) -> None:
        self.exit_code = exit_code
        lines = [line.removeprefix("kansearch: ") for line in words.splitlines()]
        super().__init__("\n".join(lines) or f"a worker ended with exit code {exit_code}")
