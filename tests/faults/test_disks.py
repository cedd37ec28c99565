"""Disks that are full, and databases that lost something: no loss, no half file, one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server

from .crew import create_storm

pytestmark = pytest.mark.faults

PATIENCE_S = 90


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for sixteen megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only the superuser of a whole system may make small disks")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def kansearch(folder: Path, url: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kansearch", *map(str, arguments)], cwd=folder, timeout=PATIENCE_S, check=False,
        env={**os.environ, "KANSEARCH_STORAGE": url}, capture_output=True, text=True,
    )  # fmt: skip


def test_a_report_for_which_there_is_no_room_leaves_the_last_one(small_disk: Path, tmp_path: Path) -> None:
    """Whole as it was, with nothing half beside it."""
    url = f"sqlite:///{tmp_path}/kansearch.db"
    create_storm(tmp_path, url, trials=4, epochs=20)
    assert kansearch(tmp_path, url, "worker", "storm").returncode == 0
    assert kansearch(tmp_path, url, "report", "storm", "--output", small_disk / "report").returncode == 0
    before = {path.name: path.read_bytes() for path in (small_disk / "report").iterdir()}
    filler = fill(small_disk)
    done = kansearch(tmp_path, url, "report", "storm", "--output", small_disk / "report")
    filler.unlink()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "No space left on device" in done.stderr
    assert {path.name: path.read_bytes() for path in (small_disk / "report").iterdir()} == before


@pytest.mark.parametrize("table", ["kansearch_trial_checkpoints", "kansearch_workers"])
def test_a_table_that_is_gone_is_named(table: str, postgres: Server, tmp_path: Path) -> None:
    """By a worker that ends at once with the operator's exit code."""
    url = postgres.new_database()
    create_storm(tmp_path, url, trials=4, epochs=20)
    postgres.execute(f"DROP TABLE {table}", database=url.rpartition("/")[2])
    done = kansearch(tmp_path, url, "worker", "storm")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert "the storage failed" in done.stderr
    assert table in done.stderr


def test_revoked_rights_are_said(postgres: Server, tmp_path: Path) -> None:
    """A worker that may read and no longer write ends at once, and its words hold no password."""
    url = postgres.new_database()
    database = url.rpartition("/")[2]
    create_storm(tmp_path, url, trials=4, epochs=20)
    postgres.execute(
        "DROP ROLE IF EXISTS guest",
        "CREATE ROLE guest LOGIN PASSWORD 'secret'",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest",
        database=database,
    )
    done = kansearch(tmp_path, url.replace("//kan@", "//guest:secret@"), "worker", "storm")
    postgres.execute("DROP OWNED BY guest", database=database)
    assert done.returncode == 3, done.stderr
    assert "permission denied" in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1
