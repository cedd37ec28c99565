"""What does a user get from a core: the shipped studies through `kansearch optimize`, beside the script people write?

Each search runs in a process of its own with one thread and one worker, for the same CPU seconds, the imports and
everything else included. Both sides pass over the validation rows after each epoch and draw widths and depths from the
study's space; the script (benchmarks/main_job/script.py) draws plain networks, efficient-kan's and FastKAN's layers.
Where the time of a worker goes is looked at in a run of its own (benchmarks/main_job/shares.py).

    .venv/bin/python -m benchmarks.main_job.run                        # all studies, 3 seeds, 300 CPU seconds each
    .venv/bin/python -m benchmarks.main_job.run --studies digits --seeds 0 --seconds 60 --watched 20

Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.main_job.script import LAYERS
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.report.progress import GrowingFront, objectives_of, unit_vector
from kansearch.search.data import load_study_split
from kansearch.search.pack_size import pack_size
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from kansearch.training.pack import CPU

ROOT = Path(__file__).parents[2]
STUDIES = ("digits", "function", "breast_cancer", "tabular_csv")
SUBJECTS = ("drawing", "training", "writing", "start", "rest")
SIDES = ("kansearch", "loader", "tensors")
MANY = 100_000
"""Trials that no search reaches in its seconds."""

MARKS_S = (10, 30, 100, 300)
"""CPU seconds at which hypervolumes are shown."""

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
        layers: Epochs and seconds of the networks with each kind of layer, where they were trained one by one.
    """

    cpu: float
    epochs: int
    trials: int
    ends: tuple[tuple[float, dict[str, float]], ...]
    layers: Mapping[str, tuple[int, float]] = field(default_factory=dict)


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
        command = [sys.executable, "-m", "kansearch", "optimize", *job(study_file, seed), "--workers", "1"]
        command += ["--pack", str(shipped_pack(study_file))]
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


def job(study_file: Path, seed: int) -> list[str]:
    """Arguments of a study that does not end by itself."""
    return [str(study_file), "--name", "job", "--seed", str(seed), "--trials", str(MANY)]


def shipped_pack(study_file: Path) -> int:
    """The size that packs have with the study's own budget, which is a part of what a user gets."""
    spec = load_study_file(study_file, [])
    return pack_size(spec, load_study_split(spec), CPU)


def shares(study_file: Path, seconds: float) -> dict[str, float]:
    """For what a worker of the study uses its CPU time, as shares of it."""
    with tempfile.TemporaryDirectory() as folder:
        at = ["--storage", f"sqlite:///{folder}/kansearch.db"]
        submit = [sys.executable, "-m", "kansearch", "submit", *job(study_file, 0), *at]
        subprocess.run(submit, cwd=folder, env=environment(), capture_output=True, check=True)
        worker = [sys.executable, "-m", "benchmarks.main_job.shares", str(seconds), "worker", "job", *at]
        worker += ["--pack", str(shipped_pack(study_file))]
        done = subprocess.run(
            worker, cwd=ROOT, env=environment() | WORKER_ENVIRONMENT, capture_output=True, text=True, check=False
        )  # its exit code says that it was asked to stop
    spent: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {name: of_subject / sum(spent.values()) for name, of_subject in spent.items()}


def script(study_file: Path, seed: int, seconds: float, way: str) -> Search:
    """The script, with a DataLoader or with bare tensors."""
    command = [sys.executable, "-m", "benchmarks.main_job.script", str(study_file), str(seed), str(seconds), way]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = load_study_file(study_file, []).objectives
    ends = tuple((line["cpu"], dict(zip(names, line["values"], strict=True))) for line in lines if line["feasible"])
    layers = {
        name: (sum(line["epochs"] for line in of_layer), sum(line["seconds"] for line in of_layer))
        for name in LAYERS
        if (of_layer := [line for line in lines if line["layer"] == name])
    }
    return Search(lines[-1]["cpu"], sum(line["epochs"] for line in lines), len(lines), ends, layers)


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


def reached(steps: Sequence[tuple[float, float]], volume: float) -> float:
    """CPU seconds after which a search had that hypervolume; infinite where it never had."""
    return next((cpu for cpu, here in steps if here >= volume), math.inf)


def volume_at(steps: Sequence[tuple[float, float]], seconds: float) -> float:
    """The hypervolume of a search after so many CPU seconds."""
    return max((here for cpu, here in steps if cpu <= seconds), default=0.0)


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


def marks(seconds: float) -> list[float]:
    """CPU seconds at which hypervolumes are shown, the end among them."""
    return [*(mark for mark in MARKS_S if mark < seconds), seconds]


def measure(name: str, study_file: Path, seeds: Sequence[int], seconds: float, jobs: int) -> dict[str, list[Search]]:
    """Search a study, so many searches at once, and print what each side made of it."""
    spec = load_study_file(study_file, [])

    def search(of: tuple[int, str]) -> Search:
        seed, side = of
        if side == "kansearch":
            return kansearch(study_file, seed, seconds)
        return script(study_file, seed, seconds, side)

    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(search, [(seed, side) for seed in seeds for side in SIDES]))
    runs = {side: done[place :: len(SIDES)] for place, side in enumerate(SIDES)}
    found = iter(volumes([search for side in SIDES for search in runs[side]], spec))
    steps = {side: [next(found) for _ in seeds] for side in SIDES}
    rates = {side: statistics.median(s.epochs / s.cpu for s in runs[side]) for side in SIDES}
    for side in SIDES:
        trials = statistics.median(60 * s.trials / s.cpu for s in runs[side])
        at_marks = [statistics.median(volume_at(s, mark) for s in steps[side]) for mark in marks(seconds)]
        cells = [name, side, f"{rates[side]:.1f}", "", f"{trials:.0f}", *(f"{volume:.3f}" for volume in at_marks), ""]
        if side != "kansearch":
            cells[3] = f"**{rates['kansearch'] / rates[side]:.1f}**"
            ends = [volume_at(theirs, seconds) for theirs in steps[side]]
            pairs = zip(steps["kansearch"], steps[side], ends, strict=True)
            sooner = [reached(theirs, end) / reached(ours, end) for ours, theirs, end in pairs if end]
            factor = statistics.median(sooner) if sooner else math.nan
            cells[-1] = f"**{factor:.1f}**" if factor else "later"
        print(f"| {' | '.join(cells)} |", flush=True)
    return runs


def show_layers(name: str, side: str, searches: Sequence[Search]) -> None:
    """Print how fast the script trains networks with each kind of layer."""
    cells = []
    for layer in LAYERS:
        known = [search.layers[layer] for search in searches if layer in search.layers]
        seconds = sum(seconds for _, seconds in known)
        cells.append(f"{sum(epochs for epochs, _ in known) / seconds:.0f}" if seconds else "")
    print(f"| {name} | {side} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables of all studies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds of each search")
    parser.add_argument("--jobs", type=int, default=1, help="searches at once, each on a core of its own")
    parser.add_argument("--watched", type=float, default=60.0, help="CPU seconds of the worker that is looked at")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own = {"tabular_csv": table(Path(folder))}
        files = {name: own.get(name, ROOT / "studies" / f"{name}.yaml") for name in args.studies}
        medians = f"medians of {len(args.seeds)} seeds, {args.seconds:g} CPU s"
        print(f"{platform.machine()}, torch {torch.__version__}; {medians}\n")
        titles = ["study", "side", "epochs / CPU s", "kansearch / side", "trials / CPU min"]
        titles += [*(f"hypervolume, {mark:g} s" for mark in marks(args.seconds)), "sooner"]
        print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
        runs = {name: measure(name, path, args.seeds, args.seconds, args.jobs) for name, path in files.items()}
        print(f"\n| study | epochs / CPU s of | {' | '.join(LAYERS)} |\n|{'---|' * (2 + len(LAYERS))}", flush=True)
        for name in files:
            for side in SIDES[1:]:
                show_layers(name, side, runs[name][side])
        print(f"\n| study | pack | {' | '.join(SUBJECTS)} |\n|{'---|' * (2 + len(SUBJECTS))}", flush=True)
        for name, path in files.items():
            spent = shares(path, args.watched)
            cells = [f"{spent.get(subject, 0):.0%}" for subject in SUBJECTS]
            print(f"| {name} | {shipped_pack(path)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
