"""`kansearch explain`: what a trial's network has learned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from kansearch.cli.again import architecture_of, finished_trial, network_of
from kansearch.cli.results import summarize_study
from kansearch.cli.tables import console, say, table
from kansearch.errors import UserError
from kansearch.interpret.explain import explain
from kansearch.report.architecture import family_name
from kansearch.report.explanation import again, edge_name, finding
from kansearch.report.render import check_writable, write_explanation
from kansearch.report.words import CONSTANT, format_value, percent
from kansearch.specs.explanation import Explanation
from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import StoredStudy
from kansearch.training.metrics import constant_answer

MAX_ROWS = 8
"""Of a table on the terminal; the page has all."""


def explain_trial(
    study: StoredStudy, number: int | None, n_curves: int, folder: Path, data: Path | None = None
) -> None:
    """Train a trial's network again, write what it has learned, and print the most of it.

    Args:
        study: Of the trial.
        number: Of the trial; None takes the best KAN or hybrid of the front.
        n_curves: So many of the most important curves are shown.
        folder: Of the page; made if it does not exist.
        data: Where they lie, if elsewhere than the study says.

    Raises:
        DataError: If the data are nowhere, or changed since the study began.
        UserError: If there is no such trial, or nothing that it could have learned.
    """
    record = _explainable(study, number)
    check_writable(folder)
    network, model, split, measured = network_of(study, record, data)
    explanation = explain(
        network,
        split,
        record,
        study=study.spec.name,
        architecture=architecture_of(study, record, model),
        quality_name=study.spec.objectives[0],
        measured=measured,
        n_edges=n_curves,
    )
    page = write_explanation(explanation, folder, datetime.now().astimezone())
    _show(explanation, constant_answer(split).metrics)
    console().print(f"Page: {page}", soft_wrap=True)


def _explainable(study: StoredStudy, number: int | None) -> TrialRecord:
    if number is None:
        activations = summarize_study(study).activations
        if activations is None:
            raise UserError(f'study "{study.spec.name}" has no complete KAN or hybrid yet; name a trial with --trial')
        number = activations.network.trial
    record = finished_trial(study, number)
    if record.family == "mlp":
        raise UserError(f"trial {number} is a plain network without learned curves; name a KAN or a hybrid")
    return record


def _show(explanation: Explanation, constant: Mapping[str, float]) -> None:
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
    steps.append((CONSTANT, format_value(quality, constant.get(quality))))
    out.print(table("Fewer curves", ("curves", quality), steps))
