"""`kansearch status`: how far studies are."""

from __future__ import annotations

from collections import Counter

from kansearch.cli.jobs import show_jobs
from kansearch.cli.tables import console, duration, say, table
from kansearch.errors import UserError
from kansearch.garbage import many_objects
from kansearch.report.summary import summarize
from kansearch.report.words import constant_row, count, divergence_sentence, front_rows, verdict_sentences
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import StoredStudy, load_study, study_names
from kansearch.storage.trials import read_outline
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
    unreadable = []
    for name in names:
        try:
            study = load_study(storage, name)
        except UserError as error:
            unreadable.append(str(error))
            continue
        counts = study.counts()
        rows.append(
            [
                name,
                ", ".join(study.spec.objectives),
                f"{counts['complete'] + counts['pruned']}/{study.budget}{' stopped' if study.is_stopped else ''}",
                *(str(counts[state]) for state in ("complete", "pruned", "broken", "running", "waiting")),
                str(sum(worker.study_id == study.study_id for worker in workers)),
            ]
        )
    header = ["study", "objectives", "trials", "complete", "pruned", "failed", "running", "waiting", "workers"]
    out.print(table(f"Studies of {shown(url)}", header, rows))
    for words in unreadable:
        say(out, words, style="yellow")
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
    epochs = sum(worker.epochs_a_second for worker in ours if worker.state != "dead")
    say(out, f"workers: {', '.join(said)} · {rate:.1f} trials a minute · {epochs:,.0f} epochs a second")
    for worker in ours[:MAX_WORKERS]:
        seen = "" if worker.state == "live" else f", last seen {duration(max(0.0, worker.silent_s))} ago"
        say(
            out,
            f"  {worker.state} {worker.host} {worker.pid} ({worker.device}): {len(worker.trials)} running, "
            f"{worker.n_ended} ended, {worker.rate:.1f} a minute, {worker.epochs_a_second:,.0f} epochs a second{seen}",
        )
    if len(ours) > MAX_WORKERS:
        say(out, f"  and {len(ours) - MAX_WORKERS} more")


@many_objects()
def show_study(study: StoredStudy) -> None:
    """Print one study: its counts, its workers, its failures and its front."""
    out = console()
    records = read_outline(study)
    states = Counter(record.state for record in records)
    handed_back = Counter(record.reason for record in records if record.handed_back)
    failed = Counter(record.reason for record in records if record.state == "fail" and not record.handed_back)
    done = states["complete"] + states["pruned"]
    say(out, f"Study {study.spec.name}  ({study.data_line})")
    say(
        out,
        f"{done}/{study.budget} trials · {states['complete']} complete · {states['pruned']} pruned · "
        f"{failed.total()} failed · {states['running']} running · {states['waiting']} waiting · "
        f"{sum(record.epochs_spent for record in records):,} epochs",
    )
    if study.is_stopped:
        say(out, "stopped by `kansearch stop`; optimize and submit let it go on")
    _show_workers(study)
    show_jobs(study)
    for what, reasons in (("handed back", handed_back), ("failed", failed)):
        for reason, n_trials in reasons.most_common(10):
            say(out, f"  {count(n_trials, 'trial')} {what}: {reason or 'no reason known'}")
    if sentence := divergence_sentence(records):
        say(out, f"  {sentence}")
    for warning in study.warnings:
        say(out, f"  warning: {warning}")
    summary = summarize(study.spec, records, {}, study.versions, study.data_line, study.warnings, study.constant)
    header, rows = front_rows(summary)
    if rows:
        out.print()
        every = [*rows, *filter(None, [constant_row(summary)])]
        out.print(table(f"Front: {count(len(rows), 'network')}", header, every))
        for sentence in verdict_sentences(summary):
            say(out, sentence)
