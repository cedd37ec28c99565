"""Databases that refuse us or lost something, and checkpoints that are damaged: one clear line, and no loss."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records
from kansearch.storage.url import parse_url
from tests.commands import run_in
from tests.servers import TABLES, Server

from .crew import Crew, create_storm

pytestmark = pytest.mark.faults


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    """A database server of every kind."""
    found: Server = request.getfixturevalue(request.param)
    return found


@contextlib.contextmanager
def guest(server: Server, database: str) -> Iterator[None]:
    """Somebody with a password who may read and nothing else."""
    if server.scheme == "postgresql":
        server.execute(
            "CREATE ROLE guest LOGIN PASSWORD 'hunter2'",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest",
            database=database,
        )
        yield
        server.execute("DROP OWNED BY guest", "DROP ROLE guest", database=database)
    else:
        server.execute(
            "CREATE USER guest@'127.0.0.1' IDENTIFIED BY 'hunter2'",
            f"GRANT SELECT ON {database}.* TO guest@'127.0.0.1'",
        )
        yield
        server.execute("DROP USER guest@'127.0.0.1'")


@pytest.mark.parametrize("table", ["kansearch_trial_checkpoints", "kansearch_workers", "trial_values", "version_info"])
def test_a_table_that_is_gone_is_named(table: str, server: Server, tmp_path: Path) -> None:
    """By everybody, with the operator's exit code; nothing is put in its place."""
    url = server.new_database()
    create_storm(tmp_path, url, trials=4, epochs=20)
    database = url.rpartition("/")[2]
    server.execute(f"DROP TABLE {table}", database=database)
    for arguments in (("worker", "storm"), ("status",), ("submit", "storm.yaml"), ("doctor",)):
        done = run_in(tmp_path, *arguments, KANSEARCH_STORAGE=url)
        words = done.stdout.splitlines()[-1] if arguments == ("doctor",) else done.stderr
        assert done.returncode == 3, done.stderr
        assert f"lacks tables that it had: {table}; restore a backup" in words
        assert words.count("\n") <= 1
    assert table not in {row[0] for row in server.execute(TABLES.format(database), database=database)}


def test_revoked_rights_are_said(server: Server, tmp_path: Path) -> None:
    """A worker that may read and no longer write ends at once, and its words hold no password."""
    url = server.new_database()
    database = url.rpartition("/")[2]
    create_storm(tmp_path, url, trials=4, epochs=20)
    with guest(server, database):
        url = url.replace("//kan@", "//guest:hunter2@")
        done = run_in(tmp_path, "worker", "storm", KANSEARCH_STORAGE=url)
        assert done.returncode == 3, done.stderr
        assert "denied" in done.stderr
        assert "hunter2" not in done.stderr
        assert done.stderr.count("\n") == 1
        doctor = run_in(tmp_path, "doctor", KANSEARCH_STORAGE=url)
        assert doctor.returncode == 3
        assert "wrong rights" in doctor.stdout
        assert "denied" in doctor.stdout
        assert "hunter2" not in doctor.stdout


def test_forgotten_sequences_are_said(postgres: Server, tmp_path: Path) -> None:
    """Whoever grants rights on tables forgets these; no trial could be created."""
    url = postgres.new_database()
    database = url.rpartition("/")[2]
    create_storm(tmp_path, url, trials=4, epochs=20)
    with guest(postgres, database):
        postgres.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest", database=database)
        url = url.replace("//kan@", "//guest:hunter2@")
        doctor = run_in(tmp_path, "doctor", KANSEARCH_STORAGE=url)
        assert doctor.returncode == 3
        assert "permission denied for the sequences" in doctor.stdout
        assert "trials_trial_id_seq" in doctor.stdout


def test_a_wrong_password_is_said_at_once(server: Server, tmp_path: Path) -> None:
    """Whoever would wait for a database does not wait for that."""
    url = server.new_database()
    create_storm(tmp_path, url, trials=4, epochs=20)
    with guest(server, url.rpartition("/")[2]):
        url = url.replace("//kan@", "//guest:hunter3@")
        for arguments in (("worker", "storm"), ("status",), ("optimize", "storm.yaml")):
            done = run_in(tmp_path, *arguments, KANSEARCH_STORAGE=url)
            assert done.returncode == 3
            assert "cannot be opened" in done.stderr
            assert "guest" in done.stderr
            assert "hunter" not in done.stderr + done.stdout
            assert done.stderr.count("\n") == 1


def damage_rows(study: StoredStudy, _folder: Path) -> None:
    """Checkpoints in the database, with a byte that changed."""
    engine = create_engine(parse_url(str(study.storage.ledger.engine.url)), poolclass=NullPool)
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT trial_id, state FROM kansearch_trial_checkpoints")).all()
        assert rows
        for trial_id, state in rows:
            torn = state[:-1000] + bytes([state[-1000] ^ 1]) + state[-999:]
            connection.execute(
                text("UPDATE kansearch_trial_checkpoints SET state = :state WHERE trial_id = :id"),
                {"state": torn, "id": trial_id},
            )


def damage_files(_study: StoredStudy, folder: Path) -> None:
    """Artifacts that a disk has cut short."""
    files = list(folder.iterdir())
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-1000])


def remove_files(_study: StoredStudy, folder: Path) -> None:
    """Artifacts that somebody has removed."""
    files = list(folder.iterdir())
    assert files
    for file in files:
        file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_rows, damage_files, remove_files])
def test_a_damaged_checkpoint_costs_its_trial_a_new_beginning(
    damage: Callable[[StoredStudy, Path], None], tmp_path: Path
) -> None:
    """And nothing else: the trial ends as it would have, its reason says what was wrong, nothing is left behind."""
    url = f"sqlite:///{tmp_path}/kansearch.db"
    folder, apart = tmp_path / "apart", damage is not damage_rows
    wide = ["--set", "space.family=mlp", "--set", "space.width=400", "--set", "space.depth=3", "--artifacts", folder]
    study = create_storm(tmp_path, url, 2, 400 if apart else 3000, "random", *(map(str, wide) if apart else ()))
    with Crew(tmp_path, url, "storm", 1, "--pack", "2") as crew:
        crew.wait_until(lambda: [record.state for record in read_records(study)] == ["running"] * 2)
        time.sleep(1)  # some epochs
        crew.workers[0].send_signal(signal.SIGTERM)
        while crew.keep_up():
            time.sleep(0.1)
    assert any(record.resumed_at > 0 for record in read_records(study) if record.state == "waiting")
    damage(study, folder)
    assert run_in(tmp_path, "worker", "storm", "--pack", 2, KANSEARCH_STORAGE=url).returncode == 0
    records = read_records(study)
    reasons = [record.reason for record in records if record.state == "fail"]
    assert reasons[:2] == ["its worker was asked to stop"] * 2
    assert set(reasons[2:]) == {f"its checkpoint is {'gone' if damage is remove_files else 'damaged'}"}
    assert [record.state for record in records if record.state != "fail"] == ["complete"] * 2
    assert not folder.exists() or not list(folder.iterdir())
