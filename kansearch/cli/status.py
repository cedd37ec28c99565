"""`kansearch status`: how far studies are."""

from __future__ import annotations

from collections import Counter

from kansearch.cli.results import summarize_study
from kansearch.cli.tables import console, say, table
from kansearch.report.words import count, front_rows, verdict_sentences
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import StoredStudy, load_study, study_names
from kansearch.storage.trials import read_records
from kansearch.storage.url import shown


def show_studies(storage: Storage, url: str) -> None:
    """Print a line for each study of the storage."""
    out = console()
    names = study_names(storage)
    if not names:
        say(out, f"No studies in {shown(url)} yet; `kansearch optimize STUDY.yaml` makes one.")
        return
    rows = []
    for name in names:
        study = load_study(storage, name)
        states = Counter(record.state for record in read_records(study))
        rows.append(
            [
                name,
                ", ".join(study.spec.objectives),
                f"{states['complete'] + states['pruned']}/{study.budget}",
                *(str(states[state]) for state in ("complete", "pruned", "fail", "running", "waiting")),
            ]
        )
    header = ["study", "objectives", "trials", "complete", "pruned", "failed", "running", "waiting"]
    out.print(table(f"Studies of {shown(url)}", header, rows))


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
    workers = Counter(record.worker for record in records if record.state == "running")
    for worker, n_trials in sorted(workers.items(), key=str):
        out.print(f"  worker {worker}: {n_trials} running")
    failures = Counter(record.reason or "no reason known" for record in records if record.state == "fail")
    for reason, n_trials in failures.most_common(10):
        say(out, f"  failed {n_trials} times: {reason}")
    for warning in study.warnings:
        say(out, f"  warning: {warning}")
    summary = summarize_study(study)
    header, rows = front_rows(summary)
    if rows:
        out.print()
        out.print(table(f"Front: {count(len(rows), 'network')}", header, rows))
        for sentence in verdict_sentences(summary):
            say(out, sentence)
