"""The files of a report: complete, escaped, never half written."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kansearch.errors import UserError
from kansearch.report.figures import activation_plots, curves_plot, front_plot, history_plot, hypervolume_plot
from kansearch.report.json_export import to_json
from kansearch.report.page import to_html
from kansearch.report.render import check_writable, write_report
from kansearch.specs.columns import Column
from kansearch.specs.constant import ConstantAnswer

COLUMNS = (
    Column(
        name="price", kind="number", role="target", gaps=2, distinct=1203, form="1.234,5", unit="€", done="predicted"
    ),
    Column(name="<b>day</b>", kind="date", role="input", gaps=0, distinct=31, form="%d.%m.%Y", done="days since 1970"),
    Column(name="id", kind="text", role="left out", gaps=0, distinct=1205, done="left out (data.ignore)"),
)
NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
CONSTANT = ConstantAnswer(metrics={"accuracy": 0.101, "cross_entropy": 2.301}, n_validation=287)
STUDIES = {
    "one": ["accuracy"],
    "two": ["accuracy", "parameters"],
    "no cost": ["accuracy", "cross_entropy"],
    "three": ["rmse", "parameters", "latency_ms"],
    "four": ["rmse", "r2", "parameters", "flops"],
}


def without_scripts(page: str) -> str:
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("objectives", STUDIES.values(), ids=STUDIES)
def test_report_of_any_number_of_objectives(builder: Any, objectives: list[str]) -> None:
    """One to four objectives, with and without costs, have a page with every objective in its table."""
    summary = builder.summary(builder.study(objectives))
    page = to_html(summary, NOW)
    assert summary.front[0].architecture in page
    json.dumps(to_json(summary, NOW), allow_nan=False)
    assert front_plot(summary) is not None
    assert (hypervolume_plot(summary) is None) == (len(objectives) == 1)


def test_report_without_any_trial(builder: Any) -> None:
    """A study that has not begun has a report, without figures and without scripts."""
    page = to_html(builder.summary(records=[], importances={}), NOW)
    assert "No trial is complete yet." in page
    assert "No trial has measured accuracy yet." in page
    assert "<script" not in page


def test_report_without_a_complete_trial(builder: Any) -> None:
    """Pruned trials are drawn even while none is complete."""
    study = builder.study()
    records = [record for record in builder.records(study, 12) if record.state != "complete"]
    summary = builder.summary(study, records)
    assert summary.hypervolume is None
    assert front_plot(summary) is not None
    assert history_plot(summary) is not None
    assert "No trial is complete yet: " in to_html(summary, NOW)


def test_report_without_any_kan(builder: Any) -> None:
    """A study of plain networks has no learned activations and no empty section for them."""
    summary = builder.summary(builder.study(families=["mlp"]))
    assert summary.activations is None
    assert activation_plots(summary) == []
    assert "Learned activations" not in to_html(summary, NOW)


def test_report_of_trials_that_measured_nothing_yet(builder: Any) -> None:
    """Running and waiting trials without a rung have no figures."""
    records = [builder.record(0), builder.record(1, state="waiting"), builder.record(2, family=None, params={})]
    summary = builder.summary(records=records)
    assert front_plot(summary) is curves_plot(summary) is None
    assert "2 trials are running and 1 trial is waiting" in to_html(summary, NOW)


def test_json_is_as_approved(builder: Any, golden: Callable[[str, str], None]) -> None:
    """The whole JSON document of a small study is the one that a person has read."""
    study = builder.study(constraints=("parameters <= 100000",))
    summary = builder.summary(
        study, builder.records(study, 14), warnings=["a warning"], constant=CONSTANT, columns=COLUMNS
    )
    golden("report.json", json.dumps(to_json(summary, NOW), indent=1, ensure_ascii=False) + "\n")


def test_texts_of_the_page_are_as_approved(builder: Any, golden: Callable[[str, str], None]) -> None:
    """What the page says about a small study, line by line, is what a person has read."""
    study = builder.study()
    summary = builder.summary(
        study, builder.records(study, 14), warnings=["a warning"], constant=CONSTANT, columns=COLUMNS
    )
    page = to_html(summary, NOW)
    golden("report.txt", text_of(page))


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self.skipped = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.skipped += tag in ("script", "style")
        if tag in ("td", "th", "dd"):
            self.lines[-1] += " | " if self.lines[-1] else ""
        elif tag not in ("span", "code", "summary"):
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self.skipped -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.lines[-1] += data if data.strip() else " " if self.lines[-1][-1:].isalnum() else ""


def text_of(page: str) -> str:
    parser = _Text()
    parser.feed(page)
    lines = [line.rstrip() for block in parser.lines for line in block.splitlines()]
    return "\n".join(line for line in lines if line.strip()) + "\n"


def test_foreign_text_stays_text(builder: Any, tmp_path: Path) -> None:
    """Names, reasons and parameters with markup in them are shown, not obeyed."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    value = {"accuracy": 0.9, "parameters": 10.0, evil: 1.0}
    records = [
        builder.record(
            0, {"accuracy": 0.9, "parameters": 10.0}, metrics=value, params={"family": "kan", "layer": evil}
        ),
        builder.record(1, state="fail", reason=evil),
        builder.record(2, {"accuracy": 0.8, "parameters": 20.0}, params={evil: evil}, curves=builder.curves(2, 4, 0)),
    ]
    columns = [Column(name=evil, kind="text", role="left out", gaps=0, distinct=1, done=evil)]
    summary = builder.summary(
        records=records,
        data=evil,
        warnings=[evil],
        columns=columns,
        versions={evil: evil},
        importances={"accuracy": {evil: 1.0}},
    )
    page = write_report(summary, tmp_path, NOW).read_text(encoding="utf-8")
    assert evil not in page
    assert "<img" not in without_scripts(page)
    assert without_scripts(page).count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    scripts = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.DOTALL)
    assert scripts
    assert all("<" not in script and json.loads(script) for script in scripts)
    # Plotly reads markup in texts of its figures, so there it is escaped once more.
    assert evil not in json.dumps([json.loads(script) for script in scripts])


def test_page_forbids_everything_but_its_own_scripts(builder: Any) -> None:
    """The page loads nothing: no address in it is fetched, and its policy allows two scripts by their digest."""
    page = to_html(builder.summary(), NOW)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert policy[1].count("sha256-") == 2
    assert "unsafe-eval" not in policy[1]
    rest = without_scripts(page)
    assert not re.search(r'(src|href|action)="(?!#|data:)', rest)
    assert "url(" not in rest
    assert "@import" not in rest


def test_page_is_structured_for_screen_readers(builder: Any) -> None:
    """Every figure is described, every table has a caption and headers with a scope, headings do not skip a level."""
    page = without_scripts(to_html(builder.summary(), NOW))
    assert page.count('role="img" aria-label="') == page.count("<figure>") > 5
    assert page.count("<caption>") == page.count("<table>") > 3
    assert "<th>" not in page
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_csv_has_a_row_for_each_trial(builder: Any, tmp_path: Path) -> None:
    """Every trial is a row of RFC 4180 with its values, metrics and hyperparameters in columns of their own."""
    summary = builder.summary()
    write_report(summary, tmp_path, NOW)
    text = (tmp_path / "trials.csv").read_bytes().decode()
    assert text.count("\r\n") == len(summary.records) + 1
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    best = max(summary.front, key=lambda member: member.values["accuracy"])
    row = rows[best.trial]
    assert (row["trial"], row["state"], row["on_front"]) == (str(best.trial), "complete", "true")
    assert float(row["value.accuracy"]) == best.values["accuracy"]
    assert int(row["param.width"]) == best.params["width"]
    assert "host/1" not in text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://a.example")'])
def test_csv_holds_no_formulas(builder: Any, tmp_path: Path, text: str) -> None:
    """A text that a spreadsheet would run as a formula gets an apostrophe; numbers below 0 stay numbers."""
    records = [builder.record(0, state="fail", reason=text, metrics={"r2": -0.5}, params={text: text})]
    write_report(builder.summary(records=records), tmp_path, NOW)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_bytes().decode(), newline=""))
    assert row["reason"] == f"'{text}"
    assert row[f"param.{text}"] == f"'{text}"
    assert row["metric.r2"] == "-0.5"


def test_report_is_the_same_every_time(builder: Any, tmp_path: Path) -> None:
    """The same numbers at the same time give the same bytes."""
    for name in ("a", "b"):
        write_report(builder.summary(), tmp_path / name, NOW)
    for file in ("report.html", "report.json", "trials.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_full_disk_leaves_the_old_report(builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a file cannot be written whole, the old files stay as they were and nothing half written is left."""
    write_report(builder.summary(records=[]), tmp_path, NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"report.html", "report.json", "trials.csv"}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot be written to .*: No space left on device; name another folder"):
        write_report(builder.summary(), tmp_path, NOW)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_unwritable_folder_is_named_early(tmp_path: Path) -> None:
    """A folder that cannot be written is refused before any work is done, with the folder and the reason."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"the report cannot be written to {re.escape(str(folder))}: ") as error:
            check_writable(folder)
        assert error.value.exit_code == 2
    check_writable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing may be left of the look"


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [STUDIES["two"], STUDIES["four"]], ids=["two", "four"])
def test_large_studies_stay_quick_and_small(builder: Any, tmp_path: Path, objectives: list[str]) -> None:
    """10,000 trials take less than 10 seconds and a page of less than 12 MB."""
    study = builder.study(objectives)
    records = builder.records(study, 10_000)
    start = time.perf_counter()
    path = write_report(builder.summary(study, records), tmp_path, NOW)
    assert time.perf_counter() - start < 10
    assert path.stat().st_size < 12_000_000
