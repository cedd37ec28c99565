"""`report.json`: a summary for programs.

Format 1. Fields may be added; when one changes its meaning or goes, the number rises.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from kansearch.report.comparison import FamilyResult, Network
from kansearch.report.summary import Summary
from kansearch.report.words import CAVEAT, finding, verdict

FORMAT = 1


def to_json(summary: Summary, now: datetime) -> dict[str, Any]:
    """The summary as a JSON document.

    Args:
        summary: The numbers.
        now: When the report is written.
    """
    return {
        "format": FORMAT,
        "written": now.isoformat(timespec="seconds"),
        "study": summary.study.model_dump(mode="json"),
        "data": summary.data,
        "columns": [column.model_dump(mode="json") for column in summary.columns],
        "finding": finding(summary),
        "objectives": [
            {
                "name": objective.name,
                "direction": objective.direction.value,
                "logarithmic": objective.logarithmic,
                "best": objective.best,
                "worst": objective.worst,
                "constant": None if summary.constant is None else summary.constant.metrics.get(objective.name),
            }
            for objective in summary.objectives
        ],
        "front": [_network(member) for member in summary.front],
        "constant_answer": None
        if summary.constant is None
        else {**summary.constant.model_dump(mode="json"), "is_beaten": summary.is_better_than_constant},
        "baseline": _network(summary.baseline),
        "best_kan": _network(summary.best_kan),
        "best_hybrid": _network(summary.best_hybrid),
        "comparison": {
            "fair_epochs": summary.comparison.fair_epochs,
            "left_out": summary.comparison.left_out,
            "families": [_family(result) for result in summary.comparison.families],
            "verdict": verdict(summary),
            "caveat": CAVEAT,
        },
        "counts": dict(summary.counts),
        "ends": [{"state": end.state, "reason": end.reason, "trials": list(end.trials)} for end in summary.ends],
        "epochs_spent": summary.epochs_spent,
        "epochs_unpruned": summary.epochs_unpruned,
        "seconds": round(summary.seconds, 3),
        "hypervolume": _rounded(summary.hypervolume),
        "history": {
            "trial": [point.trial for point in summary.history],
            "epochs": [point.epochs for point in summary.history],
            "hypervolume": [_rounded(point.hypervolume) for point in summary.history],
            "best": [point.best for point in summary.history],
        },
        "importances": {name: dict(shares) for name, shares in summary.importances.items()},
        "activations": None
        if summary.activations is None
        else {
            "trial": summary.activations.network.trial,
            "on_front": summary.activations.on_front,
            "curves": [curve.model_dump(mode="json") for curve in summary.activations.curves],
        },
        "versions": dict(summary.versions),
        "warnings": list(summary.warnings),
    }


def _network(member: Network | None) -> dict[str, Any] | None:
    return None if member is None else asdict(member)


def _rounded(volume: float | None) -> float | None:
    """Without the last digits, which differ between processors."""
    return None if volume is None else round(volume, 9)


def _family(result: FamilyResult) -> dict[str, Any]:
    numbers = asdict(result)
    numbers["hypervolume"] = _rounded(result.hypervolume)
    numbers["best"] = None if result.best is None else result.best.trial
    if result.against is not None:
        match = result.against.smallest_match
        numbers["against"]["smallest_match"] = None if match is None else match.trial
    return numbers
