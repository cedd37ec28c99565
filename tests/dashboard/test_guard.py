"""Whom the dashboard lets in, from where, and what they may change."""

from __future__ import annotations

import base64
import signal
from pathlib import Path
from typing import Any

import pytest

from kansearch.storage.deletion import delete_study
from kansearch.storage.studies import load_study, study_names
from kansearch.storage.url import open_storage
from tests.commands import run_in
from tests.servers import free_port

from .conftest import PASSWORD, STUDY, basic, searched
from .serving import Served, dashboard

NOTE = {"version": 1, "body": "worth a look"}


def test_the_printed_address_opens_it_and_nothing_else_does(shown: Served) -> None:
    """The token of the address becomes a cookie that no script reads and no other site sends; without it, nothing."""
    answer = shown.enter()
    assert (answer.status, answer.headers["Location"]) == (303, "/dashboard")
    assert "HttpOnly; SameSite=Strict" in answer.headers["Set-Cookie"]
    assert shown.ask("/dashboard").status == 200
    for path in ("/dashboard", "/api/studies", "/api/studies/1", "/csv/1", "/static/bundle.js", "/report/1", "/"):
        anonymous = shown.ask(path, Cookie="")
        assert anonymous.status == 401, path
        assert "kansearch dashboard` printed" in anonymous.text
    assert shown.ask("/dashboard?token=guessed", Cookie="").status == 401
    assert shown.ask("/dashboard", Cookie=shown.login["Cookie"] + "x").status == 401
    assert shown.ask("/dashboard", Cookie="kansearch=a; b[]=;;{").status == 401
    assert shown.ask("/healthz", Cookie="").text == "well\n"


@pytest.mark.parametrize("given", ["", basic("ada", "wrong"), basic("eve", PASSWORD["KANSEARCH_DASHBOARD_PASSWORD"]),
                                   "Basic ä", "Basic", "Bearer x"])  # fmt: skip
def test_a_password_is_asked_for(writable: Served, given: str) -> None:
    """Nobody gets in without the right user and the right password; a browser is told to ask for them."""
    answer = writable.ask("/api/studies", Authorization=given)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert writable.ask("/api/studies").status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1", "[", ""])
def test_a_foreign_host_is_refused(shown: Served, host: str) -> None:
    """A page whose name was made to point at this machine sees nothing, even from a browser that was let in."""
    answer = shown.ask("/api/studies", Host=host.format(port=shown.host.partition(":")[2]) or "-")
    assert answer.status in (400, 421)
    assert "shown" not in answer.text


def test_names_of_this_machine_are_ours(shown: Served) -> None:
    """It answers under every name of the loopback."""
    port = shown.host.partition(":")[2]
    assert shown.ask("/api/studies", Host=f"localhost:{port}").status == 200
    assert shown.ask("/api/studies", Host=f"LOCALHOST:{port}").status == 200
    assert shown.ask("/api/studies", Host=f"[::1]:{port}").status == 200


UPLOAD = ("/api/artifacts/1", "POST", {"file": "data:text/plain;base64,eA==", "filename": "x.txt"})
CHANGES = [
    ("PUT", "/api/studies/1/note", NOTE),
    ("DELETE", "/api/studies/1", None),
    (UPLOAD[1], UPLOAD[0], UPLOAD[2]),
]
OTHERS = [
    ("POST", "/api/studies", {"study_name": "new", "directions": ["minimize"]}),
    ("POST", "/api/studies/1/rename", {"study_name": "new"}),
    ("POST", "/api/trials/1/tell", {"state": "Fail"}),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"a": 1}}),
    ("POST", "/incompatible-rdb-schema", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES + OTHERS)
def test_who_only_looks_changes_nothing(shown: Served, method: str, path: str, body: Any) -> None:
    """Without --writable every change is refused, and says what it would take."""
    before = shown.ask("/api/studies/1").json["note"]
    answer = shown.ask(path, method, body)
    assert answer.status == 403
    assert "--writable" in answer.text
    assert shown.ask("/api/studies/1").json["note"] == before


@pytest.mark.parametrize(("method", "path", "body"), OTHERS)
def test_what_would_spoil_a_study_is_refused_to_all(writable: Served, method: str, path: str, body: Any) -> None:
    """A study is made by its file and a trial by its worker: nobody renames the one or ends the other here."""
    answer = writable.ask(path, method, body)
    assert answer.status == 403
    assert "only notes, artifacts and whole studies" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_pages_of_other_sites_change_nothing(
    writable: Served, headers: dict[str, str], method: str, path: str, body: Any
) -> None:
    """A browser that was let in sends its login with what a foreign page asks it to send: that is refused."""
    answer = writable.ask(path, method, body, **headers)
    assert answer.status == 403
    assert "another site" in answer.text
    assert writable.ask("/api/studies/1").status == 200


@pytest.mark.parametrize(
    "path", ["/artifacts/1/../../kansearch.db", "/artifacts/1/%2e%2e/%2e%2e/kansearch.db", "/static/..%5c..%5cx",
             "/static/../index.html", "/static/.%ff./index.html", "/artifacts/1/..", "/static/%00"],
)  # fmt: skip
def test_no_path_leaves_its_folder(writable: Served, path: str) -> None:
    """Neither written out nor encoded."""
    answer = writable.ask(path)
    assert answer.status == 400
    assert answer.text.startswith("the path ")


def test_a_note_is_kept(writable: Served) -> None:
    """What a person writes takes the place of our words, on a study as on a trial."""
    own = {"Origin": f"http://{writable.host}", "Sec_Fetch_Site": "same-origin"}
    assert writable.ask("/api/studies/1/note", "PUT", NOTE, **own).status == 200
    assert writable.ask("/api/studies/1/2/note", "PUT", NOTE, **own).status == 200
    study = writable.ask("/api/studies/1").json
    assert study["note"] == NOTE
    assert [trial["note"] == NOTE for trial in study["trials"]] == [False, True, False, False]


def test_an_artifact_is_kept_and_runs_nothing(writable: Served) -> None:
    """A page that somebody uploaded may not act for whoever opens it, and no other site reads it; then it is gone."""
    page = base64.b64encode(b"<script>alert(1)</script>").decode()
    made = writable.ask("/api/artifacts/1", "POST", {"file": f"data:text/html;base64,{page}", "filename": "x.html"})
    assert made.status == 201
    path = f"/artifacts/1/{made.json['artifact_id']}"
    answer = writable.ask(path)
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert writable.ask(f"/api{path}", "DELETE").status == 200
    assert writable.ask(path).status == 404


def test_a_deleted_study_is_gone_with_its_artifacts(tmp_path: Path) -> None:
    """As `kansearch delete` deletes it, and what people laid beside it too."""
    searched(tmp_path, STUDY.replace("trials: 24", "trials: 1")).storage.close()
    (tmp_path / "artifacts").mkdir()
    with dashboard(tmp_path, "--writable", "--artifacts", "artifacts") as served:
        served.enter()
        assert served.ask(*UPLOAD).status == 201
        assert list((tmp_path / "artifacts").iterdir())
        assert served.ask("/api/studies/1", "DELETE", {}).json == {}
        assert served.ask("/api/studies").json == {"study_summaries": []}
        assert served.ask("/api/studies/1").status == 404
    assert not list((tmp_path / "artifacts").iterdir())
    assert study_names(open_storage(f"sqlite:///{tmp_path / 'kansearch.db'}")) == []


def test_only_the_study_that_was_named_is_deleted(tmp_path: Path) -> None:
    """A page that was left open names a study that is gone; another one of the same name stays as it is."""
    searched(tmp_path, STUDY.replace("trials: 24", "trials: 1")).storage.close()
    url = f"sqlite:///{tmp_path / 'kansearch.db'}"
    with dashboard(tmp_path, "--writable") as served:
        served.enter()
        assert served.ask("/report/1").status == served.ask("/csv/1").status == 200
        delete_study(load_study(open_storage(url), "shown"))
        again = searched(tmp_path, STUDY.replace("trials: 24", "trials: 1"))
        for method, path in (("DELETE", "/api/studies/1"), ("GET", "/api/studies/1"), ("GET", "/report/1"),
                             ("GET", "/csv/1"), ("GET", f"/report/{10**24}")):  # fmt: skip
            assert served.ask(path, method).status == 404, path
        assert not again.is_stopped
        assert served.ask(f"/report/{again.study_id}").status == 200


def test_artifacts_out_of_reach_are_said(tmp_path: Path) -> None:
    """In one line to whoever asks; a study beside which they lie can be deleted all the same."""
    searched(tmp_path, STUDY.replace("trials: 24", "trials: 1")).storage.close()
    place = tmp_path / "artifacts"
    place.mkdir()
    with dashboard(tmp_path, "--writable", "--artifacts", place) as served:
        served.enter()
        made = served.ask(*UPLOAD).json["artifact_id"]
        (place / made).unlink()
        assert served.ask(f"/artifacts/1/{made}").status == 404
        place.rmdir()
        assert served.ask(f"/artifacts/1/{made}").status == 503
        answer = served.ask(*UPLOAD)
        assert (answer.status, answer.json["reason"]) == (503, f"artifacts {place}: no such folder on this machine")
        assert served.ask("/api/studies/1", "DELETE").status == 200
        assert served.words.read() == "study shown: 1 artifact could not be removed\n"
    assert study_names(open_storage(f"sqlite:///{tmp_path / 'kansearch.db'}")) == []


def test_sigterm_ends_it_in_peace(folder: Path) -> None:
    """As containers ask; the port in its address was printed before."""
    with dashboard(folder) as served:
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--port", "{taken}"], {}, "--host 127.0.0.1 --port {taken}: something listens on this port already"),
        (["--host", "192.0.2.7"], PASSWORD, "this host is none of this machine's"),
        (["--host", "no.such.host.invalid"], PASSWORD, "this host is none of this machine's"),
        (["--host", "0.0.0.0"], {}, "--host 0.0.0.0 lets other machines in: set KANSEARCH_DASHBOARD_USER"),
        ([], {"KANSEARCH_DASHBOARD_USER": "ada"}, "KANSEARCH_DASHBOARD_PASSWORD is not set"),
        ([], {"KANSEARCH_DASHBOARD_PASSWORD": "x"}, "KANSEARCH_DASHBOARD_USER is not set"),
        (["--storage", "sqlite:///none.db"], {}, "does not exist"),
        (["--artifacts", "http://ada:secret@x"], {}, "is no place"),
        (["--artifacts", "nowhere"], {}, "nowhere cannot be looked at: no such folder on this machine"),
        (["--storage", "postgresql://ada:secret@127.0.0.1:{free}/x"], {}, "cannot be opened"),
    ],
)
def test_bad_input_gets_one_line(
    shown: Served, folder: Path, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    """It names the place and what is allowed, never a password, and nothing listens."""
    ports = {"taken": shown.host.partition(":")[2], "free": free_port()}
    port = [] if "--port" in arguments else ["--port", "0"]
    done = run_in(folder, "dashboard", *port, *(argument.format(**ports) for argument in arguments), **environment)
    assert done.returncode == (3 if "postgresql" in str(arguments) else 2)
    assert words.format(**ports) in done.stderr
    assert done.stderr.startswith("kansearch: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_a_missing_extra_is_named_with_the_line_that_installs_it(folder: Path, tmp_path: Path) -> None:
    """As for every other extra."""
    missing = "raise ModuleNotFoundError(\"No module named 'waitress'\", name='waitress')\n"
    (tmp_path / "waitress.py").write_text(missing)
    done = run_in(folder, "dashboard", is_new=True, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == "kansearch: the dashboard needs the module waitress: pip install 'kansearch[dashboard]'\n"
