"""What an answer that is the same for every row has, beside what networks have: on the terminal and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tests.commands import run_in

STUDY = """
data: {path: t.csv, target: y, task: classification}
objectives: [accuracy, parameters]
constraints: [roc_auc >= 0.01]
space: {family: [mlp, kan], width: [2, 3], learning_rate: 0.05}
budget: {trials: 2, epochs: 4}
search: {pruner: none}
"""


def test_a_front_of_constant_answers_is_no_success(tmp_path: Path) -> None:
    """Case 09: 97 of 100 rows are alike, inputs are noise, and 0.967 is no success: whoever shows it says so."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {"a": random.random(300), "b": random.random(300), "y": np.repeat(["fine", "fraud"], [290, 10])}
    )
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "rare.yaml").write_text(STUDY)
    for command in (("submit", "rare.yaml"), ("worker", "rare"), ("report", "rare")):
        done = run_in(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    status = run_in(tmp_path, "status", "rare").stdout
    assert "better than a constant answer, which is the same for every row and has accuracy 0.9667" in status
    row = next(line.split() for line in status.splitlines() if "constant answer" in line)
    assert row[1:4] == ["constant", "answer", "0.9667"]
    report = json.loads((tmp_path / "reports/rare/report.json").read_text())
    assert [round(objective["constant"] or 0, 4) for objective in report["objectives"]] == [0.9667, 0]
    assert report["constant_answer"]["is_beaten"] is False
    assert report["constant_answer"]["metrics"]["balanced_accuracy"] == 0.5
    assert "than a constant answer" in report["finding"]
    page = (tmp_path / "reports/rare/report.html").read_text()
    assert "a constant answer 0.9667" in page
    assert '<tfoot><tr><td class="number">\N{EN DASH}</td><th scope="row">constant answer</th>' in page
    exported = run_in(tmp_path, "export", "rare").stdout
    assert "a constant answer has 0.9667" in exported


def test_what_looks_wrong_is_said_before_a_search(tmp_path: Path) -> None:
    """Cases 08 and 27: the warning of a random split is printed, stays with the study, and stands in its report."""
    random = np.random.default_rng(0)
    when = pd.date_range("2023-01-01", periods=120, freq="min")
    pd.DataFrame({"when": when, "x": random.normal(size=120), "y": np.repeat(["a", "b"], 60)}).to_csv(
        tmp_path / "t.csv", index=False
    )
    (tmp_path / "timed.yaml").write_text(STUDY.replace("task: c", "ignore: [when], task: c"))
    for command in (("submit", "timed.yaml"), ("status", "timed")):
        assert 'warning: data: the rows are sorted by the times in "when"' in run_in(tmp_path, *command).stdout
    run_in(tmp_path, "report", "timed")
    assert "data.order: when" in json.loads((tmp_path / "reports/timed/report.json").read_text())["warnings"][0]
