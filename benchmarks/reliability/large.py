"""A study of 10,000 trials: what its users and its workers wait for.

A real search of a hundred trials is copied in the database, with errors that differ, until there are 10,000.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import text

from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.url import open_storage

N_REAL, N_TRIALS, N_NEW = 100, 10_000, 16

STUDY = f"""
name: large
data: {{name: multi_sine, n_train: 64, n_validation: 32, n_test: 32}}
objectives: [rmse, parameters]
budget: {{trials: {N_REAL}, epochs: 27}}
space:
  family: [mlp, kan, hybrid]
  width: {{low: 2, high: 16}}
  depth: {{low: 2, high: 3}}
  base_function: [gaussian, tanh, b_spline]
  n_basis: {{low: 4, high: 8}}
  dropout: {{low: 0.0, high: 0.2}}
  l1: {{low: 1.0e-6, high: 1.0e-2, log: true}}
  learning_rate: {{low: 0.001, high: 0.1, log: true}}
"""

COPIES = {
    "trials": "number, study_id, state, datetime_start, datetime_complete",
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "key, value_json",
    "trial_system_attributes": "key, value_json",
}
"""What is copied of each table, beside the trial."""

COPY = """INSERT INTO {table} (trial_id, {columns}) SELECT trial_id + {offset}, {selected} FROM {table}
WHERE trial_id IN (SELECT trial_id FROM trials WHERE number < {n})"""

WORSEN = """UPDATE trial_values SET value = value * (1 + (trial_id * 7919 % 9973) / 5000.0)
WHERE objective = 0 AND trial_id IN (SELECT trial_id FROM trials WHERE number >= {n})"""


def kansearch(folder: Path, url: str, *arguments: str) -> float:
    """Seconds of a command."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "kansearch", *arguments], cwd=folder, check=True, capture_output=True,
        env={**os.environ, "KANSEARCH_STORAGE": url, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return time.perf_counter() - begin


def make(folder: Path, url: str) -> None:
    """The study."""
    (folder / "large.yaml").write_text(STUDY)
    kansearch(folder, url, "submit", "large.yaml")
    kansearch(folder, url, "worker", "large")
    study = load_study(open_storage(url), "large")
    copy_trials(study)
    study.storage.close()
    kansearch(folder, url, "submit", "large.yaml", "--trials", str(N_TRIALS + N_NEW))


def copy_trials(study: StoredStudy) -> None:
    """Finished trials again and again, with other numbers and larger errors."""
    with study.storage.ledger.engine.begin() as connection:
        n = connection.execute(text("SELECT count(*) FROM trials")).scalar_one()
        for offset in range(n, N_TRIALS, n):
            for table, columns in COPIES.items():
                selected = columns.replace("number", f"number + {offset}")
                values = {"table": table, "columns": columns, "selected": selected, "offset": offset, "n": n}
                connection.execute(text(COPY.format(**values)))
        connection.execute(text(WORSEN.format(n=n)))
        if study.storage.ledger.engine.name == "postgresql":
            connection.execute(text("SELECT setval('trials_trial_id_seq', (SELECT max(trial_id) FROM trials))"))


def start(url: str) -> None:
    """Of a worker: print seconds from its imports to its first trials, and the megabytes that took."""
    import torch

    import kansearch.worker.loop  # noqa: F401 - what a worker imports
    from kansearch.search.data import load_study_split
    from kansearch.search.study_pack import StudyPack
    from kansearch.storage.workers import Presence

    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    study = load_study(open_storage(url), "large")
    with Presence(study.storage.ledger, "cpu"):
        pack = StudyPack(study, load_study_split(study.spec), 0, N_NEW)
        pack.fill()
        seconds = time.perf_counter() - begin
        assert len(pack.trials) == N_NEW
        megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        pack.hand_back("the benchmark is over")
    print(f"{seconds:.2f} {megabytes:.0f}")


def polls(folder: Path, url: str) -> list[float]:
    """Seconds in which the dashboard answers a page that opens the study, and then one that asks what is new."""
    from tests.dashboard.serving import dashboard

    seconds = []
    with dashboard(folder, KANSEARCH_STORAGE=url) as served:
        served.enter()
        for path in ("/api/studies/1", *5 * [f"/api/studies/1?after={N_TRIALS}"]):
            begin = time.perf_counter()
            assert served.ask(path).status == 200
            seconds.append(time.perf_counter() - begin)
    return seconds


def measure(folder: Path, url: str) -> dict[str, float]:
    """Seconds and megabytes, by what takes them."""
    make(folder, url)
    found = {
        "status s": min(kansearch(folder, url, "status") for _ in range(3)),
        "status NAME s": min(kansearch(folder, url, "status", "large") for _ in range(3)),
        "report s": kansearch(folder, url, "report", "large"),
    }
    first, *others = polls(folder, url)
    found |= {"dashboard opens s": first, "dashboard polls s": statistics.median(others)}
    command = [sys.executable, "-m", "benchmarks.reliability.large", url]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    seconds, megabytes = done.stdout.split()
    return {**found, "worker start s": float(seconds), "worker start MB": float(megabytes)}


if __name__ == "__main__":
    start(sys.argv[1])
