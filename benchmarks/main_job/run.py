"""What does a user get from a core: the shipped studies through `kansearch optimize`, beside the script people write?

Each search runs in a process of its own with one thread and one worker, for the same CPU seconds, the imports and
everything else included. Both sides pass over the validation rows after each epoch and draw widths and depths from the
study's space; the script (benchmarks/main_job/script.py) draws plain networks, efficient-kan's and FastKAN's layers.

    .venv/bin/python -m benchmarks.main_job.run                        # all studies, 3 seeds, 300 CPU seconds each
    .venv/bin/python -m benchmarks.main_job.run --studies digits --seeds 0 --seconds 60

Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from kansearch.report.progress import GrowingFront, objectives_of, unit_vector
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage

ROOT = Path(__file__).parents[2]
STUDIES = ("digits", "function", "breast_cancer", "tabular_csv")
SIDES = ("kansearch", "loader", "tensors")
MANY = 100_000
"""Trials that no search reaches in its seconds."""

TICK = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.1


@dataclass(frozen=True)
class Search:
    """What a search did in its seconds.

    Attributes:
        cpu: Seconds of all its processes.
        epochs: That it trained.
        trials: That it ended.
        ends: CPU seconds and objective values of each feasible trial that was trained to its end, in order.
    """

    cpu: float
    epochs: int
    trials: int
    ends: tuple[tuple[float, dict[str, float]], ...]


def cpu_seconds(pid: int) -> float:
    """Of a process and its children, those that ended included."""
    total = 0.0
    for process in family(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / TICK  # its own and its ended children's, in user and kernel mode
    return total


def family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def kansearch(study_file: Path, seed: int, seconds: float) -> Search:
    """The command with one worker, stopped as a person stops it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kansearch", "optimize", str(study_file), "--name", "job", "--workers", "1"]
        command += ["--seed", str(seed), "--trials", str(MANY)]
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        looks = [(time.time(), 0.0)]
        while looks[-1][1] < seconds and process.poll() is None:
            time.sleep(LOOK_S)
            looks.append((time.time(), max(looks[-1][1], cpu_seconds(process.pid))))
        process.terminate()  # what Ctrl-C is too, also where this runs in the background
        process.wait()
        study = load_study(open_storage(f"sqlite:///{folder}/kansearch.db"), "job")
        records = read_records(study)
        ended = {trial.number: trial.datetime_complete for trial in study.trials()}
    clock, spent = np.array(looks).T
    done = [record for record in records if record.state in ("complete", "pruned")]
    ends = [
        (float(np.interp(when.timestamp(), clock, spent)), record.values)
        for record in done
        if record.state == "complete" and record.feasible and (when := ended[record.number]) is not None
    ]
    epochs = sum(record.epochs_spent for record in records)
    return Search(looks[-1][1], epochs, len(done), tuple(sorted(ends, key=lambda end: end[0])))


def script(study_file: Path, seed: int, seconds: float, way: str) -> Search:
    """The script, with a DataLoader or with bare tensors."""
    command = [sys.executable, "-m", "benchmarks.main_job.script", str(study_file), str(seed), str(seconds), way]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = load_study_file(study_file, []).objectives
    ends = tuple((line["cpu"], dict(zip(names, line["values"], strict=True))) for line in lines if line["feasible"])
    return Search(lines[-1]["cpu"], sum(line["epochs"] for line in lines), len(lines), ends)


def environment() -> dict[str, str]:
    """One thread, and nothing of ours that decides how a search runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KANSEARCH_")}
    return {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def volumes(searches: Sequence[Search], spec: StudySpec) -> list[list[tuple[float, float]]]:
    """Of each search the hypervolume (of one objective: its share of the way from worst to best) over CPU seconds.

    In the box that the trials of all of them span.
    """
    trials = [SimpleNamespace(state="complete", feasible=True, values=v) for s in searches for _, v in s.ends]
    objectives = objectives_of(spec.objectives, trials)  # type: ignore[arg-type]
    found = []
    for search in searches:
        front = GrowingFront(len(objectives))
        steps = []
        for cpu, values in search.ends:
            front.add(unit_vector(values, objectives))
            steps.append((cpu, front.volume))
        found.append(steps)
    return found


def reached(steps: Sequence[tuple[float, float]], volume: float) -> float | None:
    """CPU seconds after which a search had that hypervolume; None where it never had."""
    return next((cpu for cpu, here in steps if here >= volume), None)


def table(folder: Path) -> Path:
    """The table for studies/tabular_csv.yaml: 4,000 rows, 12 columns, two of them categories, two classes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 10))
    colour, shape = rng.integers(0, 4, 4000), rng.integers(0, 3, 4000)
    score = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * (colour == 1) - 0.7 * (shape == 2) * x[:, 3]
    target = (score + 0.5 * rng.normal(size=4000) > 0).astype(int)
    names = [f"x{i}" for i in range(10)]
    lines = [",".join(["id", *names, "colour", "shape", "target"])]
    for row in range(4000):
        numbers = ",".join(f"{value:.6f}" for value in x[row])
        lines.append(f"{row},{numbers},{'rgby'[colour[row]]},{'abc'[shape[row]]},{target[row]}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    study = folder / "tabular_csv.yaml"
    study.write_text((ROOT / "studies/tabular_csv.yaml").read_text())
    return study


def measure(name: str, study_file: Path, seeds: Sequence[int], seconds: float) -> None:
    """Print the table of a study."""
    spec = load_study_file(study_file, [])
    runs: dict[str, list[Search]] = {side: [] for side in SIDES}
    for seed in seeds:
        runs["kansearch"].append(kansearch(study_file, seed, seconds))
        for way in SIDES[1:]:
            runs[way].append(script(study_file, seed, seconds, way))
    steps = dict(zip(SIDES, np.array_split(np.arange(3 * len(seeds)), 3), strict=True))
    found = volumes([search for side in SIDES for search in runs[side]], spec)
    rates = {side: statistics.median(s.epochs / s.cpu for s in runs[side]) for side in SIDES}
    for side in SIDES:
        mine = [found[index] for index in steps[side]]
        last = statistics.median(s[-1][1] if s else 0.0 for s in mine)
        faster: list[Any] = []
        for ours, theirs in zip([found[index] for index in steps["kansearch"]], mine, strict=True):
            when = reached(ours, theirs[-1][1]) if theirs else None
            faster.append(theirs[-1][0] / when if when else float("nan"))
        factor = "" if side == "kansearch" else f"{statistics.median(faster):.1f}"
        ratio = "" if side == "kansearch" else f"**{rates['kansearch'] / rates[side]:.1f}**"
        trials = statistics.median(60 * s.trials / s.cpu for s in runs[side])
        print(f"| {name} | {side} | {rates[side]:.1f} | {ratio} | {trials:.0f} | {last:.3f} | {factor} |", flush=True)


def main() -> None:
    """Print the tables of all studies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds of each search")
    args = parser.parse_args()
    print(
        f"{platform.machine()}, torch {torch.__version__}; medians of {len(args.seeds)} seeds, {args.seconds:g} CPU s"
    )
    print("| study | side | epochs / CPU s | kansearch / side | trials / CPU min | hypervolume | time to it |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.studies:
            path = table(Path(folder)) if name == "tabular_csv" else ROOT / "studies" / f"{name}.yaml"
            measure(name, path, args.seeds, args.seconds)


if __name__ == "__main__":
    main()
