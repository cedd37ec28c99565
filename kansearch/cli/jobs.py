"""Jobs that hold the workers of a study on a cluster: shown and ended."""

from __future__ import annotations

from kansearch.cli.tables import console, say
from kansearch.errors import KansearchError, LaunchError
from kansearch.launch.launchers import launcher
from kansearch.launch.request import Job
from kansearch.specs.launch import LaunchSpec
from kansearch.storage.studies import StoredStudy


def show_jobs(study: StoredStudy) -> None:
    """Print the jobs of a study that have not ended."""
    out = console()
    for name, number, line in study.jobs():
        try:
            state = _job(name, number).state()
        except KansearchError as error:
            state = f"not known: {error}"
        if state != "ended":
            say(out, f"{line}: {state}")


def cancel_jobs(study: StoredStudy) -> None:
    """End the jobs of a study, each that can be ended.

    Raises:
        LaunchError: If an engine refuses it, or does not answer.
    """
    out = console()
    failures: list[str] = []
    for name, number, line in study.jobs():
        try:
            job = _job(name, number)
            if _may_be_there(job):
                job.stop()
                say(out, f"{line}: cancelled")
                study.forget_job(name, number)
        except KansearchError as error:
            failures.append(f"{line}: not cancelled: {error}")
    if failures:
        raise LaunchError("\n".join(failures))


def _may_be_there(job: Job) -> bool:
    """Whether a job has not ended, as far as is known."""
    try:
        return job.state() != "ended"
    except LaunchError:
        return True


def _job(name: str, number: str) -> Job:
    return launcher(LaunchSpec.model_validate({"launcher": name})).find(number)
