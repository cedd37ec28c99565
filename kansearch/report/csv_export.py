"""`trials.csv`: all trials of a study, one row each."""

from __future__ import annotations

import csv
import io
from typing import Any

from kansearch.report.architecture import describe_architecture
from kansearch.report.summary import Summary

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet runs a text that begins so."""


def to_csv(summary: Summary) -> str:
    """The trials as comma-separated values (RFC 4180), in order of their numbers.

    Columns: what every trial has, then `value.*` for objectives, `metric.*` and `param.*`. A text that a
    spreadsheet would run as a formula gets an apostrophe in front.
    """
    on_front = {member.trial for member in summary.front}
    values = [objective.name for objective in summary.objectives]
    metrics = sorted({name for record in summary.records for name in record.metrics})
    params = list(dict.fromkeys(name for record in summary.records for name in record.params))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    header = ["trial", "state", "family", "on_front", "feasible", "epochs", "resumed_at", "seconds", "seed"]
    header += ["architecture", "reason"]
    header += [f"value.{name}" for name in values]
    header += [f"metric.{name}" for name in metrics] + [f"param.{name}" for name in params]
    writer.writerow([_cell(name) for name in header])
    for record in summary.records:
        row = [
            record.number,
            record.state,
            record.family,
            record.number in on_front,
            # Samplers know a pruned trial as infeasible; whether it meets the limits is known of complete ones only.
            record.feasible if record.state == "complete" else None,
            record.epochs,
            record.resumed_at,
            record.seconds,
            record.seed,
            describe_architecture(record.params, summary.study) if record.params else None,
            record.reason,
            *(record.values.get(name) for name in values),
            *(record.metrics.get(name) for name in metrics),
            *(record.params.get(name) for name in params),
        ]
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
