"""What reviewers see in the dashboard beside what it shows of any study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest

from kansearch.report.progress import front_of, objectives_of
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.browsers import PATIENCE_MS
from tests.conftest import missing
from tests.servers import MissingPartError, Postgres

from .conftest import STUDY, searched
from .serving import Served, dashboard


@pytest.fixture(scope="module")
def study(folder: Path) -> StoredStudy:
    return load_study(open_storage(f"sqlite:///{folder / 'kansearch.db'}", read_only=True), "shown")


@pytest.fixture(scope="module")
def answer(shown: Served) -> Any:
    """All that the dashboard knows of the study."""
    return shown.ask("/api/studies/1").json


def test_the_best_trials_are_our_front(answer: Any, study: StoredStudy) -> None:
    """A trial that breaks a constraint is none of the best, and shows by how much it does."""
    records = read_records(study)
    front = front_of(records, objectives_of(study.spec.objectives, records))
    assert [trial["number"] for trial in answer["best_trials"]] == sorted(record.number for record in front)
    complete = [record for record in records if record.state == "complete"]
    assert {record.feasible for record in complete} == {True, False}
    for record in complete:
        violations = answer["trials"][record.number]["constraints"]
        assert len(violations) == 2
        assert all(violation <= 0 for violation in violations) == record.feasible


def test_every_trial_says_what_it_is_and_why_it_ended(answer: Any, study: StoredStudy) -> None:
    """In its attributes, by which tables are sorted, and in a note; what workers note for themselves is not shown."""
    for record in read_records(study):
        trial = answer["trials"][record.number]
        attributes = {row["key"]: row["value"] for row in trial["user_attrs"]}
        assert str(record.params["width"]) in attributes["architecture"]
        assert attributes["end"].startswith(f"{record.state} after {record.epochs} epoch")
        assert float(attributes["rmse"]) == pytest.approx(record.metrics["rmse"])
        assert attributes["architecture"] in trial["note"]["body"]
        assert attributes["end"] in trial["note"]["body"]
    assert {row["key"]: row["sortable"] for row in answer["union_user_attrs"]}.items() >= {
        "architecture": False, "end": False, "epochs": True, "rmse": True,
    }.items()  # fmt: skip
    assert "kansearch:" not in json.dumps(answer)


def test_figures_show_the_front_the_curves_and_what_was_learned(answer: Any) -> None:
    """As figures that were saved with the study, each with a title and something in it."""
    figures = {figure["id"]: json.loads(figure["graph_object"]) for figure in answer["plotly_graph_objects"]}
    assert {"kansearch-front", "kansearch-curves", "kansearch-hypervolume"} <= figures.keys()
    assert any(name.startswith("kansearch-layer-") for name in figures)
    for figure in figures.values():
        assert figure["layout"]["title"]["text"]
        assert any(len(trace["x"]) > 1 for trace in figure["data"])


def test_a_poll_brings_what_is_new_and_the_front(shown: Served, answer: Any) -> None:
    """A page that has all trials asks for none of them, and gets the figures and the best ones all the same."""
    poll = shown.ask("/api/studies/1?after=24").json
    assert poll["trials"] == []
    assert poll["best_trials"] == answer["best_trials"]
    assert poll["union_user_attrs"] == answer["union_user_attrs"]
    assert len(poll["plotly_graph_objects"]) == len(answer["plotly_graph_objects"])


def test_a_page_that_outlived_its_dashboard_gets_the_whole_front(folder: Path, answer: Any) -> None:
    """From a new dashboard, which has never sent it a trial."""
    with dashboard(folder) as served:
        served.enter()
        poll = served.ask("/api/studies/1?after=24").json
    assert poll["best_trials"] == answer["best_trials"]


def test_the_note_of_the_study_leads_to_its_report(shown: Served, answer: Any) -> None:
    """With the verdict, what must stand beside it, and the page that `kansearch report` writes."""
    note = answer["note"]["body"]
    assert "on the front" in note
    assert "One seed was used" in note
    page = shown.ask(re.search(r"\]\((/report/1)\)", note)[1])  # type: ignore[index]
    assert page.status == 200
    assert "<h1" in page.text
    assert shown.ask("/report/99").status == 404


def test_studies_of_others_are_shown_as_they_are(tmp_path: Path) -> None:
    """In a storage that kansearch shares with scripts, a study of theirs has no review and no harm."""
    searched(tmp_path, STUDY.replace("trials: 24", "trials: 2")).storage.close()
    theirs = optuna.create_study(study_name="theirs", storage=f"sqlite:///{tmp_path / 'kansearch.db'}")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with dashboard(tmp_path) as served:
        served.enter()
        answer = served.ask("/api/studies/2").json
        assert [trial["number"] for trial in answer["trials"]] == [0, 1]
        assert answer["plotly_graph_objects"] == []
        assert served.ask("/api/studies/1").json["plotly_graph_objects"]


def test_a_study_without_a_front_is_shown(tmp_path: Path) -> None:
    """Nothing complete, or nothing that meets the constraints, and one objective: what there is is shown."""
    one = STUDY.replace("[rmse, parameters]", "[rmse]").replace("r2 >= -0.2", "r2 >= 0.9999")
    searched(tmp_path, one.replace("trials: 24", "trials: 3")).storage.close()
    with dashboard(tmp_path) as served:
        served.enter()
        answer = served.ask("/api/studies/1")
        assert answer.status == 200
        assert answer.json["best_trials"] == []
        assert "constraint" in answer.json["note"]["body"]


def test_a_database_that_goes_away_is_said_and_waited_for(tmp_path: Path) -> None:
    """A page gets one line while it is away, the terminal one at its beginning and one at its end."""
    try:
        server = Postgres()
    except MissingPartError as error:
        missing("postgres", str(error))
    with server:
        url = server.new_database()
        optuna.create_study(study_name="theirs", storage=url.replace("postgresql:", "postgresql+psycopg:"))
        with dashboard(tmp_path, KANSEARCH_STORAGE=url) as served:
            served.enter()
            assert served.ask("/api/studies").status == 200
            server.kill()
            for _ in range(2):
                answer = served.ask("/api/studies")
                assert answer.status == 503
                assert answer.json["reason"].startswith("the storage failed: ")
            server.start()
            assert served.ask("/api/studies").status == 200
            errors = served.words.read()
    assert [line.partition(":")[0] for line in errors.splitlines()] == [
        "the storage failed",
        "the storage answers again",
    ]


@pytest.mark.browser
def test_a_browser_shows_curves_and_activations_and_asks_nobody_else(shown: Served, chromium: Any) -> None:
    """Of a study with two objectives, from the printed address, without a complaint in its console."""
    requests: list[str] = []
    complaints: list[str] = []
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(shown.address)
    page.get_by_text("shown").first.click()
    for figure in ("kansearch-front", "kansearch-curves", "kansearch-layer-0"):
        lines = page.locator(f"[id='user-defined-plot:{figure}'] .scatterlayer .trace")
        lines.first.wait_for(state="attached", timeout=PATIENCE_MS)
    page.goto(f"http://{shown.host}/dashboard/studies/1/trials?numbers=0")
    page.get_by_text("after", exact=False).first.wait_for(timeout=PATIENCE_MS)
    page.close()
    assert complaints == []
    assert all(url.startswith((f"http://{shown.host}/", "data:", "blob:")) for url in requests)


@pytest.mark.browser
def test_a_browser_deletes_a_study(tmp_path: Path, chromium: Any) -> None:
    """And its page takes our answer for what it is: the study leaves the list, and nothing is complained about."""
    searched(tmp_path, STUDY.replace("trials: 24", "trials: 1")).storage.close()
    with dashboard(tmp_path, "--writable") as served:
        complaints: list[str] = []
        page = chromium.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(served.address)
        page.get_by_label("delete study").click(timeout=PATIENCE_MS)
        page.get_by_role("button", name="Yes").click(timeout=PATIENCE_MS)
        page.get_by_text("1. shown").wait_for(state="detached", timeout=PATIENCE_MS)
        page.close()
    assert complaints == []
