"""What is true of every launcher: its plan, what it does not show, and which files are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kansearch.launch.launchers import launcher
from kansearch.launch.request import LaunchRequest, Resources
from kansearch.specs.launch import LaunchSpec
from tests.commands import run_in
from tests.launch.contract import check_contract

GOLDEN = Path(__file__).parents[1] / "golden"

REQUEST = LaunchRequest(
    "digits.v2",
    3,
    ("--pack", "4"),
    Resources(cpus=4, memory_mib=8192, seconds=4 * 3600),
    environment={"REGION": "east 1"},
    secrets={"KANSEARCH_STORAGE": "postgresql://kan:geheim@db/kan"},
)

SPECS = {
    "slurm": LaunchSpec(
        launcher="slurm", partition="gold", account="lab", logs="/scratch/logs", setup=("module load python/3.11",)
    ),
    "kubernetes": LaunchSpec(launcher="kubernetes", image="registry.example/lab/kansearch:2", namespace="lab"),
    "ray": LaunchSpec(launcher="ray", address="ray://head:10001", logs="/scratch/logs"),
}


@pytest.mark.parametrize("name", SPECS)
def test_plans_are_as_they_were(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes what is sent sees it in the review."""
    monkeypatch.setattr("sys.executable", "/opt/env/bin/python")
    monkeypatch.setattr("kansearch.launch.kubernetes.__version__", "1.2.3")
    monkeypatch.chdir("/")
    text = launcher(SPECS[name]).plan(REQUEST).text
    file = GOLDEN / name / "plan.txt"
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["local", *SPECS])
def test_plans_hold_no_secret(name: str) -> None:
    """The storage's URL travels in the environment; neither the plan nor the request shows it."""
    plan = launcher(SPECS.get(name, LaunchSpec())).plan(REQUEST)
    assert "geheim" not in plan.text + repr(plan)
    assert "kansearch worker digits.v2" in plan.text


@pytest.mark.slow
def test_processes_of_this_machine_keep_the_contract(tmp_path: Path) -> None:
    """The first of the four launchers; those of clusters do it in their own tests."""
    check_contract(launcher(LaunchSpec()), tmp_path, f"sqlite:///{tmp_path / 'kansearch.db'}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("launcher: slrum", 'launcher  is "slrum"; did you mean "slurm"?'),
        ("launcher: slurm\nmemory: 1Gx", 'memory  is "1Gx"; write an amount such as 500M or 8G'),
        ("launcher: slurm\npartion: gold", 'partion  unknown key; did you mean "partition"?'),
        ("launcher: slurm\ntime: soon", 'time  is "soon"; write a time such as 30m'),
        ("launcher: slurm\npartition: a b", 'partition  is "a b"; allowed: names with commas'),
        ("launcher: ray\nautoscaling: maybe", "autoscaling  "),
        ("launcher: ray\npartition: gold", "partition  means nothing to launcher ray; it is for: slurm"),
        ("- slurm", "is no cluster file: it has no keys"),
    ],
)
def test_mistakes_of_a_cluster_file_are_said_with_their_place(study_file: Path, text: str, words: str) -> None:
    """The value and what is allowed, exit code 2, and nothing is made."""
    (study_file.parent / "site.yaml").write_text(text + "\n")
    done = run_in(study_file.parent, "optimize", study_file, "--cluster", "site.yaml")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (study_file.parent / "kansearch.db").exists()


def test_a_cluster_needs_a_database_that_all_reach(study_file: Path) -> None:
    """SQLite is a file of one machine."""
    done = run_in(study_file.parent, "optimize", study_file, "--launcher", "slurm")
    assert done.returncode == 2
    assert "launcher slurm needs a database that all machines reach" in done.stderr


def test_the_study_file_may_say_where_workers_run(study_file: Path) -> None:
    """A cluster file says more, and flags have the last word; --dry-run prints what would be sent and makes nothing."""
    study_file.write_text(study_file.read_text() + "launch: {launcher: slurm, workers: 5, partition: gold}\n")
    (study_file.parent / "site.yaml").write_text("cpus: 2\nlauncher: slurm\npartition: silver\n")
    flags = ("--cluster", "site.yaml", "--workers", "7", "--storage", "postgresql://kan:geheim@db/kan")
    done = run_in(study_file.parent, "optimize", study_file, *flags, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert {"#SBATCH --array=0-6", "#SBATCH --partition=silver", "#SBATCH --cpus-per-task=2"} <= set(
        done.stdout.splitlines()
    )
    assert "geheim" not in done.stdout
    assert {path.name for path in study_file.parent.iterdir()} == {"small.yaml", "site.yaml"}
    here = run_in(study_file.parent, "optimize", study_file, "--launcher", "local", "--dry-run")
    assert here.stdout.count("worker small") == 5
