"""Are the networks that kansearch finds as good as what people use on tables?

Each of ten real tables goes through `kansearch init TABLE --target COLUMN` and `kansearch optimize` with no edit, for
several splits of its rows. The
network that is best on the validation rows is measured on the test rows, once, beside gradient boosting, a random
forest, support vectors and a linear model of scikit-learn: trained on the same rows, as kansearch encodes them, and
chosen from a small grid by the same validation rows.

    .venv/bin/python -m benchmarks.tables.run                          # all ten
    .venv/bin/python -m benchmarks.tables.run --tables OJ Wage --folder /tmp/tables
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC, SVR

from benchmarks.tables.sets import TABLES, write_table
from kansearch.cli.again import network_of
from kansearch.data.splits import Split, load_test
from kansearch.report.comparison import best_of
from kansearch.report.progress import front_of, objectives_of
from kansearch.specs.metrics import Task
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage

KANSEARCH = [sys.executable, "-m", "kansearch"]
MANY = 20_000
"""Rows from which support vectors and forests take one setting instead of a grid: they would take hours."""


def grids(task: Task, n_rows: int) -> dict[str, list[Any]]:
    """What is beside the networks, each with its settings."""
    is_class = task is Task.CLASSIFICATION
    boosting = HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
    forest = RandomForestClassifier if is_class else RandomForestRegressor
    vectors = SVC if is_class else SVR
    found = {
        "boosting": [
            boosting(learning_rate=rate, max_leaf_nodes=leaves, max_iter=steps, early_stopping=False, random_state=0)
            for rate in (0.03, 0.1)
            for leaves in (7, 31)
            for steps in (100, 300)
        ],
        "forest": [
            forest(n_estimators=300, min_samples_leaf=leaf, max_features=share, random_state=0)
            for share in (1.0, "sqrt")
            for leaf in (1, 3)
        ],
        "vectors": [vectors(C=cost, gamma=gamma) for cost in (10, 1, 100) for gamma in ("scale", 0.03)],
        "linear": [
            LogisticRegression(C=strength, max_iter=2000) if is_class else Ridge(alpha=strength)
            for strength in (0.01, 0.1, 1, 10, 100)
        ],
    }
    if n_rows > MANY:
        found |= {name: found[name][:1] for name in ("forest", "vectors")}
    return found


def error_of(split: Split) -> Callable[[np.ndarray, np.ndarray], float]:
    """Share of wrong answers, or root mean square in the target's own unit."""
    if split.task is Task.CLASSIFICATION:
        return lambda answers, true: float((answers != true).mean())
    return lambda answers, true: float(np.sqrt(np.mean((answers - true) ** 2))) * split.target_scale


def run(folder: Path, *arguments: str) -> None:
    """A command in a folder, as a user gives it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*KANSEARCH, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def row(name: str, folder: Path, workers: int, seed: int) -> dict[str, float]:
    """Test errors of one table, split by a seed."""
    table = write_table(name, folder)
    study_file, url = folder / f"{name}.yaml", f"sqlite:///{folder / name}.db"
    begin = time.monotonic()
    run(folder, "init", str(table), "--target", TABLES[name].target, "--force")
    (folder / f"{name}.db").unlink(missing_ok=True)
    split_by = ("--set", f"data.seed={seed}")
    run(folder, "optimize", str(study_file), "--storage", url, "--workers", str(workers), *split_by)
    seconds = time.monotonic() - begin

    study = load_study(open_storage(url), name)
    records = read_records(study)
    objectives = objectives_of(study.spec.objectives, records)
    best = best_of(front_of(records, objectives), objectives[0])
    if best is None:
        raise RuntimeError(f"no trial of {name} is complete")
    network, _, split, _ = network_of(study, best)
    test = load_test(study.spec.data)
    network.eval()
    with torch.no_grad():
        outputs = network(test.x).numpy()
    error = error_of(split)
    true = test.y.numpy().ravel()
    answers = outputs.argmax(1) if split.task is Task.CLASSIFICATION else outputs.ravel()
    errors = {"kansearch": error(answers, true)}
    x, y = split.train_x.numpy(), split.train_y.numpy().ravel()
    for kind, models in grids(split.task, len(x)).items():
        fitted = [model.fit(x, y) for model in models]
        judged = [
            error(model.predict(split.validation_x.numpy()), split.validation_y.numpy().ravel()) for model in fitted
        ]
        errors[kind] = error(fitted[int(np.argmin(judged))].predict(test.x.numpy()), true)
    return {**errors, "seconds": seconds, "trials": len(records)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--folder", type=Path, help="for wheels, studies and storages, which are kept")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the splits, over which errors are averaged"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| table | kansearch | boosting | forest | vectors | linear | beside the best of these | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        n_better = n_near = 0
        for name in options.tables:
            rows = [row(name, folder.absolute(), options.workers, seed) for seed in options.seeds]
            errors = {key: statistics.fmean(each[key] for each in rows) for key in rows[0]}
            others = [errors[kind] for kind in ("boosting", "forest", "vectors", "linear")]
            ours, best = errors["kansearch"], min(others)
            n_better += ours < best
            n_near += ours <= 1.03 * best
            beside = f"{ours / best - 1:+.1%}" if best else ("as good" if ours == best else "worse")
            cells = [f"{value:.4g}" for value in (ours, *others)]
            print(f"| `{name}` | {' | '.join(cells)} | {beside} | {errors['seconds']:.0f} |", flush=True)
    print(f"\nbetter than the best of the four: {n_better}; within 3 %: {n_near}; of {len(options.tables)}")


if __name__ == "__main__":
    main()
