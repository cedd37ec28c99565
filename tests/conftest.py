"""What all tests share: a study in a fresh storage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import StoredStudy, create_study
from kansearch.storage.url import open_storage
from tests.browsers import ARGUMENTS, PATIENCE_MS
from tests.servers import MariaDB, MissingPartError, Postgres, Server

torch.set_num_threads(1)  # as workers have it: several threads share out sums by the size of the whole

SMALL = """
name: small
data: {name: multi_sine, n_train: 64, n_validation: 32, n_test: 32}
objectives: [rmse, parameters]
budget: {trials: 6, epochs: 3}
space:
  family: [mlp, kan]
  width: {low: 2, high: 8}
  learning_rate: {low: 0.001, high: 0.1, log: true}
"""


def pytest_xdist_auto_num_workers() -> int:
    """As many processes as this one may use cores; psutil, which pytest-xdist would ask, counts all of the machine."""
    return len(os.sched_getaffinity(0))


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """A study that runs in a second."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """A storage of the test's own."""
    return f"sqlite:///{tmp_path / 'kansearch.db'}"


def missing(part: str, message: str) -> NoReturn:
    """Skip a test for lack of a part of this machine; where everything is required, it fails."""
    if part in os.environ.get("KANSEARCH_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


def _server(kind: type[Server]) -> Iterator[Server]:
    try:
        server = kind()
    except MissingPartError as error:
        missing(kind.__name__.lower(), str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL that all tests share."""
    yield from _server(Postgres)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB that all tests share."""
    yield from _server(MariaDB)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> Server | None:
    """A server of every kind; None stands for SQLite, which needs none."""
    return None if request.param == "sqlite" else request.getfixturevalue(request.param)


@pytest.fixture
def database_url(database: Server | None, tmp_path: Path) -> str:
    """An empty database of the test's own, of every kind."""
    return database.new_database() if database else f"sqlite:///{tmp_path / 'kansearch.db'}"


@pytest.fixture
def any_storage_url(database: Server | None, tmp_path: Path) -> Iterator[str]:
    """A storage without studies, in a database of every kind; tests leave its tables as they are."""
    with database.lent_storage() if database else nullcontext(f"sqlite:///{tmp_path / 'kansearch.db'}") as url:
        yield url


@pytest.fixture
def make_spec(study_file: Path) -> Callable[..., StudySpec]:
    """The small study with some values changed: `make_spec("budget.trials=3")`."""
    return lambda *overrides: load_study_file(study_file, overrides)


@pytest.fixture
def make_study(make_spec: Callable[..., StudySpec], storage_url: str) -> Callable[..., StoredStudy]:
    """The small study, changed likewise, in the storage."""

    def make(*overrides: str, **kwargs: Any) -> StoredStudy:
        given = {"digest": "0" * 64, "data_line": "64 rows", "versions": {"kansearch": "test"}, **kwargs}
        return create_study(open_storage(storage_url), make_spec(*overrides), **given)

    return make


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser that the tests of a file share."""
    binary = shutil.which("chromium")
    if binary is None:
        missing("browser", "Chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=ARGUMENTS, timeout=PATIENCE_MS)
        yield browser
        browser.close()
