"""`kansearch optimize`: from a study file to a report, with everything checked before anything is computed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from kansearch.cli.places import find_places
from kansearch.cli.progress import Progress
from kansearch.cli.results import report_study
from kansearch.cli.studies import enter_study
from kansearch.cli.tables import console, say, table
from kansearch.errors import KansearchError, LaunchError, UserError
from kansearch.launch.engine import ElsewhereError
from kansearch.launch.launchers import launcher
from kansearch.launch.request import Job, Launcher, LaunchRequest, Plan, Resources
from kansearch.report.render import check_writable
from kansearch.report.words import constant_row, count, divergence_sentence, front_rows, verdict_sentences
from kansearch.specs.launch import MOST_WORKERS, LauncherName, LaunchSpec
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_cluster_file, load_study_file
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records, rescue_lost_trials
from kansearch.storage.url import ENVIRONMENT, is_file

POLL_S = 0.5
FIRST_WORDS_S = 10.0
"""For workers on a cluster to train before somebody asks why they do not."""

DEFAULT_WORKERS = 8
INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """What the command was given.

    Attributes:
        study_file: The study's.
        name: Of the study, instead of the file's own.
        storage: URL of the storage.
        artifacts: Place of large checkpoints.
        overrides: Of the file.
        workers: Tasks for workers; on this machine worker processes.
        pack: Trials that each worker trains together.
        device: On which.
        output: Folder of the report.
        launcher: Who places the workers.
        cluster: File of a site.
        dry_run: Whether only what would be sent is shown.
        detach: Whether to leave once workers are placed.
        command: The command line, for people.
    """

    study_file: Path
    name: str | None
    storage: str | None
    artifacts: str | None
    overrides: tuple[str, ...]
    workers: int | None
    pack: int | None
    device: str
    output: Path | None
    launcher: LauncherName | None
    cluster: Path | None
    dry_run: bool
    detach: bool
    command: str


class Optimize:
    """One run of the command: plan, launch, watch, report.

    Args:
        options: Of the command.
    """

    def __init__(self, options: Options) -> None:
        if options.workers is not None and not 1 <= options.workers <= MOST_WORKERS:
            raise UserError(f"--workers is {options.workers}; must be from 1 to {MOST_WORKERS}")
        self.options = options
        self.spec: StudySpec = load_study_file(options.study_file, options.overrides, options.name)
        self.site = _site(self.spec, options)
        if options.detach and self.site.is_here:
            raise UserError(
                "--detach is for workers that stay on a cluster, and these would end with this command: "
                "--launcher slurm, kubernetes, or ray with the address of a cluster (RAY_ADDRESS)"
            )
        self.places = find_places(self.spec, options.study_file, options.storage, options.artifacts)
        if not self.site.is_here and is_file(self.places.storage):
            raise UserError(
                f"launcher {self.site.launcher} needs a database that all machines reach, and the storage is a file of "
                "this machine: --storage postgresql://USER@HOST/DATABASE"
            )
        self.output = options.output or Path("reports") / self.spec.name
        self.console = console()

    def run(self) -> int:
        """Do it all; returns the exit code."""
        place = launcher(self.site)
        plan = place.plan(self._request())
        if self.options.dry_run:
            self.console.out(plan.text, end="", highlight=False)
            return 0
        check_writable(self.output)
        with self.console.status("reading the data, checking the space") if self.console.is_terminal else nullcontext():
            from kansearch.training.device import find_device

            if self.site.is_here:
                find_device(self.options.device)
            study = enter_study(self.spec, self.places, self.console)
        interrupted = self._search(study, place, plan)
        if interrupted and not self.site.is_here:
            return INTERRUPTED
        if self.options.detach and not study.is_done:
            return 0
        if study.ended is not None:
            say(self.console, study.ended)
        summary, page = report_study(study, self.output)
        header, rows = front_rows(summary)
        self.console.print()
        if rows:
            title = f"Pareto front of {self.spec.name}: {count(len(rows), 'network')}"
            self.console.print(table(title, header, [*rows, *filter(None, [constant_row(summary)])]))
            for sentence in verdict_sentences(summary):
                say(self.console, sentence)
        else:
            self.console.print("No trial is complete yet, so there is no front.")
            if sentence := divergence_sentence(read_records(study)):
                say(self.console, f"  {sentence}")
        say(self.console, f"Report: {page}")
        if interrupted:
            command = self.options.command
            say(self.console, f"Stopped. Nothing finished is lost{_storage_hint(command)}; go on with: {command}")
            return INTERRUPTED
        return 0

    def _request(self) -> LaunchRequest:
        options, site = self.options, self.site
        arguments = [] if options.device == "cpu" else ["--device", options.device]
        arguments += [] if options.pack is None else ["--pack", str(options.pack)]
        n_here = min(len(os.sched_getaffinity(0)), DEFAULT_WORKERS) if self.site.is_here else 1
        return LaunchRequest(
            self.spec.name,
            site.workers or n_here,
            tuple(arguments),
            Resources(site.cpus, site.gpus, site.memory, site.time),
            secrets={ENVIRONMENT: self.places.storage},
        )

    def _search(self, study: StoredStudy, place: Launcher, plan: Plan) -> bool:
        """Keep workers at it until the budget is done; returns whether a person stopped them, or left them alone."""
        if study.is_done:
            return False
        # A scheduler's polite end is a person's Ctrl-C; both must find the workers in the care of the `finally`. Python
        # drops what is raised while it is collecting garbage, so they are remembered, too.
        asked: list[int] = []
        is_sending = False

        def interrupt(number: int, frame: FrameType | None) -> None:
            del frame
            asked.append(number)
            # What is being sent is noted first, or nobody would find it again.
            if not is_sending:
                raise KeyboardInterrupt

        previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
        job: Job | None = None
        try:
            job = self._working_job(study, place)
            if job is None:
                is_sending = not self.site.is_here
                job = place.submit(plan)
                if not self.site.is_here:
                    study.note_job(self.site.launcher, job.name, job.line)
                is_sending = False
            if job.line:
                say(self.console, job.line)
            if asked:
                raise KeyboardInterrupt
            if self.options.detach:
                self._say_how_to_go_on()
                return False
            said = _Waiting(self.console, job)
            with Progress(study, self.console) as progress:
                while job.poll() and not study.is_done:
                    if asked:
                        raise KeyboardInterrupt
                    rescue_lost_trials(study)
                    progress.update()
                    if not self.site.is_here and not study.counts()["running"]:
                        said.update()
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            if not self.site.is_here:
                if job is None:
                    self.console.print("No workers were sent.")
                else:
                    self._say_how_to_go_on()
                return True
            self.console.print("Stopping the workers ...")
            if job is not None:
                job.stop()
            rescue_lost_trials(study)
            return True
        finally:
            if job is not None and self.site.is_here:
                job.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
        rescue_lost_trials(study)
        if study.is_done:
            return False
        if study.is_stopped:
            self.console.print("Somebody stopped the study (kansearch stop).")
            return True
        gave_up = job.ended_with()
        if gave_up is not None:
            raise _WorkerGaveUpError(*gave_up)
        raise LaunchError(
            f"the workers of {self.spec.name} were stopped from outside; go on with: {self.options.command}"
        )

    def _working_job(self, study: StoredStudy, place: Launcher) -> Job | None:
        """Workers on the cluster that an earlier command left at work, to be watched instead of sending more."""
        if self.site.is_here:
            return None
        for name, number, _ in study.jobs():
            if name != self.site.launcher:
                continue
            try:
                state = (job := place.find(number)).state()
            except ElsewhereError:
                continue
            if state != "ended":
                say(self.console, f"There are workers already: {state}; no more are sent")
                return job
        return None

    def _say_how_to_go_on(self) -> None:
        name, hint = self.spec.name, self.places.hint
        say(self.console, "The workers go on without this command.")
        for what, command in (
            ("how far they are", f"status {name}"),
            ("the report", f"report {name}"),
            ("to end them", f"stop {name} --cancel"),
        ):
            say(self.console, f"  {what + ':':<18} kansearch {command}{hint}")


class _Waiting:
    """Says now and then what an engine makes of a job of which nobody trains."""

    def __init__(self, console: Console, job: Job) -> None:
        self._console, self._job = console, job
        self._last, self._next_look = "", time.monotonic() + FIRST_WORDS_S

    def update(self) -> None:
        """Say it if it is new."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + FIRST_WORDS_S
        try:
            state = self._job.state()
        except LaunchError as error:
            state = f"not known: {error}"
        if state != self._last:
            self._last = state
            say(self._console, f"No trial is being trained: {state}")


def _site(spec: StudySpec, options: Options) -> LaunchSpec:
    """Where workers run: what the flags say, then the file of the site, the study file and engines' own variables."""
    found = spec.launch or LaunchSpec()
    if options.cluster is not None:
        found = load_cluster_file(options.cluster).over(found)
    said = {"launcher": options.launcher, "workers": options.workers}
    flags = {key: value for key, value in said.items() if value is not None}
    return LaunchSpec().model_copy(update=flags).over(found).with_environment()


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
