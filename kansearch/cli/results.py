"""From a stored study to its report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from kansearch.report.render import write_report
from kansearch.report.summary import Summary, summarize
from kansearch.search.importance import importances
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records


def summarize_study(study: StoredStudy) -> Summary:
    """What the trials of a study taught us."""
    return summarize(
        study.spec,
        read_records(study),
        importances(study),
        study.versions,
        study.data_line,
        study.warnings,
        study.constant,
        study.columns,
    )


def report_study(study: StoredStudy, folder: Path) -> tuple[Summary, Path]:
    """Write a study's report into a folder; returns its numbers and the path of the page."""
    summary = summarize_study(study)
    return summary, write_report(summary, folder, datetime.now().astimezone())
