"""`kansearch explain`: what a trial's network has learned."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import torch

from kansearch.cli.results import summarize_study
from kansearch.cli.tables import console, say, table
from kansearch.errors import DataError, UserError
from kansearch.interpret.explain import explain, train_again
from kansearch.report.architecture import describe_architecture, family_name
from kansearch.report.explanation import again, edge_name, finding
from kansearch.report.render import check_writable, write_explanation
from kansearch.report.words import format_value, percent
from kansearch.search.data import load_study_split
from kansearch.search.suggest import trial_spec
from kansearch.specs.explanation import Explanation
from kansearch.specs.trial import End, TrialRecord
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records

MAX_ROWS = 8
"""Of a table on the terminal; the page has all."""


def explain_trial(study: StoredStudy, number: int | None, n_curves: int, folder: Path) -> None:
    """Train a trial's network again, write what it has learned, and print the most of it.

    Args:
        study: Of the trial.
        number: Of the trial; None takes the best KAN or hybrid of the front.
        n_curves: So many of the most important curves are shown.
        folder: Of the page; made if it does not exist.

    Raises:
        DataError: If the data changed since the study began.
        UserError: If there is no such trial, or nothing that it could have learned.
    """
    record = _explainable(study, number)
    check_writable(folder)
    split = load_study_split(study.spec)
    if split.digest != study.data_digest:
        raise DataError(f'the data of study "{study.spec.name}" changed since it began; its trials cannot be explained')
    spec = trial_spec(study.spec, record.params)
    if record.seed is not None:
        spec = spec.model_copy(update={"seed": record.seed})
    # As a worker has it, for the same sums.
    torch.set_num_threads(1)
    network, measured = train_again(spec, split, record.epochs)
    explanation = explain(
        network,
        split,
        record,
        study=study.spec.name,
        architecture=describe_architecture(record.params, study.spec),
        quality_name=study.spec.objectives[0],
        measured=measured,
        n_edges=n_curves,
    )
    page = write_explanation(explanation, folder, datetime.now().astimezone())
    _show(explanation)
    console().print(f"Page: {page}", soft_wrap=True)


def _explainable(study: StoredStudy, number: int | None) -> TrialRecord:
    name = study.spec.name
    records = read_records(study)
    if number is None:
        activations = summarize_study(study).activations
        if activations is None:
            raise UserError(f'study "{name}" has no complete KAN or hybrid yet; name a trial with --trial')
        number = activations.network.trial
    if number >= len(records):
        allowed = f"0 to {len(records) - 1}" if records else "none yet"
        raise UserError(f'study "{name}" has no trial {number}; its trials: {allowed}')
    record = records[number]
    if record.family == "mlp":
        raise UserError(f"trial {number} is a plain network without learned curves; name a KAN or a hybrid")
    if record.end is End.DIVERGED:
        raise UserError(f"trial {number} diverged: its network holds no numbers; allowed: trials that did not")
    if record.state not in ("complete", "pruned") or not record.epochs:
        raise UserError(f"trial {number} is {record.state}, without a result; allowed: complete and pruned trials")
    return record


def _show(explanation: Explanation) -> None:
    out = console()
    out.print()
    say(out, f"Trial {explanation.trial} of {explanation.study}, a {family_name(explanation.family)}: "
        f"{explanation.architecture}", style="bold")  # fmt: skip
    say(out, finding(explanation))
    say(out, again(explanation))
    if explanation.inputs:
        inputs = [(name, percent(share)) for name, share in list(explanation.inputs.items())[:MAX_ROWS]]
        out.print()
        out.print(table("Inputs", ("input", "share of the output"), inputs))
    curves = [
        (edge_name(edge), percent(edge.importance), edge.formula.text, f"{edge.formula.r2:.4f}")
        if edge.formula
        else (edge_name(edge), percent(edge.importance), "none follows it", "-")
        for edge in explanation.edges[:MAX_ROWS]
    ]
    out.print()
    out.print(table("Learned curves", ("curve", "share of the output", "formula", "R²"), curves))
    quality = explanation.quality
    steps = [(f"{step.n_curves:,}", format_value(quality, step.metrics.get(quality))) for step in explanation.sparser]
    out.print()
    out.print(table("Fewer curves", ("curves", quality), steps))
