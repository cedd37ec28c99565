"""The report as one HTML page: its words, tables and figures put in the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kansearch.report import html
from kansearch.report.architecture import family_name
from kansearch.report.figures import (
    activation_plots,
    curves_plot,
    front_plot,
    history_plot,
    hypervolume_plot,
    importances_plot,
)
from kansearch.report.json_export import FORMAT
from kansearch.report.study_text import study_yaml
from kansearch.report.summary import Summary
from kansearch.report.words import (
    CAVEAT,
    NONE,
    column_rows,
    constant_row,
    count,
    finding,
    footnotes,
    format_param,
    format_value,
    front_rows,
    percent,
    short_label,
    verdict_sentences,
)

MAX_ROWS = 60
"""Rows of a table; the rest is in the JSON and CSV files."""

AGAIN = (
    "The seed of each trial is in trials.csv. With one worker the same study on the same versions draws the same "
    "trials; several workers share results in the order in which they arrive, which differs from time to time."
)


@dataclass(frozen=True)
class _Tile:
    """One number at the head of the page."""

    label: str
    value: str
    detail: str


def to_html(summary: Summary, now: datetime) -> str:
    """The report as one page that asks no server for anything.

    Args:
        summary: The numbers.
        now: When the report is written.
    """
    plots = {
        "front": html.figure(front_plot(summary)),
        "layers": [html.figure(plot) for plot in activation_plots(summary)],
        "history": html.figure(history_plot(summary)),
        "hypervolume": html.figure(hypervolume_plot(summary)),
        "curves": html.figure(curves_plot(summary)),
        "importances": html.figure(importances_plot(summary)),
    }
    study = summary.study
    return html.page(
        "report.html",
        now,
        study=study,
        finding=finding(summary),
        tiles=_tiles(summary),
        unfinished=" and ".join(
            count(summary.counts[state], f"trial is {state}", f"trials are {state}")
            for state in ("running", "waiting")
            if summary.counts[state]
        ),
        contents=_contents(plots, has_columns=bool(summary.columns)),
        front_title="The front" if len(summary.objectives) > 1 else "The best network",
        quality=summary.objectives[0].label,
        plots=plots,
        front=_front(summary),
        everything=_everything(summary),
        verdict=verdict_sentences(summary),
        caveat=CAVEAT if summary.counts["complete"] else "",
        comparison=_comparison(summary),
        activations=_activations(summary),
        columns=_columns(summary),
        cost=_cost(summary),
        counts=_counts(summary),
        ends=_ends(summary),
        warnings=summary.warnings,
        study_file=f"{study.name}.yaml",
        study_yaml=study_yaml(study),
        data=summary.data,
        facts=[
            ("Seed of the search", study.search.seed),
            ("Seed of the split", study.data.seed),
            *((f"Version of {name}", version) for name, version in summary.versions.items()),
        ],
        again=AGAIN,
        footnotes=footnotes(summary),
        format=FORMAT,
        has_plots=any(plots.values()),
    )


def _contents(plots: Mapping[str, Any], *, has_columns: bool) -> list[tuple[str, str]]:
    sections = [
        ("front", "Result", True),
        ("comparison", "Comparison", True),
        ("activations", "Activations", plots["layers"]),
        ("progress", "Progress", plots["history"]),
        ("curves", "Curves", plots["curves"]),
        ("importances", "What mattered", plots["importances"]),
        ("data", "Data", has_columns),
        ("cost", "Cost", True),
        ("again", "Reproduce", True),
        ("notes", "Notes", True),
    ]
    return [(id_, title) for id_, title, there in sections if there]


def _tiles(summary: Summary) -> list[_Tile]:
    tiles = []
    quality = summary.objectives[0]
    if summary.front:
        best = max(summary.front, key=lambda m: m.values[quality.name] * (1 if quality.maximize else -1))
        tiles.append(
            _Tile(
                f"Best {short_label(quality.name)}",
                format_value(quality.name, best.values[quality.name]),
                f"trial {best.trial}, {family_name(best.family)}{_beside(summary)}",
            )
        )
        cost = next((objective for objective in summary.objectives if objective.is_cost), None)
        if cost is not None:
            least = summary.front[0]
            tiles.append(
                _Tile(
                    f"Fewest {short_label(cost.name)}"
                    if cost.name in ("parameters", "flops")
                    else f"Least {cost.label}",
                    format_value(cost.name, least.values[cost.name]),
                    f"trial {least.trial}, {short_label(quality.name)} "
                    f"{format_value(quality.name, least.values[quality.name])}",
                )
            )
    if summary.records:
        finished = summary.counts["complete"] + summary.counts["pruned"]
        tiles.append(
            _Tile(
                "Trials",
                f"{finished:,}",
                f"{summary.counts['complete']:,} complete, {summary.counts['pruned']:,} pruned",
            )
        )
        saved = f"{percent(summary.share_saved)} saved by pruning" if summary.share_saved > 0 else "nothing pruned"
        tiles.append(_Tile("Epochs", f"{summary.epochs_spent:,}", saved))
    return tiles


def _beside(summary: Summary) -> str:
    """The constant answer beside the best quality."""
    name = summary.objectives[0].name
    value = None if summary.constant is None else summary.constant.metrics.get(name)
    return "" if value is None else f"; a constant answer {format_value(name, value)}"


def _front(summary: Summary) -> dict[str, Any]:
    header, rows = front_rows(summary)
    hidden = len(rows) - MAX_ROWS
    order = "cheapest first" if any(objective.is_cost for objective in summary.objectives) else "best first"
    return {
        "header": header,
        "rows": [(m.family, row) for m, row in zip(summary.front, rows, strict=True)][:MAX_ROWS],
        "caption": f"{count(len(rows), 'network')} that no other one beats in every objective, {order}"
        if len(rows) > 1
        else "The best network",
        "constant": constant_row(summary),
        "hidden": f"{hidden:,} more are in report.json." if hidden > 0 else "",
    }


def _everything(summary: Summary) -> dict[str, Any]:
    members = summary.front[:MAX_ROWS]
    metrics = sorted({name for member in members for name in member.metrics})
    params = list(dict.fromkeys(name for member in members for name in member.params if name != "family"))
    header = ["trial", "epochs", *(short_label(name) for name in metrics), *(name.replace("_", " ") for name in params)]
    rows = [
        [
            str(member.trial),
            str(member.epochs),
            *(format_value(name, member.metrics.get(name)) for name in metrics),
            *(format_param(member.params[name]) if name in member.params else NONE for name in params),
        ]
        for member in members
    ]
    return {"header": header, "rows": rows, "numbers": range(2 + len(metrics))}


def _comparison(summary: Summary) -> dict[str, Any]:
    comparison, quality = summary.comparison, summary.objectives[0]
    multi = len(summary.objectives) > 1
    header = ["family", "epochs spent", "counted", "trials counted", f"best {short_label(quality.name)}", "trial"]
    header += ["parameters", *(["hypervolume"] if multi else [])]
    rows = []
    for result in comparison.families:
        best = result.best
        cells = [
            f"{result.epochs:,}",
            f"{result.compared_epochs:,}",
            f"{result.compared_trials:,} of {result.trials:,}",
        ]
        cells += [
            format_value(quality.name, best.values[quality.name] if best else None),
            str(best.trial) if best else NONE,
            format_value("parameters", best.measured("parameters") if best else None),
        ]
        if multi:
            cells.append(NONE if result.hypervolume is None else f"{result.hypervolume:.3f}")
        rows.append((result.family, cells))
    notes = []
    if comparison.fair_epochs is not None and comparison.left_out:
        notes.append(
            "The families got unequal epochs. For each only its first trials that fit in "
            f"{count(comparison.fair_epochs, 'epoch')} count here; "
            f"{count(comparison.left_out, 'later trial is', 'later trials are')} left out."
        )
    whole = {"mlp": summary.baseline, "kan": summary.best_kan, "hybrid": summary.best_hybrid}
    for result in comparison.families:
        best = whole[result.family]
        if best is not None and (result.best is None or result.best.trial != best.trial):
            notes.append(
                f"Beyond the equal budget the best {family_name(result.family)} is trial {best.trial} with "
                f"{short_label(quality.name)} {format_value(quality.name, best.values[quality.name])}."
            )
    fair = comparison.fair_epochs
    caption = (
        f"Each family by its first {count(fair, 'epoch')}" if fair else "What each family got and what became of it"
    )
    return {"caption": caption, "header": header, "rows": rows, "notes": notes}


def _activations(summary: Summary) -> str:
    found = summary.activations
    if found is None:
        return ""
    which = "the most accurate KAN or hybrid on the front" if found.on_front else "the most accurate KAN or hybrid"
    also = "" if found.on_front else " No KAN or hybrid with learned curves is on the front."
    member = found.network
    return (
        f"The curves that trial {member.trial} ({family_name(member.family)}, {member.architecture}) learned, "
        f"{which}.{also} Above each stands its edge, input node → output node, and its amplitude: the root mean square "
        "of the curve over the training data. It is drawn from the 1st to the 99th percentile of what the edge saw."
    )


def _columns(summary: Summary) -> dict[str, Any]:
    header, rows, more = column_rows(summary.columns, MAX_ROWS)
    return {"header": header, "rows": rows, "more": more}


def _cost(summary: Summary) -> str:
    spent, unpruned = summary.epochs_spent, summary.epochs_unpruned
    sentence = f"The study spent {count(spent, 'epoch')}"
    if summary.seconds:
        sentence += f" in {_duration(summary.seconds)} of trial time"
    if unpruned > spent:
        sentence += (
            f"; unpruned, the same trials would have cost {unpruned:,}, so pruning saved {percent(summary.share_saved)}"
        )
    return sentence + "."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.3g} minutes"
    return f"{seconds / 3600:.3g} hours"


def _counts(summary: Summary) -> dict[str, Any]:
    names = {"fail": "failed"}
    rows = []
    for state, n in summary.counts.items():
        epochs = sum(record.epochs_spent for record in summary.records if record.state == state)
        share = percent(epochs / summary.epochs_spent) if summary.epochs_spent else NONE
        rows.append([names.get(state, state), f"{n:,}", f"{epochs:,}", share])
    return {"header": ["state", "trials", "epochs", "share of epochs"], "rows": rows}


def _ends(summary: Summary) -> dict[str, Any]:
    names = {"fail": "failed"}
    # Failures are few and each may be a fault of its own; they must not drown in pruned trials.
    ends = sorted(summary.ends, key=lambda end: end.state != "fail")
    rows = [
        [names.get(end.state, end.state), end.reason, f"{len(end.trials):,}", _numbers(end.trials)]
        for end in ends[:MAX_ROWS]
    ]
    hidden = len(ends) - MAX_ROWS
    return {
        "header": ["state", "reason", "trials", "which"],
        "rows": rows,
        "hidden": f"{hidden:,} more reasons are in report.json." if hidden > 0 else "",
    }


def _numbers(trials: Sequence[int]) -> str:
    shown = ", ".join(str(trial) for trial in trials[:8])
    return f"{shown}, …" if len(trials) > 8 else shown
