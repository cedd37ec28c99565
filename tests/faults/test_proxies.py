"""What stands between workers and PostgreSQL where these are many: pgbouncer, and Optuna's gRPC proxy for scripts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from tests.commands import run_in
from tests.conftest import missing
from tests.servers import MissingPartError, PgBouncer, Server, free_port

from .crew import Crew, check_invariants, create_storm, n_ended

pytestmark = [pytest.mark.faults, pytest.mark.slow]

CONNECTIONS = 3


@pytest.fixture
def bouncer(postgres: Server) -> Iterator[PgBouncer]:
    """A pgbouncer with three connections to a database."""
    try:
        found = PgBouncer(postgres, CONNECTIONS)
    except MissingPartError as error:
        missing("pgbouncer", str(error))
    with found:
        yield found


def test_many_workers_share_few_connections(bouncer: PgBouncer, postgres: Server, tmp_path: Path) -> None:
    """Six workers on three connections, whose pgbouncer starts again in the middle; nothing is lost or doubled."""
    database = postgres.new_database().rpartition("/")[2]
    study = create_storm(tmp_path, bouncer.url(database), trials=36, epochs=600)
    ours = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    most = 0
    with Crew(tmp_path, bouncer.url(database), "storm", 6, "--pack", "2") as crew:
        crew.wait_until(lambda: n_ended(study) >= 6)
        bouncer.stop()
        time.sleep(3)
        bouncer.start()
        while crew.keep_up():
            most = max(most, postgres.execute(ours)[0][0])
            time.sleep(0.2)
        crew.finish()
    assert len(check_invariants(study, 36)) == 36
    assert 0 < most <= CONNECTIONS
    assert "36/36" in run_in(tmp_path, "status", KANSEARCH_STORAGE=bouncer.url(database)).stdout
    doctor = run_in(tmp_path, "doctor", KANSEARCH_STORAGE=bouncer.url(database))
    assert doctor.returncode == 0, doctor.stdout


PROXY = """
import sys
from optuna.storages import run_grpc_proxy_server
from kansearch.storage.url import open_storage
run_grpc_proxy_server(open_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""
"""As docs/service.md shows it."""

SCRIPT = """
import sys, time, optuna
from optuna.storages import GrpcStorageProxy
proxy = GrpcStorageProxy(host="127.0.0.1", port=int(sys.argv[1]))
proxy.wait_server_ready(timeout=1800)
study = optuna.load_study(study_name="storm", storage=proxy)
while len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) < int(sys.argv[2]):
    time.sleep(0.2)
print(sorted(trial.number for trial in study.best_trials))
"""


def test_scripts_watch_a_search_through_optunas_proxy(postgres: Server, tmp_path: Path) -> None:
    """They need no password of the database, and see what the workers write."""
    url = postgres.new_database()
    study = create_storm(tmp_path, url, trials=20, epochs=200)
    port = free_port()
    proxy = subprocess.Popen([sys.executable, "-c", PROXY, url, str(port)])
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port), "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with Crew(tmp_path, url, "storm", 2, "--pack", "2") as crew:
            crew.finish()
        seen, errors = script.communicate()
        assert script.returncode == 0, errors
    finally:
        for process in (proxy, script):
            process.kill()
            process.wait()
    check_invariants(study, 20)
    best = optuna.load_study(study_name="storm", storage=study.storage.ledger).best_trials
    assert json.loads(seen) == sorted(trial.number for trial in best)
