"""The page of `kansearch explain`: what one network has learned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go

from kansearch.report import html
from kansearch.report.figures import COLOURS, Plot, arrange, axes, axis, blank, safe
from kansearch.report.words import NONE, count, format_value, percent, short_label
from kansearch.specs.explanation import Explanation, LearnedEdge
from kansearch.specs.metrics import METRICS, Direction

MAX_INPUTS = 20
COLUMNS = 3


def explanation_html(explanation: Explanation, now: datetime) -> str:
    """The page, which asks no server for anything.

    Args:
        explanation: Of a trial's network.
        now: When it is written.
    """
    plots = {
        "inputs": html.figure(_inputs_plot(explanation)),
        "edges": html.figure(_edges_plot(explanation)),
        "sparser": html.figure(_sparser_plot(explanation)),
    }
    return html.page(
        "explanation.html",
        now,
        explanation=explanation,
        finding=finding(explanation),
        again=again(explanation),
        plots=plots,
        layers=[
            (layer.index + 1, layer.kind, layer.n_curves or NONE, layer.n_silent if layer.n_curves else NONE)
            for layer in explanation.layers
        ],
        formulas=[_formula_row(edge) for edge in explanation.edges],
        sparser=[
            (step.n_curves, *(format_value(name, step.metrics.get(name)) for name in explanation.qualities))
            for step in explanation.sparser
        ],
        qualities=[short_label(name) for name in explanation.qualities],
    )


def finding(explanation: Explanation) -> str:
    """The whole in one or two sentences."""
    total = explanation.sparser[0].n_curves
    name = explanation.quality
    close = [step for step in explanation.sparser if _is_close(explanation, step.metrics.get(name))]
    text = f"{count(total, 'learned curve')}, of which "
    if close and close[-1].n_curves < total:
        value = format_value(name, close[-1].metrics[name])
        n_left = close[-1].n_curves
        few = (
            "most important one alone still reaches" if n_left == 1 else f"{n_left:,} most important alone still reach"
        )
        text += f"the {few} {short_label(name)} {value} without training."
    else:
        text += "none can be left out without loss."
    if explanation.inputs:
        top = list(explanation.inputs.items())[:3]
        text += " The most important inputs: " + ", ".join(f"{key} ({share:.1%})" for key, share in top) + "."
    return text


def _is_close(explanation: Explanation, value: float | None) -> bool:
    """Within one point, or within a tenth of an error."""
    whole = explanation.sparser[0].metrics.get(explanation.quality)
    if whole is None or value is None:
        return False
    metric = METRICS[explanation.quality]
    if metric.direction is Direction.MAXIMIZE:
        return whole - value <= 0.01
    return value - whole <= 0.1 * abs(whole)


def again(explanation: Explanation) -> str:
    """Whether today's network is the one that was recorded."""
    if explanation.is_the_same:
        return "Trained again from its seed, the network has the metrics that were recorded."
    name = explanation.quality
    recorded, measured = (format_value(name, m.get(name)) for m in (explanation.recorded, explanation.measured))
    how = "in its last digits" if recorded == measured else f": {short_label(name)} was {recorded} and is {measured}"
    return (
        f"Trained again from its seed on this machine, the network differs{'' if how[0] == ':' else ' '}{how}. Another "
        "kind of CPU, a GPU or other versions sum up in another order."
    )


def edge_name(edge: LearnedEdge) -> str:
    """For people: layer 1, 3 → 2."""
    where = f"node {edge.target + 1}" if edge.source is None else f"{edge.source + 1} → {edge.target + 1}"
    return f"layer {edge.layer + 1}, {where}"


def _formula_row(edge: LearnedEdge) -> Sequence[str]:
    row = [edge_name(edge), percent(edge.importance), f"{edge.deviation:.3g}"]
    if edge.formula is None:
        return [*row, "none follows it", NONE, NONE]
    others = ", ".join(f"{other.name} ({other.r2:.3f})" for other in edge.others) or NONE
    return [*row, edge.formula.text, f"{edge.formula.r2:.4f}", others]


def _inputs_plot(explanation: Explanation) -> Plot | None:
    if not explanation.inputs:
        return None
    shown = list(explanation.inputs.items())[:MAX_INPUTS]
    figure = blank(60 + 26 * len(shown), legend=False)
    figure.add_bar(
        x=[share for _, share in shown],
        y=[safe(name) for name, _ in shown],
        orientation="h",
        marker={"color": COLOURS["mlp"]},
        meta={"role": "bar"},
        text=[f"{share:.1%}" for _, share in shown],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"visible": False, "fixedrange": True, "range": [0, 1.15 * shown[0][1]]},
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "showgrid": False},
        margin={"b": 12},
    )
    more = "" if len(shown) == len(explanation.inputs) else f", the first {len(shown)} of {len(explanation.inputs)}"
    return Plot(
        "inputs",
        figure,
        f"Share of the output that goes through each input{more}.",
        "Bar chart of input importance: " + ", ".join(f"{name} {share:.2f}" for name, share in shown[:5]) + ".",
    )


def _edges_plot(explanation: Explanation) -> Plot:
    figure = blank(200, legend=False)
    for panel, edge in enumerate(explanation.edges):
        _draw_edge(figure, panel, edge, explanation.family)
    titles = [f"{edge_name(edge)} · {percent(edge.importance)}" for edge in explanation.edges]
    arrange(figure, len(titles), columns=min(COLUMNS, max(2, len(titles))), row_height=150, titles=titles)
    return Plot(
        "edges",
        figure,
        "The most important learned curves, and their share of the output. The grey area shows where the training data "
        "lie; beyond it a curve is a guess.",
        "Curves: " + "; ".join(titles) + ".",
    )


def _draw_edge(figure: go.Figure, panel: int, edge: LearnedEdge, family: str) -> None:
    low, high = min(edge.y), max(edge.y)
    height = (high - low) or 1.0
    where = axes(panel)
    shaded = [low + height * share for share in edge.density]
    for heights, fill in (([low] * len(shaded), None), (shaded, "tonexty")):
        figure.add_scatter(
            **where,
            x=list(edge.x),
            y=heights,
            mode="lines",
            line={"width": 0},
            fill=fill,
            fillcolor="rgba(128, 132, 140, 0.28)",
            hoverinfo="skip",
        )
    figure.add_scatter(
        **where,
        x=list(edge.x),
        y=list(edge.y),
        mode="lines",
        line={"width": 2, "color": COLOURS[family]},
        meta={"role": family},
        hovertemplate="in %{x:.3g}<br>out %{y:.3g}<extra></extra>",
    )
    small = {"nticks": 4, "fixedrange": True, "tickfont": {"size": 11}}
    figure.update_layout({axis("x", panel): dict(small), axis("y", panel): dict(small)})


def _sparser_plot(explanation: Explanation) -> Plot:
    name = explanation.quality
    steps = [step for step in explanation.sparser if name in step.metrics]
    figure = blank(300, legend=False)
    figure.add_scatter(
        x=[step.n_curves for step in steps],
        y=[step.metrics[name] for step in steps],
        mode="lines+markers",
        line={"width": 2, "color": COLOURS[explanation.family]},
        meta={"role": explanation.family},
        hovertemplate="%{x} curves: %{y:.4g}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": {"text": "curves that are left"}, "type": "log"}, yaxis={"title": {"text": short_label(name)}}
    )
    return Plot(
        "sparser",
        figure,
        "The network when only its most important curves are left and each other one is replaced by its mean, without "
        "training.",
        "Quality against curves left: "
        + ", ".join(f"{step.n_curves}: {step.metrics[name]:.3g}" for step in steps)
        + ".",
    )
