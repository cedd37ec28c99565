"""Documents that test themselves: what they name exists, what exists is named, what they show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

from kansearch.cli.app import app
from kansearch.specs.data import BUNDLED_SETS, FUNCTIONS, IMAGE_SETS
from kansearch.specs.metrics import METRICS
from kansearch.specs.space import hyperparameters
from kansearch.specs.study import PRUNER_OPTIONS, SAMPLER_OPTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STUDY_FILES = (ROOT / "docs/study_files.md").read_text()


def blocks(path: str, language: str) -> list[str]:
    """The code blocks of one language in a document."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", ["README.md", "docs/architecture.md"])
def test_python_in_documents_runs(path: str, tmp_path: Path) -> None:
    """Every Python block runs as it stands."""
    assert blocks(path, "python")
    for code in blocks(path, "python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_nothing_was_left_to_be_filled_in() -> None:
    """No document waits for a figure."""
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("docker/*.md"),
        *ROOT.glob("benchmarks/*/*.md"),
    ):
        assert not re.search(r"@[A-Z]+@|TODO|TBD", path.read_text()), path


def test_study_files_in_documents_are_valid(tmp_path: Path) -> None:
    """Every study that a document shows is one that kansearch accepts."""
    from kansearch.specs.study_file import load_study_file

    studies = [text for path in ("README.md", "docs/study_files.md") for text in blocks(path, "yaml")]
    assert len(studies) >= 2
    for number, text in enumerate(studies):
        path = tmp_path / f"study{number}.yaml"
        path.write_text(text)
        load_study_file(path)


def test_readme_names_every_command_and_option() -> None:
    """What can be typed stands in the README."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        assert f"kansearch {name}" in README
    for parameter in commands["optimize"].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert option in README, option


@pytest.mark.parametrize(
    "names",
    [hyperparameters(), METRICS, BUNDLED_SETS, FUNCTIONS, IMAGE_SETS, SAMPLER_OPTIONS, PRUNER_OPTIONS],
    ids=["hyperparameters", "metrics", "sets", "functions", "images", "samplers", "pruners"],
)
def test_everything_a_study_file_may_say_is_documented(names: dict[str, object]) -> None:
    """Every hyperparameter, metric, dataset, sampler and pruner stands in docs/study_files.md, with its values."""
    for name in names:
        assert f"`{name}`" in STUDY_FILES, name
    if names is hyperparameters():
        for parameter in hyperparameters().values():
            for value in parameter.allowed:
                assert f"`{str(value).lower()}`" in STUDY_FILES, value


def test_files_that_documents_point_to_exist() -> None:
    """No dead link inside the repository."""
    readmes = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docker/README.md"]
    for document in [*readmes, *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", document.read_text()):
            assert (document.parent / target.split("#")[0]).exists(), f"{document.name} -> {target}"


def test_the_demo_is_the_study_that_the_readme_shows() -> None:
    """`make demo` runs studies/digits.yaml, whose budget is the one its own comments explain."""
    assert "optimize studies/digits.yaml" in (ROOT / "Makefile").read_text()
    assert yaml.safe_load((ROOT / "studies/digits.yaml").read_text())["name"] == "digits"


def test_files_of_sites_in_documents_are_valid(tmp_path: Path) -> None:
    """Every cluster file that a document shows is one that kansearch accepts."""
    from kansearch.specs.study_file import load_cluster_file

    (text,) = blocks("docs/clusters.md", "yaml")
    (tmp_path / "site.yaml").write_text(text)
    assert load_cluster_file(tmp_path / "site.yaml").launcher == "slurm"
