"""`kansearch init`: what it sees in data, what it guesses, and that its study runs as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kansearch.data.proposal import propose, study_name
from kansearch.specs.metrics import Task
from kansearch.specs.study_file import load_study_file
from tests.commands import run_in


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """A table of flowers: an id, a constant, a category, a gap, and what gives the target away."""
    random = np.random.default_rng(0)
    kind = random.choice(["rosa", "iris", "lilium"], 150)
    width = random.normal(size=150).round(3) + (kind == "iris")
    table = pd.DataFrame(
        {
            "id": np.arange(1, 151),
            "garden": "north",
            "width": width,
            "soil": random.choice(["clay", "sand"], 150),
            "height": random.normal(size=150).round(3) + 2 * (kind == "rosa"),
            "latin": np.char.upper(kind.astype(str)),
            "species": kind,
        }
    )
    table.loc[3, "width"] = np.nan
    path = tmp_path / "my flowers.csv"
    table.to_csv(path, index=False)
    return path


def test_a_newcomer_needs_two_commands(flowers: Path) -> None:
    """What was seen and guessed is said; the study file has comments, and runs as it is."""
    done = run_in(flowers.parent, "init", flowers.name)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert 'target: "species" (its name says so' in said
    assert "task: classification (its values are names)" in said
    assert '"garden" is constant: it is left out' in said
    assert '"latin" nearly gives the target away alone' in said
    assert "Wrote my flowers.yaml" in said
    assert "width number 1 " in said
    text = (flowers.parent / "my flowers.yaml").read_text()
    assert "target: species # its name says so" in text
    spec = load_study_file(flowers.parent / "my flowers.yaml")
    assert spec.name == "my-flowers"
    assert set(spec.data.ignore) == {"id", "garden"}
    assert "# latin nearly gives the target away alone" in text
    done = run_in(flowers.parent, "optimize", "my flowers.yaml", "--trials", "6")
    assert done.returncode == 0, done.stderr
    assert "Pareto front of my-flowers" in done.stdout


def test_nothing_is_overwritten_unasked(flowers: Path) -> None:
    """--force and -o say what else."""
    (flowers.parent / "my flowers.yaml").write_text("mine\n")
    done = run_in(flowers.parent, "init", flowers.name)
    assert done.returncode == 2
    assert done.stderr == "kansearch: my flowers.yaml exists; --force overwrites it, -o FILE writes another\n"
    (flowers.parent / "studies").mkdir()
    assert run_in(flowers.parent, "init", flowers.name, "-o", "studies/a.yaml").returncode == 0
    assert load_study_file(flowers.parent / "studies/a.yaml").data.path == flowers
    assert (flowers.parent / "my flowers.yaml").read_text() == "mine\n"
    assert run_in(flowers.parent, "init", flowers.name, "--force").returncode == 0
    assert load_study_file(flowers.parent / "my flowers.yaml").name == "my-flowers"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.csv",), "none.csv does not exist; name a table (.csv, .tsv, .parquet) or a folder"),
        (("my flowers.csv", "--target", "colour"), 'has no column "colour" (--target); its columns: id, garden, width'),
        (("notes.txt",), "notes.txt is no table and no folder"),
        (("empty",), "holds neither pictures nor texts (.txt) in a folder for each class"),
        (("photos.v2",), "photos.v2 is a folder whose name has a point"),
        (("my flowers.csv", "-o", "nowhere/a.yaml"), "nowhere/a.yaml cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(flowers: Path, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2, and nothing is written."""
    (flowers.parent / "notes.txt").write_text("x")
    (flowers.parent / "empty").mkdir()
    (flowers.parent / "photos.v2").mkdir()
    done = run_in(flowers.parent, "init", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(flowers.parent.rglob("*.yaml"))


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (np.linspace(0, 9, 60), Task.REGRESSION),
        (np.arange(60) % 40, Task.REGRESSION),
        (np.arange(60) % 3, Task.CLASSIFICATION),
        (np.array(["yes", "no"])[np.arange(60) % 2], Task.CLASSIFICATION),
        (np.arange(60) % 2 == 0, Task.CLASSIFICATION),
    ],
    ids=["numbers", "many whole numbers", "few whole numbers", "words", "booleans"],
)
def test_the_task_follows_from_the_target(values: np.ndarray, task: Task, tmp_path: Path) -> None:
    """Where it is a guess, it is said."""
    noise = np.random.default_rng(0).normal(size=(60, 2))
    pd.DataFrame({"no": noise[:, 0], "2024": noise[:, 1], "on": values}).to_csv(tmp_path / "t.csv", index=False)
    proposal = propose(tmp_path / "t.csv", "on", tmp_path / "t.yaml")
    assert proposal.spec.data.resolved_task is task
    assert proposal.spec.objectives[0] == ("accuracy" if task is Task.CLASSIFICATION else "rmse")
    assert proposal.spec.data.target == "on"
    (tmp_path / "t.yaml").write_text(proposal.text)
    assert load_study_file(tmp_path / "t.yaml") == proposal.spec


def test_a_rare_class_is_judged_by_balanced_accuracy(tmp_path: Path) -> None:
    """97 of 100 right answers say nothing there."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"a": random.normal(size=400), "b": random.normal(size=400)})
    table["label"] = np.where(np.arange(400) % 20 == 0, "rare", "usual")
    table.to_csv(tmp_path / "t.csv", index=False)
    assert propose(tmp_path / "t.csv", file=tmp_path / "t.yaml").spec.objectives == ("balanced_accuracy", "parameters")


def test_folders_and_columns_of_texts_are_studies_too(tmp_path: Path) -> None:
    """Pictures, files of texts and a table of texts: each with layers that suit them."""
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        for folder in ("pets", "mails"):
            (tmp_path / folder / kind).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / kind / f"{number}.png")
            (tmp_path / "mails" / kind / f"{number}.txt").write_text(f"a {kind} sits on mat number {number}")
    texts = [f"there is a {kind} on mat {number} again" for number in range(40) for kind in ("cat", "dog")]
    pd.DataFrame({"review": texts, "mood": ["good", "bad"] * 40}).to_csv(tmp_path / "t.csv", index=False)
    stems = {}
    for name in ("pets", "mails", "t.csv"):
        proposal = propose(tmp_path / name, file=tmp_path / f"{name}.yaml")
        stems[name] = proposal.spec.space.words("stem")
    assert stems == {"pets": ("convolution",), "mails": ("embedding",), "t.csv": ("embedding",)}


def test_texts_of_any_script_and_columns_of_lists_are_no_obstacle(tmp_path: Path) -> None:
    """Words are those of the text layers; what no network takes in is left out, and said."""
    texts = [f"这家餐厅的菜第{number}次去还是难吃" for number in range(60)]
    pd.DataFrame({"text": texts, "label": ["good", "bad"] * 30}).to_csv(tmp_path / "zh.csv", index=False)
    assert propose(tmp_path / "zh.csv", file=tmp_path / "zh.yaml").spec.data.text == "text"
    table = pd.DataFrame({"a": np.arange(60) % 7, "l": [[1, 2]] * 60, "y": np.linspace(0, 1, 60)})
    table.to_parquet(tmp_path / "l.parquet")
    assert propose(tmp_path / "l.parquet", file=tmp_path / "l.yaml").spec.data.ignore == ("l",)


def test_a_target_of_numbers_may_have_marks_for_gaps(tmp_path: Path) -> None:
    """They are named in the study file, and no class."""
    values = [str(row / 2) if row % 12 else "NA" for row in range(120)]
    pd.DataFrame({"a": np.arange(120) % 7, "price": values}).to_csv(tmp_path / "t.csv", index=False)
    proposal = propose(tmp_path / "t.csv", file=tmp_path / "t.yaml")
    assert proposal.spec.data.resolved_task is Task.REGRESSION
    assert list(proposal.spec.data.numbers) == ["price"]
    assert any('"NA" count as missing' in sentence for sentence in proposal.sentences)


def test_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    """Whatever the data are called; and a name that no study may have becomes another one."""
    pd.DataFrame({"a": np.arange(60) % 7, "y": np.linspace(0, 1, 60)}).to_csv(tmp_path / "数据 #1.csv", index=False)
    done = run_in(tmp_path, "init", "数据 #1.csv")
    assert "kansearch optimize '数据 #1.yaml'" in " ".join(done.stdout.split()), done.stderr
    assert study_name(Path("数据.csv")) != study_name(Path("模型.csv"))
