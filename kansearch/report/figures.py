"""The figures of the report, drawn by plotly.

Colours and fonts here are those of a light page; `report.js` redraws them in the colours of the page. It finds
out what a trace is from `meta`: the family, or `ink` for lines in the colour of the text. A figure of several
panels says in `layout.meta` how they may be arranged on a wide and on a narrow page.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from kansearch.report.architecture import FAMILY_NAMES, describe_architecture, family_name
from kansearch.report.progress import Objective, counts_for_front
from kansearch.report.summary import LearningCurve, Summary, thinned
from kansearch.report.words import count, format_param, format_value, short_label
from kansearch.specs.metrics import METRICS
from kansearch.specs.trial import Curve, TrialRecord

COLOURS = {"mlp": "#4a6fb5", "kan": "#c9581c", "hybrid": "#12806f", "ink": "#1d2128"}
SYMBOLS = {"mlp": "circle", "kan": "diamond", "hybrid": "square"}
MAX_MARKS = 2000
"""Trials beside the front that a figure shows; more are thinned evenly."""
MAX_EDGES = 12
"""Learned activations that a layer shows."""
MAX_BARS = 10
"""Hyperparameters that an importance figure shows."""

_FADED = 0.36


@dataclass(frozen=True)
class Plot:
    """A figure with its words.

    Attributes:
        name: Of the figure, unique in the report.
        figure: Of plotly.
        caption: For everybody.
        description: For those who cannot see it.
        title: Above the figure, where its section holds several.
    """

    name: str
    figure: go.Figure
    caption: str
    description: str
    title: str = ""


def front_plot(summary: Summary) -> Plot | None:
    """Quality against every other objective; None while no trial has measured the quality."""
    quality, *others = summary.objectives
    names = [objective.name for objective in others] or ["parameters"]
    names = [name for name in names if any(_measured(record, name) is not None for record in summary.records)]
    drawn = [record for record in _drawn(summary) if _measured(record, quality.name) is not None]
    if not drawn:
        return None
    logarithmic = {objective.name: objective.logarithmic for objective in summary.objectives}
    figure = blank(440 if len(names) < 2 else 380)
    x_names: list[str | None] = [*names] if names else [None]
    for panel, name in enumerate(x_names):
        _front_panel(figure, summary, drawn, panel, name)
        figure.update_layout(
            {
                axis("x", panel): _value_axis(drawn, name, logarithmic.get(name, True))
                if name
                else {"title": {"text": "trial"}},
                axis("y", panel): _value_axis(drawn, quality.name, quality.logarithmic),
            }
        )
    outside = _frame(
        figure, summary, drawn, [(name, logarithmic.get(name or "", name is not None)) for name in x_names]
    )
    if len(x_names) > 1:
        arrange(figure, len(x_names), columns=2 if len(x_names) % 2 == 0 else len(x_names), row_height=340)
    caption = "Each mark is a trial; the outlined ones are "
    caption += "the front, joined by its step line." if len(others) == 1 else "the front." if others else "the best."
    if any(record.state != "complete" for record in drawn):
        caption += " Faded marks were not trained to their end and stand where they were last measured."
    if len(others) > 1:
        caption += " Each panel shows two of the objectives, so a front member may look beaten in one of them."
    if outside:
        caption += f" {count(outside, 'weak trial lies', 'weak trials lie')} outside the frame; double-click shows all."
    return Plot("front", figure, caption + _thinned(summary, drawn), _front_description(summary))


def _front_panel(
    figure: go.Figure, summary: Summary, drawn: Sequence[TrialRecord], panel: int, name: str | None
) -> None:
    """Draw all trials with one quantity across; None puts the trial's number there."""
    quality = summary.objectives[0]
    able = [quality.name] if len(summary.objectives) == 1 else list(summary.study.objectives)
    on_front = {member.trial for member in summary.front}

    def x(record: TrialRecord) -> float | None:
        return record.number if name is None else _measured(record, name)

    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in drawn:
        kind = "front" if record.number in on_front else _kind(record, able)
        if x(record) is not None and record.family is not None:
            groups.setdefault((kind, record.family), []).append(record)
    looks: dict[str, dict[str, Any]] = {
        "early": {"size": 7, "opacity": _FADED},
        "infeasible": {"size": 8, "opacity": 0.6},
        "complete": {"size": 8, "opacity": 0.6},
        "front": {"size": 12, "opacity": 1, "line": {"width": 1.6, "color": COLOURS["ink"]}},
    }
    for kind, look in looks.items():
        if kind == "front":
            _front_line(figure, summary, panel, name)
        for family in FAMILY_NAMES:
            records = groups.get((kind, family))
            if not records:
                continue
            group = family if kind in ("complete", "front") else kind
            if panel == 0:
                _legend(figure, group)
            symbol = SYMBOLS[family] + ("-open" if kind == "infeasible" else "")
            figure.add_scatter(
                **axes(panel),
                x=[x(record) for record in records],
                y=[_measured(record, quality.name) for record in records],
                mode="markers",
                marker={"color": COLOURS[family], "symbol": symbol, **look},
                legendgroup=group,
                showlegend=False,
                meta={"role": family},
                text=[hover_text(record, summary) for record in records],
                hovertemplate="%{text}<extra></extra>",
            )
    base = summary.baseline
    base_x = None if base is None else base.trial if name is None else base.measured(name)
    if base is not None and base_x is not None:
        figure.add_scatter(
            **axes(panel),
            x=[base_x],
            y=[base.values[quality.name]],
            mode="markers",
            marker={
                "symbol": "circle-open",
                "size": 22,
                "color": COLOURS["ink"],
                "line": {"width": 1.6, "color": COLOURS["ink"]},
            },
            name="best plain network",
            legendgroup="baseline",
            legendrank=5,
            showlegend=panel == 0,
            meta={"role": "ink"},
            hoverinfo="skip",
        )


def _legend(figure: go.Figure, group: str, mode: str = "markers") -> None:
    """Name a group of marks in the legend, once; the sign there is never as faint as the marks may be."""
    if any(trace.legendgroup == group for trace in figure.data):
        return
    names = {"early": "not trained to the end", "infeasible": "breaks a constraint"}
    ranks = {"mlp": 1, "kan": 2, "hybrid": 3, "infeasible": 6, "early": 7}
    colour = COLOURS.get(group, COLOURS["ink"])
    symbol = SYMBOLS.get(group, "circle-open" if group == "infeasible" else "circle")
    figure.add_scatter(
        x=[None],
        y=[None],
        mode=mode,
        marker={"color": colour, "symbol": symbol, "size": 9},
        line={"width": 2, "color": colour},
        opacity=_FADED if group == "early" else 1,
        name=names.get(group, family_name(group)),
        legendgroup=group,
        legendrank=ranks[group],
        showlegend=True,
        meta={"role": group if group in SYMBOLS else "ink"},
    )


def _front_line(figure: go.Figure, summary: Summary, panel: int, name: str | None) -> None:
    """The staircase of what the front attains; only two objectives have one."""
    if len(summary.objectives) != 2 or name is None or not summary.front:
        return
    quality, other = summary.objectives
    steps = sorted({(member.values[name], member.values[quality.name]) for member in summary.front})
    figure.add_scatter(
        **axes(panel),
        x=[step[0] for step in steps],
        y=[step[1] for step in steps],
        mode="lines",
        line={"shape": "vh" if other.maximize else "hv", "width": 1.5, "color": COLOURS["ink"]},
        name="front",
        legendrank=4,
        meta={"role": "ink"},
        hoverinfo="skip",
    )


def _front_description(summary: Summary) -> str:
    quality, *others = summary.objectives
    axes = f"{quality.label} against {', '.join(o.label for o in others) or 'parameters'}"
    if not summary.front:
        return f"Scatter plot of {axes}. No trial is on the front yet."
    return (
        f"Scatter plot of {axes}, one mark for each trial, coloured and shaped by family. "
        f"{count(len(summary.front), 'trial is', 'trials are')} on the front; the table below lists them."
    )


def _frame(
    figure: go.Figure, summary: Summary, drawn: Sequence[TrialRecord], panels: Sequence[tuple[str | None, bool]]
) -> int:
    """Keep hopeless trials from squeezing the others: frame the axes; returns how many trials lie outside.

    Args:
        figure: To be framed.
        summary: Of the study.
        drawn: The trials in it.
        panels: What lies across in each panel (None where every trial must be in), and whether logarithmically.
    """
    quality = summary.objectives[0]
    complete = [record for record in drawn if counts_for_front(record, [quality.name])]
    if len(complete) < 10:
        return 0
    values = _scaled(quality, [record.values[quality.name] for record in complete])
    all_values = _scaled(quality, [_measured(record, quality.name) or 0.0 for record in drawn])
    best = all_values.min()
    kept = [_scaled(quality, [m.values[quality.name]])[0] for m in (*summary.front, summary.baseline) if m is not None]
    core = max(float(np.quantile(values, 0.95)), *kept)
    # Early trials may take as much room again, no more.
    worst = max(core, min(float(np.quantile(all_values, 0.95)), core + (core - best)))
    span = worst - best
    if span <= 0 or all_values.max() < worst + 0.5 * span:
        return 0
    low, high = best - 0.06 * span, worst + 0.12 * span
    ends = sorted([-low, -high] if quality.maximize else [low, high])
    inside = [record for record, value in zip(drawn, all_values, strict=True) if value <= high]
    for panel, (name, logarithmic) in enumerate(panels):
        figure.update_layout({axis("y", panel): {"range": ends}})
        across = [value for record in inside if name and (value := _measured(record, name)) is not None]
        if across and (min(across) > 0 or not logarithmic):
            left, right = (math.log10(end) if logarithmic else end for end in (min(across), max(across)))
            pad = 0.05 * (right - left)
            figure.update_layout({axis("x", panel): {"range": [left - pad, right + pad]}} if pad else {})
    return len(drawn) - len(inside)


def _scaled(objective: Objective, values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values as drawn on the objective's axis, turned so that smaller is better."""
    array = np.asarray(values, dtype=np.float64)
    scaled = np.log10(np.maximum(array, 1e-300)) if objective.logarithmic else array
    return -scaled if objective.maximize else scaled


def history_plot(summary: Summary) -> Plot | None:
    """The quality of each trial in order of their numbers, and the best so far."""
    quality = summary.objectives[0]
    drawn = [record for record in _drawn(summary) if _measured(record, quality.name) is not None]
    if not drawn:
        return None
    figure = blank(360)
    for early in (True, False):
        for family in FAMILY_NAMES:
            records = [
                record
                for record in drawn
                if record.family == family and (_kind(record, [quality.name]) != "complete") == early
            ]
            if not records:
                continue
            group = "early" if early else family
            _legend(figure, group)
            figure.add_scatter(
                x=[record.number for record in records],
                y=[_measured(record, quality.name) for record in records],
                mode="markers",
                marker={
                    "color": COLOURS[family],
                    "symbol": SYMBOLS[family],
                    "size": 7,
                    "opacity": _FADED if early else 0.85,
                },
                legendgroup=group,
                showlegend=False,
                meta={"role": family},
                text=[_short_hover(record, quality) for record in records],
                hovertemplate="%{text}<extra></extra>",
            )
    best = [(point.trial, point.best) for point in summary.history if point.best is not None]
    steps = [step for i, step in enumerate(best) if i in (0, len(best) - 1) or step[1] != best[i - 1][1]]
    if steps:
        figure.add_scatter(
            x=[step[0] for step in steps],
            y=[step[1] for step in steps],
            mode="lines",
            line={"shape": "hv", "width": 1.8, "color": COLOURS["ink"]},
            name="best so far",
            legendrank=4,
            meta={"role": "ink"},
            hoverinfo="skip",
        )
    figure.update_layout(
        xaxis={"title": {"text": "trial"}}, yaxis=_value_axis(drawn, quality.name, quality.logarithmic)
    )
    outside = _frame(figure, summary, drawn, [(None, False)])
    label = short_label(quality.name)
    caption = f"{label[0].upper()}{label[1:]} of every trial; the line is the best so far."
    if outside:
        caption += f" {count(outside, 'weak trial lies', 'weak trials lie')} outside the frame."
    return Plot(
        "history",
        figure,
        caption + _thinned(summary, drawn),
        f"Scatter plot of {quality.label} by trial number, with a line for the best so far.",
    )


def hypervolume_plot(summary: Summary) -> Plot | None:
    """The hypervolume of the front over the epochs spent; None for one objective and while the front is empty."""
    if len(summary.objectives) == 1 or summary.hypervolume is None:
        return None
    points = summary.history
    steps = [
        point
        for i, point in enumerate(points)
        if i in (0, len(points) - 1) or point.hypervolume != points[i - 1].hypervolume
    ]
    figure = blank(300, legend=False)
    figure.add_scatter(
        x=[0, *(step.epochs for step in steps)],
        y=[0.0, *(round(step.hypervolume, 6) for step in steps)],
        mode="lines",
        line={"shape": "hv", "width": 2, "color": COLOURS["ink"]},
        meta={"role": "ink"},
        text=["no trial yet", *(f"after trial {step.trial}" for step in steps)],
        hovertemplate="%{text}<br>%{x:,} epochs<br>hypervolume %{y:.4f}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": {"text": "epochs spent"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "hypervolume"}, "range": [0, 1.02]},
    )
    return Plot(
        "hypervolume",
        figure,
        "How much of the box of all outcomes the front covers, against what had been spent by then. "
        "A line that has long been flat says that more trials would bring little.",
        f"Step line of the hypervolume over epochs spent; it ends at {summary.hypervolume:.3f} after "
        f"{summary.epochs_spent:,} epochs.",
    )


def curves_plot(summary: Summary) -> Plot | None:
    """The validation loss of trials over their epochs; None where none was measured."""
    curves = summary.learning_curves
    if not curves:
        return None
    figure = blank(380)
    looks = {
        "early": {"opacity": _FADED, "width": 1.0},
        "complete": {"opacity": 0.6, "width": 1.2},
        "front": {"opacity": 1.0, "width": 2.6},
    }
    for kind, look in looks.items():
        for family in FAMILY_NAMES:
            mine = [curve for curve in curves if curve.family == family and _curve_kind(curve) == kind]
            if not mine:
                continue
            group = "early" if kind == "early" else family
            _legend(figure, group, mode="lines")
            x, y, text = _joined(mine)
            figure.add_scatter(
                x=x,
                y=y,
                text=text,
                # A curve of one point, pruned at the first epoch, is a dot.
                mode="lines+markers",
                marker={"size": [4 if _alone(x, i) else 0 for i in range(len(x))], "color": COLOURS[family]},
                line={"width": look["width"], "color": COLOURS[family]},
                opacity=look["opacity"],
                legendgroup=group,
                showlegend=False,
                meta={"role": family},
                hovertemplate="%{text}<br>epoch %{x}<br>loss %{y:.4g}<extra></extra>",
            )
    losses = [loss for curve in curves for loss in curve.losses]
    figure.update_layout(
        xaxis={"title": {"text": "epoch"}},
        yaxis={"title": {"text": "validation loss"}, **(_log_axis(losses) if min(losses) > 0 else {})},
    )
    caption = (
        "Validation loss of each trial; thick lines belong to the front, faded ones were not trained to their end."
    )
    if len(curves) < summary.n_curves:
        caption += f" {len(curves):,} of {summary.n_curves:,} curves are drawn, evenly chosen."
    return Plot(
        "curves", figure, caption, f"Line plot of the validation loss by epoch of {count(len(curves), 'trial')}."
    )


def _curve_kind(curve: LearningCurve) -> str:
    if curve.on_front:
        return "front"
    return "complete" if curve.state == "complete" else "early"


def _joined(curves: Iterable[LearningCurve]) -> tuple[list[int | None], list[float | None], list[str]]:
    """Many curves as one trace with gaps."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for curve in curves:
        x += [*curve.epochs, None]
        y += [*(float(f"{loss:.5g}") for loss in curve.losses), None]
        text += [f"trial {curve.trial}"] * (len(curve.epochs) + 1)
    return x, y, text


def _alone(x: Sequence[int | None], i: int) -> bool:
    return x[i] is not None and (i == 0 or x[i - 1] is None) and (i + 1 == len(x) or x[i + 1] is None)


def importances_plot(summary: Summary) -> Plot | None:
    """Bars for each objective; None where there are none."""
    found = {name: shares for name, shares in summary.importances.items() if shares}
    if not found:
        return None
    n_bars = min(MAX_BARS, max(len(shares) for shares in found.values()))
    figure = blank(80 + 60 * len(found) + 28 * n_bars * len(found), legend=False)
    for panel, shares in enumerate(found.values()):
        largest = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:MAX_BARS]
        figure.add_bar(
            **axes(panel),
            x=[share for _, share in largest],
            y=[safe(parameter) for parameter, _ in largest],
            orientation="h",
            marker={"color": COLOURS["mlp"]},
            meta={"role": "bar"},
            text=[f"{share:.2f}" for _, share in largest],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
        figure.update_layout(
            {
                axis("x", panel): {
                    "range": [0, max(1e-9, largest[0][1]) * 1.15],
                    "visible": False,
                    "fixedrange": True,
                },
                axis("y", panel): {"autorange": "reversed", "automargin": True, "fixedrange": True, "showgrid": False},
            }
        )
    titles = [METRICS[name].label if name in METRICS else name for name in found]
    arrange(figure, len(found), columns=1, narrow=1, row_height=40 + 28 * n_bars, titles=titles)
    figure.update_layout(margin={"b": 12})
    return Plot(
        "importances",
        figure,
        "Share of each hyperparameter in the differences between complete trials (PED-ANOVA). It says what mattered "
        "within the space that was searched, not what is best.",
        "Bar charts of hyperparameter importance: "
        + "; ".join(f"{short_label(name)}: {_largest(shares)}" for name, shares in found.items())
        + ".",
    )


def _largest(shares: Mapping[str, float]) -> str:
    largest = sorted(shares.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {share:.2f}" for name, share in largest)


def activation_plots(summary: Summary) -> list[Plot]:
    """The strongest learned activations of the best KAN or hybrid, one figure for each layer."""
    if summary.activations is None:
        return []
    layers: dict[int, list[Curve]] = {}
    for curve in summary.activations.curves:
        layers.setdefault(curve.layer, []).append(curve)
    family = summary.activations.network.family or "kan"
    return [_layer_plot(layer, curves, family) for layer, curves in sorted(layers.items())]


def _layer_plot(layer: int, curves: Sequence[Curve], family: str) -> Plot:
    shown = sorted(curves, key=lambda curve: -curve.amplitude)[:MAX_EDGES]
    figure = blank(200, legend=False)
    for panel, curve in enumerate(shown):
        where = _edge(curve)
        figure.add_scatter(
            **axes(panel),
            x=[float(f"{value:.5g}") for value in curve.x],
            y=[float(f"{value:.5g}") for value in curve.y],
            mode="lines",
            line={"width": 2, "color": COLOURS[family]},
            meta={"role": family},
            hovertemplate=f"{where}<br>in %{{x:.3g}}<br>out %{{y:.3g}}<extra></extra>",
        )
        small = {"nticks": 4, "fixedrange": True, "tickfont": {"size": 11}}
        figure.update_layout(
            {
                axis("x", panel): dict(small),
                axis("y", panel): {**small, "zeroline": True, **({"matches": "y"} if panel else {})},
            }
        )
    titles = [f"{_edge(curve)} · {curve.amplitude:.2g}" for curve in shown]
    columns = min(4, max(2, len(shown)))
    arrange(figure, len(shown), columns=columns, row_height=150, titles=titles, shared_y=True)
    noun = count(len(shown), "learned activation")
    more = "" if len(shown) == len(curves) else f" of {len(curves)} that were kept"
    return Plot(
        f"layer-{layer}",
        figure,
        f"The {noun} of layer {layer + 1}{more}, the strongest first, all on one vertical scale.",
        f"Layer {layer + 1}, {noun}: "
        + "; ".join(f"{_edge(curve)} with amplitude {curve.amplitude:.2g}" for curve in shown)
        + ".",
        f"Layer {layer + 1}",
    )


def _edge(curve: Curve) -> str:
    if curve.source is None:
        return f"node {curve.target + 1}"
    return f"{curve.source + 1} → {curve.target + 1}"


# --- words on marks ---------------------------------------------------------------------------------


def hover_text(record: TrialRecord, summary: Summary) -> str:
    """What a mark says of its trial, in plotly's markup."""
    names = [*summary.study.objectives, *(constraint.metric for constraint in summary.study.constraints)]
    names += [name for name in record.metrics if name in METRICS]
    architecture = textwrap.wrap(describe_architecture(record.params, summary.study), 44)
    lines = [f"<b>trial {record.number}</b> · {safe(family_name(record.family))}"]
    lines += [safe(line) for line in architecture]
    lines += [
        f"{short_label(name)} {format_value(name, _measured(record, name))}"
        for name in dict.fromkeys(names)
        if _measured(record, name) is not None
    ]
    if "learning_rate" in record.params:
        lines.append(f"learning rate {safe(format_param(record.params['learning_rate']))}")
    if record.state != "complete":
        lines.append(f"<i>{_state(record)}</i>")
    elif not record.feasible:
        lines.append("<i>breaks a constraint</i>")
    return "<br>".join(lines)


def _short_hover(record: TrialRecord, quality: Objective) -> str:
    value = format_value(quality.name, _measured(record, quality.name))
    end = "" if record.state == "complete" else f"<br><i>{_state(record)}</i>"
    family = safe(family_name(record.family))
    return f"<b>trial {record.number}</b> · {family}<br>{short_label(quality.name)} {value}{end}"


def _state(record: TrialRecord) -> str:
    return f"{'failed' if record.state == 'fail' else record.state} at epoch {record.epochs}"


def safe(text: str) -> str:
    """A text that plotly shows as it is."""
    return escape(text, quote=False)


# --- ground -----------------------------------------------------------------------------------------


def _measured(record: TrialRecord, name: str) -> float | None:
    """An objective value, or what the last rung measured."""
    return record.values.get(name, record.metrics.get(name))


def _kind(record: TrialRecord, names: Sequence[str]) -> str:
    if record.state != "complete":
        return "early"
    return "complete" if counts_for_front(record, names) else "infeasible"


def _drawn(summary: Summary) -> list[TrialRecord]:
    """The trials that figures show: the front, and the others, thinned where they are too many."""
    kept = {member.trial for member in summary.front}
    kept |= {best.trial for best in (summary.baseline, summary.best_kan, summary.best_hybrid) if best is not None}
    others = [record.number for record in summary.records if record.number not in kept and record.metrics]
    kept |= set(thinned(others, MAX_MARKS))
    return [record for record in summary.records if record.number in kept]


def _thinned(summary: Summary, drawn: Sequence[TrialRecord]) -> str:
    whole = sum(1 for record in summary.records if _measured(record, summary.objectives[0].name) is not None)
    return f" {len(drawn):,} of {whole:,} trials are drawn, evenly chosen." if len(drawn) < whole else ""


def axis(letter: str, panel: int) -> str:
    """The name of a panel's axis in the layout."""
    return f"{letter}axis{panel + 1 if panel else ''}"


def axes(panel: int) -> dict[str, str]:
    """A panel's axes, as a trace names them."""
    suffix = str(panel + 1) if panel else ""
    return {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


def _value_axis(records: Sequence[TrialRecord], name: str, logarithmic: bool) -> dict[str, Any]:
    label = METRICS[name].label if name in METRICS else name
    axis: dict[str, Any] = {"title": {"text": label, "standoff": 12}, "automargin": True}
    if logarithmic:
        axis |= _log_axis([_measured(record, name) for record in records])
    if name in ("parameters", "flops"):
        axis["tickformat"] = "~s"
    return axis


def _log_axis(values: Iterable[float | None]) -> dict[str, Any]:
    """A logarithmic axis whose ticks do not run into each other: 1, 2, 5 over few decades, else 1 and 10."""
    logs = [math.log10(value) for value in values if value is not None and value > 0]
    span = max(logs) - min(logs) if logs else 0.0
    ticks: dict[str, Any] = {} if span < 0.4 else {"dtick": "D2"} if span < 3 else {"dtick": 1}
    return {"type": "log", "tickformat": "~g", **ticks}


def blank(height: int, *, legend: bool = True) -> go.Figure:
    """A figure of the report's look with nothing in it yet."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 16, "t": 24, "b": 56},
        yaxis={"automargin": True, "title": {"standoff": 12}},
        xaxis={"automargin": True, "title": {"standoff": 10}},
        font={"family": "system-ui, sans-serif", "size": 13, "color": COLOURS["ink"]},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        hovermode="closest",
        hoverlabel={"align": "left"},
    )
    return figure


def arrange(
    figure: go.Figure,
    n_panels: int,
    *,
    columns: int,
    row_height: int,
    narrow: int | None = None,
    titles: Sequence[str] = (),
    shared_y: bool = False,
) -> None:
    """Place panels in rows; `report.js` does the same again for other widths of the page.

    Args:
        figure: Whose axes are numbered like the panels.
        n_panels: Number of panels.
        columns: On a wide page.
        row_height: Of a panel with its title and axis labels, in pixels.
        narrow: Columns on a narrow page; left out: half as many.
        titles: Of the panels.
        shared_y: Only the first panel of a row labels its vertical axis.
    """
    n_rows = -(-n_panels // columns)
    margin = {"t": 34, "b": 44}
    inner = n_rows * row_height
    gap_x, gap_y = (0.05 if shared_y else 0.16), (62 if titles else 76)
    for panel in range(n_panels):
        row, column = divmod(panel, columns)
        width = (1 - gap_x * (columns - 1)) / columns
        left = column * (width + gap_x)
        height = (1 - gap_y * (n_rows - 1) / inner) / n_rows
        top = 1 - row * (height + gap_y / inner)
        figure.update_layout(
            {
                axis("x", panel): {"domain": [left, left + width], "anchor": f"y{panel + 1 if panel else ''}"},
                axis("y", panel): {
                    "domain": [max(0.0, top - height), top],
                    "anchor": f"x{panel + 1 if panel else ''}",
                    "showticklabels": not shared_y or column == 0,
                },
            }
        )
        if titles:
            figure.add_annotation(
                text=safe(titles[panel]),
                x=left,
                y=top,
                xref="paper",
                yref="paper",
                xanchor="left",
                yanchor="bottom",
                showarrow=False,
            )
    figure.update_layout(height=inner + margin["t"] + margin["b"], margin=margin)
    figure.update_layout(
        meta={
            "panels": n_panels,
            "columns": columns,
            "narrow": narrow or max(1, columns // 2),
            "row": row_height,
            "gapX": gap_x,
            "gapY": gap_y,  # pixels
            "sharedY": shared_y,
        }
    )
