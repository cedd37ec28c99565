"""What is it worth that the next trial takes a slot at once, when trials are pruned?

The same study is searched by one pack of 16 twice: refilled at every rung, and waiting until all its trials have
ended before the next 16 begin. Candidates are random, so that both train the same kind of networks. Useful is the
share of the slots' training in which they had a trial.

    .venv/bin/python benchmarks/refill/run.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from kansearch.data.splits import Split, load_split
from kansearch.search.study_pack import StudyPack
from kansearch.specs.data import DataSpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import create_study
from kansearch.storage.url import open_storage

SIZE = 16
TASKS = {"function": ("multi_sine", "rmse"), "digits": ("digits", "accuracy")}
"""Dataset and quality."""

STUDY = """
data: {{name: {data}}}
objectives: [{quality}, parameters]
budget: {{trials: 100000, epochs: 81}}
search: {{sampler: random, pruner: {{name: pareto, min_epochs: 3, reduction_factor: 3}}}}
space:
  family: kan
  depth: 2
  width: {{low: 2, high: 16}}
  base_function: gaussian
  n_basis: 4
  batch_size: 64
  learning_rate: {{low: 0.003, high: 0.03, log: true}}
"""


def search(task: str, split: Split, folder: Path, seed: int, n_trials: int, *, refill: bool) -> tuple[float, float]:
    """Trials a minute, and the share of the slots' training in which they had a trial."""
    file = folder / f"{task}-{seed}-{refill}.yaml"
    data, quality = TASKS[task]
    file.write_text(STUDY.format(data=data, quality=quality))
    spec = load_study_file(file, [f"search.seed={seed}"])
    url = f"sqlite:///{file.with_suffix('.db')}"
    study = create_study(open_storage(url), spec, digest=split.digest, data_line="", versions={})
    pack = StudyPack(study, split, size=SIZE)
    n_ended, occupied, trained = 0, 0.0, 0.0
    begin = time.perf_counter()
    while n_ended < n_trials:
        if refill or not pack.trials:
            pack.fill()
        n_trained, since = len(pack.trials), time.perf_counter()
        pack.advance()
        occupied += n_trained * (time.perf_counter() - since)
        trained += time.perf_counter() - since
        n_ended += n_trained - len(pack.trials)
    return 60 * n_ended / (time.perf_counter() - begin), occupied / (SIZE * trained)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | seed | refilled: trials a minute | useful | waiting: trials a minute | useful | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for task, (data, _) in TASKS.items():
            split = load_split(DataSpec(name=data))
            ratios = []
            for seed in range(args.repeats):
                fast, busy = search(task, split, Path(folder), seed, args.trials, refill=True)
                slow, idle = search(task, split, Path(folder), seed, args.trials, refill=False)
                ratios.append(fast / slow)
                cells = (f"{fast:,.0f}", f"{busy:.1%}", f"{slow:,.0f}", f"{idle:.1%}", f"{ratios[-1]:.1f}")
                print(f"| {task} | {seed} | {' | '.join(cells)} |", flush=True)
            print(f"| {task} | median | | | | | **{statistics.median(ratios):.1f}** |", flush=True)


if __name__ == "__main__":
    main()
