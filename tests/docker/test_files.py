"""What docker/ says of the rest of the repository is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.worker.signals import GRACE_S

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE = (ROOT / "docker/compose.yaml").read_text()
EXAMPLE = (ROOT / "docker/.env.example").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_the_image_has_a_python_that_the_package_is_made_for() -> None:
    """Its Python is one that pyproject.toml allows, and the one for which the code is checked."""
    (version,) = set(re.findall(r"^FROM \S+/python:(\d+\.\d+)", DOCKERFILE, flags=re.MULTILINE))
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version)
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{version.replace('.', '')}"
    assert PROJECT["tool"]["mypy"].get("python_version", version) == version


def test_the_image_is_installed_and_labelled_as_pyproject_says() -> None:
    """It has all extras but ours and Ray, which has machines of its own; version, licence and a pinned torch fit."""
    (extras,) = re.findall(r"requirements\.py ([\w ]+) >", DOCKERFILE)
    assert set(extras.split()) == set(PROJECT["project"]["optional-dependencies"]) - {"dev", "ray"}
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))
    assert labels["version"] == PROJECT["project"]["version"]
    assert labels["licenses"] == PROJECT["project"]["license"]
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)


def test_variables_mean_something() -> None:
    """Every variable of ours is one that the code reads; all that compose.yaml takes from .env stand in its example."""
    code = "".join(path.read_text() for path in (ROOT / "kansearch").rglob("*.py"))
    used = set(re.findall(r"\bKANSEARCH_\w+", DOCKERFILE + COMPOSE + EXAMPLE))
    assert used
    for name in used:
        assert f'"{name}"' in code, name
    assert set(re.findall(r"\$\{(\w+)", COMPOSE)) == set(re.findall(r"^(\w+)=", EXAMPLE, flags=re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE)) == set(
        re.findall(r"^(\w*PASSWORD)=$", EXAMPLE, flags=re.MULTILINE)
    )


def test_workers_are_as_optimize_starts_them() -> None:
    """They get the same environment, and more time to stop than the grace of their epoch."""
    worker = SERVICES["worker"]
    assert worker["environment"].items() >= WORKER_ENVIRONMENT.items()
    assert int(worker["stop_grace_period"].removesuffix("s")) >= 2 * GRACE_S


def test_nothing_but_the_dashboard_is_published_and_that_on_this_machine_only() -> None:
    """The database is reached by the containers alone."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["dashboard"]
    assert all(port.startswith("127.0.0.1:") for port in published["dashboard"])


def compose_config(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Resolve compose.yaml with a .env of these settings."""
    (folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    files = ["--env-file", folder / ".env", "--file", ROOT / "docker/compose.yaml"]
    return subprocess.run(
        [sys.executable, "-m", "podman_compose", *files, "config"],
        env={name: value for name, value in os.environ.items() if not name.endswith("PASSWORD")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_there_is_no_password_by_default(tmp_path: Path) -> None:
    """Whoever sets none, or an empty one, is told where; what signs one may hold is nobody's business."""
    odd = 'p@s:s/w$1 #"%'
    for missing in ("POSTGRES_PASSWORD", "KANSEARCH_DASHBOARD_PASSWORD"):
        given = {"POSTGRES_PASSWORD": odd, "KANSEARCH_DASHBOARD_PASSWORD": odd, missing: ""}
        done = compose_config(tmp_path, **given)
        assert done.returncode != 0
        last = done.stderr.splitlines()[-1]
        assert missing in last
        assert "set it" in last
        assert "docker/.env" in last
    done = compose_config(tmp_path, **{**given, missing: odd})
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == odd
    assert services["worker"]["environment"]["PGPASSWORD"] == odd


def check_image(*arguments: str, **environment: str) -> str:
    """Run the check at the end of a build, which must refuse; returns its words."""
    done = subprocess.run(
        [sys.executable, ROOT / "docker/check_image.py", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_an_image_with_the_wrong_torch_or_without_its_inner_loops_is_refused() -> None:
    """One line says what is wrong and what the build needs."""
    import torch

    found, other = ("cuda", "cpu") if torch.version.cuda else ("cpu", "cuda")
    assert f"a build for {found}, and DEVICE is {other}; see PIP_ARGS" in check_image(other)
    assert "needs a working C compiler" in check_image(found, KANSEARCH_COMPILED="0")
