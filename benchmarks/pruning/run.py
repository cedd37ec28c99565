"""Does Pareto pruning find a better front for the same epochs?

The same study is searched with and without pruning, in one process, until the same number of epochs is spent;
then the hypervolumes of the two fronts of complete trials are compared, over several seeds.

    .venv/bin/python benchmarks/pruning/run.py --full-trainings 30 --seeds 5

Hypervolume is a share of a box that is fixed before the search, so numbers of different seeds and of both
searches compare: (error, log10 parameters) for digits, (log10 rmse, log10 parameters) for the function.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kansearch.data.splits import load_split
from kansearch.pareto import hypervolume
from kansearch.search.study_pack import StudyPack
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import create_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from kansearch.versions import versions

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Box:
    """The box whose dominated share is measured: from the ideal to the reference."""

    quality: str
    is_log: bool
    ideal: tuple[float, float]
    reference: tuple[float, float]

    def share(self, values: list[dict[str, float]]) -> float:
        losses = np.array([self._losses(v) for v in values]).reshape(-1, 2)
        size = np.array(self.reference) - np.array(self.ideal)
        return hypervolume((np.maximum(losses, self.ideal) - self.ideal) / size, [1.0, 1.0])

    def _losses(self, values: dict[str, float]) -> tuple[float, float]:
        quality = np.log10(values[self.quality]) if self.is_log else 1 - values[self.quality]
        return float(quality), float(np.log10(values["parameters"]))


BOXES = {
    # Guessing is wrong nine times of ten; the constraint of the study allows 20,000 parameters.
    "digits": Box("accuracy", False, (0.0, 2.0), (0.9, float(np.log10(20_000)))),
    # A constant has an rmse of about 0.8; the study allows 2,000 parameters.
    "function": Box("rmse", True, (-4.0, 0.5), (0.0, float(np.log10(2_000)))),
}


def search(task: str, pruner: str, seed: int, epochs: int) -> dict[str, float]:
    """One search; returns its hypervolume and what it spent."""
    overrides = [f"search.pruner.name={pruner}", f"search.seed={seed}", f"data.seed={seed}", "budget.trials=100000"]
    spec = load_study_file(ROOT / "studies" / f"{task}.yaml", overrides)
    split = load_split(spec.data)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"sqlite:///{folder}/study.db")
        study = create_study(storage, spec, digest=split.digest, data_line="", versions={})
        pack = StudyPack(study, split)
        spent, n_trials = 0, 0
        while spent < epochs:
            pack.fill()
            while pack.trials:
                pack.advance()
            records = read_records(study)
            spent, n_trials = sum(record.epochs for record in records), len(records)
        complete = [r for r in records if r.state == "complete" and r.feasible]
    return {
        "hypervolume": BOXES[task].share([dict(r.values) for r in complete]),
        "trials": n_trials,
        "complete": len(complete),
        "epochs": spent,
        "cpu_s": time.process_time() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", default=list(BOXES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--full-trainings", type=int, default=30, help="budget, in trainings that are never pruned")
    parser.add_argument("--output", type=Path, help="a JSON file for the raw numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}; " + ", ".join(f"{k} {v}" for k, v in versions().items()))
    raw = {}
    print("| task | epochs | seed | without pruning | with pruning | trials without / with | CPU s without / with |")
    print("|---|---|---|---|---|---|---|")
    for task in args.tasks:
        full = load_study_file(ROOT / "studies" / f"{task}.yaml").budget.epochs
        gains = []
        for seed in range(args.seeds):
            plain, pruned = (search(task, name, seed, args.full_trainings * full) for name in ("none", "pareto"))
            raw[f"{task}/{seed}"] = {"none": plain, "pareto": pruned}
            gains.append((plain["hypervolume"], pruned["hypervolume"]))
            print(
                f"| {task} | {args.full_trainings * full} | {seed} | {plain['hypervolume']:.4f} | "
                f"{pruned['hypervolume']:.4f} | {plain['trials']} / {pruned['trials']} | "
                f"{plain['cpu_s']:.0f} / {pruned['cpu_s']:.0f} |",
                flush=True,
            )
        columns = list(zip(*gains, strict=True))
        means = [f"**{statistics.mean(c):.4f}** ± {statistics.stdev(c) if len(c) > 1 else 0:.4f}" for c in columns]
        difference = [b - a for a, b in gains]
        wins = sum(d > 0 for d in difference)
        print(
            f"| {task} | | mean ± sd | {means[0]} | {means[1]} | better in {wins} of {len(gains)}, "
            f"by {statistics.mean(difference):+.4f} | |",
            flush=True,
        )
    if args.output:
        args.output.write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
