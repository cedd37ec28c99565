"""`kansearch doctor`: what is wrong with a storage, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kansearch.storage.studies import StoredStudy
from kansearch.storage.url import parse_url
from tests.commands import run_in
from tests.servers import Server

MakeStudy = Callable[..., StoredStudy]


@pytest.fixture
def storage_url(database_url: str) -> str:
    """All of this on every database."""
    return database_url


def examine(folder: Path, url: str) -> tuple[int, dict[str, str]]:
    """The exit code, and what is said of each thing."""
    done = run_in(folder, "doctor", KANSEARCH_STORAGE=url)
    assert done.stderr == ""
    lines = [re.fullmatch(r"(ok   |wrong) (\w+) +(.*)", line) for line in done.stdout.splitlines()]
    assert all(lines), done.stdout
    return done.returncode, {line[2]: f"{line[1].strip()}: {line[3]}" for line in lines if line is not None}


def execute(url: str, *statements: str) -> None:
    with create_engine(parse_url(url), poolclass=NullPool).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_storage_that_is_well(make_study: MakeStudy, storage_url: str, tmp_path: Path) -> None:
    """Everything is ok, and the reader learns what matters for more workers."""
    make_study()
    code, found = examine(tmp_path, storage_url)
    assert code == 0, found
    assert all(words.startswith("ok: ") for words in found.values())
    assert found["storage"].endswith("answers; studies: small")
    assert "all there (version 4" in found["tables"]
    assert "small would go on with" in found["workers"]
    assert found["artifacts"] == "ok: all checkpoints of open studies lie in the storage"
    if not storage_url.startswith("sqlite"):
        assert re.search(r"\d+ of \d+ connections in use", found["room"])
        assert re.search(r"a round trip takes \d+\.\d ms$", found["distance"])


def test_a_file_may_have_any_name(study_file: Path, tmp_path: Path) -> None:
    """Spaces and letters that a URL writes in another way."""
    folder = tmp_path / "für alle 100%"
    folder.mkdir()
    done = run_in(folder, "submit", study_file, KANSEARCH_STORAGE="sqlite:///kansearch.db")
    assert done.returncode == 0, done.stderr
    code, found = examine(folder, "sqlite:///kansearch.db")
    assert code == 0, found
    assert found["rights"] == "ok: file and folder may be written"


def test_an_empty_storage_is_no_trouble(storage_url: str, tmp_path: Path) -> None:
    """The next search fills it."""
    code, found = examine(tmp_path, storage_url)
    assert code == 0, found
    assert re.search("does not exist yet|studies: none yet", found["storage"])
    assert "tables" not in found


def test_a_database_in_which_nobody_may_make_tables_is_trouble(postgres: Server, tmp_path: Path) -> None:
    """Before the first search meets it."""
    url = postgres.new_database()
    database = url.rpartition("/")[2]
    postgres.execute("CREATE ROLE reader LOGIN", "REVOKE CREATE ON SCHEMA public FROM public", database=database)
    code, found = examine(tmp_path, url.replace("//kan@", "//reader@"))
    postgres.execute("DROP ROLE reader")
    assert code == 3
    assert "grant CREATE on its schema" in found["storage"]


def test_older_tables_are_said(make_study: MakeStudy, storage_url: str, tmp_path: Path) -> None:
    """They are no trouble either."""
    make_study().storage.close()
    execute(storage_url, "UPDATE kansearch_version SET version_num = '2'")
    code, found = examine(tmp_path, storage_url)
    assert code == 0, found
    assert found["tables"] == "ok: kansearch's own are of version 2; the next search brings them to 4"


@pytest.mark.parametrize(
    ("table", "version", "words"),
    [
        ("kansearch_version", "99", "tables of a newer kansearch (version 99)"),
        ("alembic_version", "v2.4.0.a", "no longer compatible with the table schema"),
    ],
)
def test_tables_of_other_versions_are_trouble(
    table: str, version: str, words: str, make_study: MakeStudy, storage_url: str, tmp_path: Path
) -> None:
    """Of a newer kansearch, or of another Optuna, which would fail in the middle of a search."""
    make_study().storage.close()
    execute(storage_url, f"UPDATE {table} SET version_num = '{version}'")
    code, found = examine(tmp_path, storage_url)
    assert code == 3
    assert words in found["storage"]


def test_artifacts_out_of_reach_are_trouble(make_study: MakeStudy, storage_url: str, tmp_path: Path) -> None:
    """The place is named."""
    study = make_study()
    study.set_budget(study.spec.budget, str(tmp_path / "gone"))
    code, found = examine(tmp_path, storage_url)
    assert code == 2
    assert (
        found["artifacts"]
        == f"wrong: artifacts {tmp_path / 'gone'} cannot be kept there: no such folder on this machine"
    )


def test_a_server_that_is_nearly_full_is_trouble(postgres: Server, tmp_path: Path) -> None:
    """Before workers meet it."""
    url = postgres.new_database()
    engine = create_engine(parse_url(url), pool_size=110)
    [[allowed]] = postgres.execute("SHOW max_connections")
    held = [engine.connect() for _ in range(int(allowed) - 8)]
    try:
        for connection in held:
            connection.execute(text("SELECT 1"))
        done = run_in(tmp_path, "submit", Path(__file__).parents[2] / "studies" / "digits.yaml", KANSEARCH_STORAGE=url)
        assert done.returncode == 0, done.stderr
        code, found = examine(tmp_path, url)
    finally:
        for connection in held:
            connection.close()
        engine.dispose()
    assert code == 3
    assert re.match(rf"wrong: \d+ of {allowed} connections are in use and a worker takes up to two", found["room"])
