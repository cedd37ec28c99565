"""Storms on every database, trials a second of many workers whose trials sleep, and a study of 10,000 trials.

.venv/bin/python -m benchmarks.reliability.run [storms] [throughput] [large]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import optuna

from benchmarks.reliability.large import measure
from kansearch.storage.url import parse_url
from tests.faults.crew import create_storm, run_storm
from tests.servers import MariaDB, Postgres, Server

TRIALS = 600


def storms() -> None:
    """16 workers, 500 trials, one worker killed every 2 s."""
    for kind in (None, Postgres, MariaDB):
        with kind() if kind else nullcontext() as server, tempfile.TemporaryDirectory() as folder:
            url = server.new_database() if server else f"sqlite:///{folder}/kansearch.db"
            happened = run_storm(Path(folder), url)
        name = kind.__name__ if kind else "SQLite"
        print(f"{name:<10} all invariants held; " + ", ".join(f"{k} {v:.0f}" for k, v in happened.items()), flush=True)


def throughput() -> None:
    """Trials a second on PostgreSQL; each trial sleeps 0.2 s.

    From the end of the first 30 % of all trials, when all workers are at it, to that of 95 %.
    """
    with Postgres() as server:
        print(f"{'workers':>7} {'ours':>6} {'Optuna':>7}  trials a second")
        for n_workers in (8, 16, 32):
            print(f"{n_workers:>7} {_rate('ours', server, n_workers):>6.1f} ", end="", flush=True)
            print(f"{_rate('plain', server, n_workers):>7.1f}", flush=True)


def large() -> None:
    """A study of 10,000 trials."""
    for kind in (None, Postgres):
        with kind() if kind else nullcontext() as server, tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), server.new_database() if server else f"sqlite:///{folder}/kansearch.db")
        print(f"{kind.__name__ if kind else 'SQLite':<10} " + ", ".join(f"{k} {v:.1f}" for k, v in found.items()))


def _rate(who: str, server: Server, n_workers: int) -> float:
    url = server.new_database()
    n_trials = TRIALS if who == "ours" else TRIALS // 4
    with tempfile.TemporaryDirectory() as folder:
        if who == "ours":
            create_storm(Path(folder), url, n_trials, 1, sampler="tpe")
        else:
            # Optuna's processes cannot make their tables at once.
            optuna.create_study(
                study_name="plain",
                storage=optuna.storages.RDBStorage(parse_url(url).render_as_string(hide_password=False)),
                directions=["minimize", "minimize"],
            )
        command = [sys.executable, "-m", "benchmarks.reliability.sleeper", who, url]
        workers = [
            subprocess.Popen(
                [*command, str(n if who == "ours" else n_trials)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for n in range(n_workers)
        ]  # fmt: skip
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            worker.wait()
    rows = server.execute(
        "SELECT extract(epoch FROM datetime_complete) FROM trials WHERE state = 'COMPLETE' ORDER BY datetime_complete",
        database=url.rpartition("/")[2],
    )
    ends = [float(end) for (end,) in rows]
    first, last = int(0.3 * len(ends)), int(0.95 * len(ends))
    return (last - first) / (ends[last] - ends[first])


if __name__ == "__main__":
    for name in sys.argv[1:] or ["storms", "throughput", "large"]:
        {"storms": storms, "throughput": throughput, "large": large}[name]()
