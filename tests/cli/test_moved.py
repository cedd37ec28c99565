"""Studies whose data lie elsewhere now: the digest decides, and no path."""

from __future__ import annotations

import math
from pathlib import Path

from kansearch.storage.studies import load_study
from kansearch.storage.url import open_storage
from tests.commands import run_in
from tests.studies import records_in

STUDY = """
data: {path: t.csv, target: y, task: regression}
space: {family: [mlp, kan], width: [2, 3], learning_rate: 0.02}
budget: {trials: 2, epochs: 2}
search: {pruner: none}
"""


def write_table(path: Path, n: int = 60) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x,y\n" + "".join(f"{x / 50},{math.sin(x / 8):.3f}\n" for x in range(n)))


def test_a_study_goes_on_wherever_its_table_lies(tmp_path: Path) -> None:
    """Its folder is moved, then the table alone, then it is on another mount: the same rows are the same study."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_table(first / "t.csv")
    (first / "moved.yaml").write_text(STUDY)
    for command in (("submit", "moved.yaml"), ("worker", "moved")):
        assert run_in(first, *command).returncode == 0

    first.rename(second)
    again = run_in(second, "submit", "moved.yaml", "--trials", 3)
    assert again.returncode == 0, again.stderr
    assert run_in(second, "worker", "moved").returncode == 0
    assert f"The data of moved lie at {second / 't.csv'} now, and lay at {first / 't.csv'}" in again.stdout
    assert [record.state for record in records_in(second, "moved")] == ["complete"] * 3
    study = load_study(open_storage(f"sqlite:///{second / 'kansearch.db'}"), "moved")
    assert (study.spec.data.path, study.data_places) == (second / "t.csv", (first / "t.csv",))
    # Whoever serves it where the table still lies at its old place finds it there.
    write_table(first / "t.csv")
    (second / "t.csv").rename(tmp_path / "renamed.csv")
    assert run_in(second, "submit", "moved.yaml", "--trials", 4).returncode == 2, "a new study must have its data"
    moved = ("--set", f"data.path={tmp_path / 'renamed.csv'}")
    assert run_in(second, "submit", "moved.yaml", "--trials", 4, *moved).returncode == 0
    (tmp_path / "renamed.csv").rename(tmp_path / "hidden.csv")
    assert run_in(second, "worker", "moved").returncode == 0
    assert len(records_in(second, "moved")) == 4

    # Nothing of what the study knows is left: a file or its folder is named, or the folder of all data.
    mount = tmp_path / "mount"
    (mount / "first").mkdir(parents=True)
    (first / "t.csv").rename(mount / "first" / "t.csv")
    lost = run_in(second, "export", "moved")
    assert lost.returncode == 2
    assert "say where they lie now: --data PATH, or KANSEARCH_DATA=FOLDER" in lost.stderr
    for named in ("hidden.csv", "mount/first/t.csv"):
        assert run_in(second, "export", "moved", "--data", tmp_path / named).returncode == 0
    first_kan = next(record.number for record in records_in(second, "moved") if record.family == "kan")
    explained = run_in(second, "explain", "moved", "--trial", first_kan, KANSEARCH_DATA=str(mount))
    assert explained.returncode == 0, explained.stderr

    # Other rows are another study, wherever they lie.
    write_table(second / "t.csv", 61)
    changed = run_in(second, "export", "moved", "--data", second)
    assert changed.returncode == 2
    assert "changed since it began" in changed.stderr
    refused = run_in(second, "submit", "moved.yaml")
    assert refused.returncode == 2
    assert "data.path" in refused.stderr
