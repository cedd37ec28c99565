"""A study that dashboards show, and dashboards that tests share."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import StoredStudy, create_study
from kansearch.storage.url import open_storage
from tests.studies import search

from .serving import Served, dashboard

STUDY = """
name: shown
data: {name: multi_sine, n_train: 64, n_validation: 32, n_test: 32}
objectives: [rmse, parameters]
constraints: [latency_ms <= 1000, r2 >= -0.2]
budget: {trials: 24, epochs: 9}
search: {sampler: random, pruner: {name: pareto, min_epochs: 3}}
space:
  family: [mlp, kan]
  width: {low: 2, high: 8}
  learning_rate: {low: 0.00001, high: 0.1, log: true}
"""

PASSWORD = {"KANSEARCH_DASHBOARD_USER": "ada", "KANSEARCH_DASHBOARD_PASSWORD": "täglich frisch"}


def basic(user: str, password: str) -> str:
    """A login as browsers send it."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def searched(folder: Path, text: str = STUDY) -> StoredStudy:
    """A study that was searched, in a file of its own."""
    (folder / "study.yaml").write_text(text)
    spec = load_study_file(folder / "study.yaml", [])
    storage = open_storage(f"sqlite:///{folder / 'kansearch.db'}")
    given = {"digest": "0" * 64, "data_line": "64 rows", "versions": {"kansearch": "test"}}
    return search(create_study(storage, spec, **given), size=8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the studies of the shared dashboards lie; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("shown")
    searched(folder).storage.close()
    return folder


@pytest.fixture(scope="session")
def shown(folder: Path) -> Iterator[Served]:
    """A dashboard that only shows, with a token."""
    with dashboard(folder) as served:
        served.enter()
        yield served


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard with studies of its own, a password and a place of artifacts, in which things may be changed."""
    folder = tmp_path_factory.mktemp("writable")
    searched(folder, STUDY.replace("trials: 24", "trials: 4")).storage.close()
    (folder / "artifacts").mkdir()
    with dashboard(folder, "--writable", "--artifacts", "artifacts", **PASSWORD) as served:
        served.login["Authorization"] = basic(*PASSWORD.values())
        yield served
