"""`kansearch delete`: a study with all that belongs to it, for good."""

from __future__ import annotations

import sys

import typer

from kansearch.cli.jobs import cancel_jobs
from kansearch.cli.places import artifacts_place
from kansearch.cli.tables import console, say
from kansearch.errors import LaunchError, UserError
from kansearch.report.summary import STATES
from kansearch.report.words import count
from kansearch.storage.artifacts import artifacts_at
from kansearch.storage.deletion import LEAVE_S, delete_study, workers_on
from kansearch.storage.studies import StoredStudy


def delete_for_good(study: StoredStudy, *, sure: bool) -> None:
    """Say what goes, ask unless that is known, delete it, and say what is left.

    Args:
        study: To be deleted.
        sure: Whether its user said already that it may go.

    Raises:
        UserError: If nobody can be asked.
    """
    name, counts, workers = study.spec.name, study.counts(), workers_on(study)
    found = [f"{counts[state]:,} {'failed' if state == 'fail' else state}" for state in STATES if counts[state]]
    trials = count(sum(counts[state] for state in STATES), "trial")
    held = f"study {name}: {trials}" + (f" ({', '.join(found)})" if found else "")
    held += f"; {count(len(workers), 'live worker')}" if workers else ""
    if not sure:
        if not sys.stdin.isatty():
            raise UserError(f"delete asks before it deletes {held}; without a terminal say it with --yes")
        if not _is_sure(f"Delete {held}, for good?"):
            typer.echo("Nothing was deleted.")
            return
    out = console()
    if study.jobs():
        study.stop()
        try:
            cancel_jobs(study)
        except LaunchError as error:
            say(out, str(error))
    if workers:
        say(out, f"Waiting up to {LEAVE_S:.0f} s for {count(len(workers), 'worker')} to leave study {name} ...")
    named = artifacts_place(None)
    try:
        n_left = delete_study(study, place=artifacts_at(named) if named else None)
    except KeyboardInterrupt:
        say(out, f"Study {name} is stopped, and perhaps not deleted; optimize and submit let it go on.")
        raise
    say(out, f"Deleted {held}.")
    if n_left:
        say(
            out,
            f"{count(n_left, 'artifact')} cannot be reached from here; of checkpoints a worker takes care.",
        )


def _is_sure(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        # Ctrl-C, or the end of what is typed.
        typer.echo()
        return False
