"""`kansearch status`: how far studies are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from kansearch.cli.results import summarize_study
from kansearch.cli.tables import console, duration, say, table
from kansearch.report.words import count, front_rows, verdict_sentences
from kansearch.specs.trial import End, TrialRecord
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import StoredStudy, load_study, study_names
from kansearch.storage.trials import read_records
from kansearch.storage.url import shown
from kansearch.storage.workers import read_workers

MAX_WORKERS = 32
"""That are shown one by one."""


def show_studies(storage: Storage, url: str) -> None:
    """Print a line for each study of the storage."""
    out = console()
    names = study_names(storage)
    if not names:
        say(out, f"No studies in {shown(url)} yet; `kansearch optimize STUDY.yaml` makes one.")
        return
    rows = []
    workers = [worker for worker in read_workers(storage.ledger) if worker.state in ("live", "late")]
    for name in names:
        study = load_study(storage, name)
        counts = study.counts()
        rows.append(
            [
                name,
                ", ".join(study.spec.objectives),
                f"{counts['complete'] + counts['pruned']}/{study.budget}{' stopped' if study.is_stopped else ''}",
                *(str(counts[state]) for state in ("complete", "pruned", "fail", "running", "waiting")),
                str(sum(worker.study_id == study.study_id for worker in workers)),
            ]
        )
    header = ["study", "objectives", "trials", "complete", "pruned", "failed", "running", "waiting", "workers"]
    out.print(table(f"Studies of {shown(url)}", header, rows))
    idle = [worker for worker in workers if worker.study_id is None]
    if idle:
        say(out, f"{count(len(idle), 'worker')} without a study")


def _show_workers(study: StoredStudy) -> None:
    """Print who serves a study."""
    out = console()
    ours = [worker for worker in read_workers(study.storage.ledger) if worker.study_id == study.study_id]
    if not ours:
        return
    states = Counter(worker.state for worker in ours)
    rate = sum(worker.rate for worker in ours if worker.state != "dead")
    said = [f"{states[state]} {state}" for state in ("live", "late", "dead") if states[state]]
    say(out, f"workers: {', '.join(said)} · {rate:.1f} trials a minute")
    for worker in ours[:MAX_WORKERS]:
        seen = "" if worker.state == "live" else f", last seen {duration(max(0.0, worker.silent_s))} ago"
        say(
            out,
            f"  {worker.state} {worker.host} {worker.pid} ({worker.device}): {len(worker.trials)} running, "
            f"{worker.n_ended} ended, {worker.rate:.1f} a minute{seen}",
        )
    if len(ours) > MAX_WORKERS:
        say(out, f"  and {len(ours) - MAX_WORKERS} more")


def say_divergences(out: Console, records: Sequence[TrialRecord]) -> None:
    """Print how many trials diverged, and an example."""
    diverged = [record for record in records if record.end is End.DIVERGED]
    if diverged:
        say(out, f"  {count(len(diverged), 'trial')} diverged; trial {diverged[0].number}: {diverged[0].reason}")


def show_study(study: StoredStudy) -> None:
    """Print one study: its counts, its workers, its failures and its front."""
    out = console()
    records = read_records(study)
    states = Counter(record.state for record in records)
    done = states["complete"] + states["pruned"]
    say(out, f"Study {study.spec.name}  ({study.data_line})")
    say(
        out,
        f"{done}/{study.budget} trials · {states['complete']} complete · {states['pruned']} pruned · "
        f"{states['fail']} failed · {states['running']} running · {states['waiting']} waiting · "
        f"{sum(record.epochs_spent for record in records):,} epochs",
    )
    if study.is_stopped:
        say(out, "stopped by `kansearch stop`; optimize and submit let it go on")
    _show_workers(study)
    failures = Counter(record.reason or "no reason known" for record in records if record.state == "fail")
    for reason, n_trials in failures.most_common(10):
        say(out, f"  failed {n_trials} times: {reason}")
    say_divergences(out, records)
    for warning in study.warnings:
        say(out, f"  warning: {warning}")
    summary = summarize_study(study)
    header, rows = front_rows(summary)
    if rows:
        out.print()
        out.print(table(f"Front: {count(len(rows), 'network')}", header, rows))
        for sentence in verdict_sentences(summary):
            say(out, sentence)
