"""What the pages have in common: templates, figures, and a policy under which nothing is ever fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from kansearch.report.architecture import family_name
from kansearch.report.figures import Plot

GLYPHS = {"mlp": "●", "kan": "◆", "hybrid": "■"}


@dataclass(frozen=True)
class Figure:
    """A plot as the template takes it."""

    name: str
    json: Markup
    caption: str
    description: str
    title: str


def page(name: str, now: datetime, **values: Any) -> str:
    """A page that asks no server for anything.

    Args:
        name: Of its template, which may take the macros of `macros.html`.
        now: When it is written.
        values: What the template asks for beyond the frame.
    """
    plotly_js, report_js = get_plotlyjs().replace("\r\n", "\n"), asset("report.js")
    text = _template(name).render(
        written=now.strftime("%d %B %Y, %H:%M %Z").strip(),
        css=Markup(asset("report.css")),  # noqa: S704 - our own file
        plotly_js=Markup(plotly_js),  # noqa: S704 - plotly's file, which holds no </script>
        report_js=Markup(report_js),  # noqa: S704 - our own file
        policy=_policy(plotly_js, report_js),
        **values,
    )
    return text + "\n"


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FunctionLoader(asset)
    )
    environment.filters["code"] = _code
    environment.globals |= {"family_name": family_name, "glyphs": GLYPHS}
    return environment.get_template(name)


def _policy(*scripts: str) -> str:
    """A content security policy under which only these scripts run and nothing is ever fetched."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Plotly sets styles of its own, and saves pictures through data: and blob: addresses.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _code(text: str) -> Markup:
    """A sentence with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped first


def asset(name: str) -> str:
    """A file of this folder."""
    return resources.files("kansearch.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def figure(plot: Plot | None) -> Figure | None:
    """A plot with its numbers as text."""
    if plot is None:
        return None
    # Inside a script element only "<" could end it.
    text = str(plot.figure.to_json()).replace("<", "\\u003c")
    return Figure(plot.name, Markup(text), plot.caption, plot.description, plot.title)  # noqa: S704 - JSON without "<"
