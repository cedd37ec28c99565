"""`kansearch optimize` as a user runs it: one command, real workers, an exact budget, a report."""

from __future__ import annotations

import csv
import functools
import json
import math
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.commands import Command, run_in
from tests.conftest import SMALL
from tests.studies import records_in

Run = Callable[..., subprocess.CompletedProcess[str]]

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command in a folder of the test's own."""
    return functools.partial(run_in, tmp_path)


@dataclass(frozen=True)
class Searched:
    """A folder with a study that was searched; tests leave the study as it is."""

    folder: Path
    output: str
    run: Run


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The small study, done."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.yaml").write_text(SMALL)
    done = run_in(folder, "optimize", "small.yaml", "--workers", 1)
    assert done.returncode == 0, done.stderr
    return Searched(folder, done.stdout, functools.partial(run_in, folder))


def records(folder: Path, name: str = "small") -> tuple[TrialRecord, ...]:
    return read_records(load_study(open_storage(f"sqlite:///{folder / 'kansearch.db'}"), name))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_before_anything_is_stored(run: Run, study_file: Path) -> None:
    """By the command and by a worker; no study is made."""
    for command in (("optimize", study_file), ("worker", "small")):
        done = run(*command, "--device", "cuda")
        assert (done.returncode, done.stdout) == (2, "")
    assert "--device cuda: torch finds no CUDA device here" in run("optimize", study_file, "--device", "cuda").stderr
    assert not (study_file.parent / "kansearch.db").exists()


def test_what_columns_are_is_said_before_the_search_and_in_the_report(run: Run, tmp_path: Path) -> None:
    """Kind, gaps, distinct values and what was done: in the terminal, on the page and in the JSON file."""
    lines = [f"{n % 6},5;<b>{'xyz'[n % 3]}</b>;{n % 31}.12.2023;{n * n % 17}" for n in range(1, 61) if n % 31]
    (tmp_path / "table.csv").write_text("[red]dose;name;day;y\n" + "\n".join(lines))
    (tmp_path / "table.yaml").write_text(
        "data: {path: table.csv, target: y, task: regression}\nbudget: {trials: 1, epochs: 1}\n"
        "space: {family: mlp, width: 2}\n"
    )
    done = run("optimize", "table.yaml", "--workers", 1)
    assert done.returncode == 0, done.stderr
    before, _, _ = done.stdout.partition("1/1 trials")
    rows = [re.split(r"\s{2,}", line.strip()) for line in before.splitlines()]
    assert ["[red]dose", "number", "0", "6", "read as 1234,5, standardised"] in rows
    assert ["name", "category", "0", "3", "3 inputs of 0 and 1"] in rows
    assert ["day", "date", "0", "30", "days since 1970, read as %d.%m.%Y, standardised"] in rows
    report = json.loads((tmp_path / "reports/table/report.json").read_text())
    assert [column["name"] for column in report["columns"]] == ["y", "[red]dose", "name", "day"]
    assert report["columns"][3] | {"role": "input", "form": "%d.%m.%Y", "distinct": 30} == report["columns"][3]
    page = (tmp_path / "reports/table/report.html").read_text()
    assert '<td class="wide">read as 1234,5, standardised</td>' in page


def test_one_command_ends_with_a_front_and_a_report(searched: Searched) -> None:
    """A study file becomes a study, workers train it, and three files hold the same numbers."""
    assert "6/6 trials" in searched.output
    assert "Pareto front of small" in searched.output
    assert "Report: reports/small/report.html" in searched.output
    assert not CONTROL.search(searched.output), "a pipe gets text without control codes"
    report = json.loads((searched.folder / "reports/small/report.json").read_text())
    assert report["format"] == 1
    assert report["objectives"] == [
        {"name": "rmse", "direction": "minimize"} | report["objectives"][0],
        {"name": "parameters", "direction": "minimize"} | report["objectives"][1],
    ]
    assert {"study", "front", "baseline", "counts", "epochs_spent", "hypervolume", "versions"} <= set(report)
    assert report["counts"]["complete"] + report["counts"]["pruned"] == 6
    for member in report["front"]:
        assert set(member["values"]) == {"rmse", "parameters"}
        assert member["family"] in ("mlp", "kan")
        assert {"width", "learning_rate"} <= set(member["params"])
    assert report["baseline"]["family"] == "mlp"
    with (searched.folder / "reports/small/trials.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    page = (searched.folder / "reports/small/report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")


def test_the_same_seed_gives_the_same_front(searched: Searched, run: Run, study_file: Path, tmp_path: Path) -> None:
    """Two runs with one worker are the same, trial by trial, whoever starts it; another seed draws others."""

    def drawn(name: str, seed: int) -> list[object]:
        assert run("submit", study_file, "--name", name, "--seed", seed).returncode == 0
        assert run("worker", name, "--number", 0).returncode == 0
        return [(record.params, record.values) for record in records(tmp_path, name)]

    first = [(record.params, record.values) for record in records(searched.folder)]
    assert drawn("second", 0) == first
    assert drawn("third", 4) != first


def test_a_study_that_was_stopped_draws_what_it_would_have_drawn(run: Run, study_file: Path, tmp_path: Path) -> None:
    """One by one, four trials and then four more are the same eight as in one go."""
    for name, trials in (("twice", 4), ("twice", 8), ("once", 8)):
        assert run("submit", study_file, "--name", name, "--trials", trials).returncode == 0
        assert run("worker", name, "--pack", 1).returncode == 0
    twice, once = ([(r.params, r.values, r.state) for r in records(tmp_path, name)] for name in ("twice", "once"))
    assert twice == once


def test_running_again_changes_nothing_and_a_changed_file_is_refused(searched: Searched) -> None:
    """A finished study is only reported again; a study file that differs is refused with what differs."""
    before = records(searched.folder)
    again = searched.run("optimize", "small.yaml", "--workers", 1)
    assert again.returncode == 0
    assert "goes on" in again.stdout
    assert records(searched.folder) == before
    fewer = searched.run("optimize", "small.yaml", "--trials", 2)
    assert (fewer.returncode, "--trials) is 2" in fewer.stderr, "at least 6" in fewer.stderr) == (2, True, True)
    changed = searched.run("optimize", "small.yaml", "--set", "space.width.high=9")
    assert changed.returncode == 2
    assert "space.width.high: 8.0 in the storage, 9.0 in the file" in changed.stderr
    assert "Traceback" not in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "nothing.yaml does not exist"),
        (["{study}", "--workers", "0"], "--workers is 0; must be from 1 to 1024"),
        (["{study}", "--trials", "0"], "budget.trials"),
        (["{study}", "--seed", "-1"], "search.seed"),
        (["{study}", "--set", "space.widht=3"], 'did you mean "width"?'),
        (["{study}", "--set", "nonsense"], "PATH=VALUE"),
        (["{study}", "--name", "no spaces"], "name"),
        (["{study}", "--output", "{study}"], "the report cannot be written"),
        (["{study}", "--storage", "sqlit:///x.db"], 'did you mean "sqlite"?'),
        (["{study}", "--storage", "sqlite:///no/such/folder/x.db"], "folder that does not exist"),
        (["{study}", "--storage", "postgres://u:hunter2@h:x/d"], "***"),
        (["{study}", "--set", "data={path: no.csv, target: y, task: regression}"], "no.csv"),
        (["{study}", "--set", "constraints=['parameters <= 2']"], "most break parameters <= 2; the smallest"),
    ],
)
def test_bad_input_gets_one_clear_message(run: Run, study_file: Path, arguments: list[str], message: str) -> None:
    """Exit code 2, what is wrong, no traceback, no password, and no study left behind."""
    done = run("optimize", *(argument.replace("{study}", str(study_file)) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "hunter2" not in done.stderr + done.stdout
    assert not (study_file.parent / "reports").exists()


def test_a_searched_hyperparameter_without_effect_is_reported(run: Run, study_file: Path) -> None:
    """Widths of a network without hidden rows, and an L1 weight of plain networks, do nothing: we say so."""
    settings = ["space.family=mlp", "space.depth=1", "space.l1={low: 0.001, high: 0.1, log: true}"]
    done = run("submit", study_file, *(part for text in settings for part in ("--set", text)))
    assert done.returncode == 0, done.stderr
    assert "warning: space.width: changes nothing in the loss" in done.stdout
    assert "warning: space.l1: never used" in done.stdout
    assert "space.learning_rate" not in done.stdout


def test_a_study_ends_with_its_space(run: Run, study_file: Path) -> None:
    """Two networks, six trials: the command says why it ended sooner, and so do status and report."""
    settings = ["space={family: mlp, width: [2, 4]}", "budget.epochs=1"]
    done = run("optimize", study_file, "--workers", "1", *(part for text in settings for part in ("--set", text)))
    assert done.returncode == 0, done.stderr
    sentence = "space: every network was trained; the study ended after 2 of 6 trials"
    assert sentence in done.stdout
    status = run("status", "small").stdout
    assert "2/2 trials" in status
    assert f"warning: {sentence}" in status
    report = json.loads((study_file.parent / "reports/small/report.json").read_text())
    assert sentence in report["warnings"]


def test_the_file_alone_is_the_storage(searched: Searched, tmp_path: Path) -> None:
    """When the search is over its write-ahead log is folded in: whoever copies the file has everything."""
    assert not list(searched.folder.glob("kansearch.db-*"))


def test_status_report_and_doctor_read_a_study(searched: Searched) -> None:
    """Everything about a study can be asked for later, without its file."""
    overview, status = searched.run("status"), searched.run("status", "small")
    assert "small" in overview.stdout
    assert "6/6 trials" in status.stdout
    again = searched.run("report", "small", "--output", "elsewhere")
    assert again.stdout.strip() == "elsewhere/report.html"
    assert (searched.folder / "elsewhere/trials.csv").exists()
    doctor = searched.run("doctor")
    assert doctor.returncode == 0
    assert "studies: small" in doctor.stdout
    assert "epochs a second of a KAN" in doctor.stdout
    misspelt = searched.run("status", "smal")
    assert (misspelt.returncode, 'did you mean "small"' in misspelt.stderr) == (2, True)


def test_a_study_that_is_done_cannot_be_stopped(searched: Searched) -> None:
    """Nothing of it could go on; it is said, and left as it is."""
    done = searched.run("stop", "small")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Study small is done already: 6 trials. A larger --trials lets it go on.\n"
    assert "stopped" not in searched.run("status", "small").stdout


def test_explain_shows_what_a_network_has_learned(searched: Searched) -> None:
    """By default of the best KAN: on the terminal, as a page and as JSON; the study is not touched."""
    before = (searched.folder / "kansearch.db").read_bytes()
    done = searched.run("explain", "small", "--curves", 3)
    assert done.returncode == 0, done.stderr
    assert (searched.folder / "kansearch.db").read_bytes() == before
    number = int(re.search(r"^Trial (\d+) of small, a KAN", done.stdout, re.MULTILINE).group(1))
    assert records(searched.folder)[number].family == "kan"
    assert "Trained again from its seed, the network has the metrics that were recorded." in done.stdout
    assert re.search(r"layer \d, \d+ → \d+ .*x", done.stdout)
    folder = searched.folder / "reports/small"
    document = json.loads((folder / f"explain-{number}.json").read_text())
    assert len(document["edges"]) == 3
    assert document["inputs"] == pytest.approx({"x": 1.0})
    page = (folder / f"explain-{number}.html").read_text()
    assert "Which inputs matter" in page
    assert "<script src" not in page


def test_what_cannot_be_explained_is_refused(searched: Searched) -> None:
    """One line that says what can be; exit code 2 and no page."""
    plain = next(record.number for record in records(searched.folder) if record.family == "mlp")
    for number, words in (
        (plain, f"trial {plain} is a plain network without learned curves; name a KAN or a hybrid"),
        (99, 'study "small" has no trial 99; its trials: 0 to 5'),
    ):
        done = searched.run("explain", "small", "--trial", number)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_an_exported_network_is_where_another_study_begins(searched: Searched) -> None:
    """By default the best of the front; the other study trains heads behind it, and knows it by its content."""
    done = searched.run("export", "small")
    assert done.returncode == 0, done.stderr
    number = int(re.search(r"^Trial (\d+) of small, a ", done.stdout, re.MULTILINE).group(1))
    best = min(records(searched.folder), key=lambda record: record.values.get("rmse", math.inf))
    assert number == best.number
    assert f"File: reports/small/trial-{number}.safetensors" in done.stdout
    assert re.search(r"rmse (\S+), recorded \1; a constant answer has \S+\n", done.stdout)
    file = searched.folder / "reports" / "small" / f"trial-{number}.safetensors"
    (searched.folder / "nets").mkdir()
    file.rename(searched.folder / "nets" / "first.safetensors")
    space = "{family: [mlp, kan], stem: backbone, backbone: nets/first.safetensors, tuned_stages: [0, 1], depth: 1}"
    behind = SMALL.replace("name: small", "name: behind")
    (searched.folder / "behind.yaml").write_text(f"{behind[: behind.index('space:')]}space: {space}\n")
    command = ("submit", "behind.yaml")
    done = searched.run(*command)
    assert done.returncode == 0, done.stderr
    assert searched.run("worker", "behind").returncode == 0
    done = searched.run("optimize", "behind.yaml")
    assert done.returncode == 0, done.stderr
    assert "backbone nets/first.safetensors" in done.stdout
    itself = searched.run("export", "behind", "--output", "nets/first.safetensors")
    assert (itself.returncode, "a backbone of this study" in itself.stderr) == (2, True)
    other = searched.run("export", "small", "--trial", 0, "--output", "nets/first.safetensors")
    assert other.returncode == 0, other.stderr
    changed = searched.run(*command)
    assert changed.returncode == 2
    assert "the content or its split, or the weights of a backbone, are not what the study began with" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trial", 99), 'study "small" has no trial 99; its trials: 0 to 5'),
        (("--output", "network.pt"), "--output is network.pt; allowed: a file that ends in .safetensors"),
        (("--output", "/proc/a.safetensors"), "cannot be written to /proc"),
    ],
)
def test_what_cannot_be_exported_is_refused(searched: Searched, arguments: tuple[object, ...], message: str) -> None:
    """One line; exit code 2."""
    done = searched.run("export", "small", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_storage_may_come_from_the_environment(run: Run, searched: Searched) -> None:
    """KANSEARCH_STORAGE names the storage where no flag does."""
    done = run("status", "small", KANSEARCH_STORAGE=f"sqlite:///{searched.folder / 'kansearch.db'}")
    assert done.returncode == 0, done.stderr
    assert "6/6 trials" in done.stdout


def test_ctrl_c_stops_cleanly_and_the_study_goes_on_later(study_file: Path, tmp_path: Path) -> None:
    """Interrupted, the command ends with 130 and says how to go on; the budget is exact in the end."""
    # Small packs, so that trials end one after the other and the search is never about to end.
    command = ("optimize", study_file, "--trials", 16, "--pack", 2)
    # And in double precision, which torch trains: in single a search is over before anybody can interrupt it.
    command += ("--set", "budget.epochs=200", "--set", "search.pruner=none", "--set", "space.dtype=float64")
    with Command(tmp_path, *command, "--workers", 1, is_new=True) as process:
        process.wait_until(lambda: any(record.state == "complete" for record in records_in(tmp_path)))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
        assert process.poll() == 130, errors
    assert "go on with: kansearch optimize" in output
    states = [record.state for record in records(tmp_path)]
    assert "running" not in states
    assert states.count("complete") + states.count("pruned") < 16
    with Command(tmp_path, *command, "--workers", 1) as again:
        _, errors = again.communicate()
        assert again.poll() == 0, errors
    states = [record.state for record in records(tmp_path)]
    assert states.count("complete") + states.count("pruned") == 16
    assert set(states) <= {"complete", "pruned", "fail"}
