"""What does a trial cost beside its training, and what does the same cost with Optuna alone?

A study of two objectives under TPE already holds 1,000 (or 10,000) trials; then trials are drawn, created, written at
up to ten rungs, judged and ended. kansearch: a worker's own pack, on networks so small that they hardly train; what the
training itself takes is subtracted. Optuna: ask, the same suggestions, ten notes (a study of several objectives takes
no reports), tell.

    .venv/bin/python benchmarks/overhead/run.py
    .venv/bin/python benchmarks/overhead/run.py --storage postgresql://USER@HOST/DATABASE

Trials a worker has in flight share its transactions, so the cost of a trial depends on the size of its pack.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution

from kansearch.data.splits import load_split
from kansearch.search.effects import draw_params
from kansearch.search.history import to_distribution
from kansearch.search.study_pack import StudyPack
from kansearch.specs.space import Fixed
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.specs.trial import RungResult
from kansearch.storage.studies import StoredStudy, create_study, load_study
from kansearch.storage.trials import RUNG, Candidate, begin_trials, prune_write, rung_write, write
from kansearch.storage.url import open_storage

N_RUNGS = 10
STUDY = f"""
data: {{name: multi_sine, n_train: 32, n_validation: 16, n_test: 8}}
objectives: [rmse, parameters]
budget: {{trials: 1000000, epochs: {2 ** (N_RUNGS - 1)}}}
search: {{pruner: {{name: pareto, min_epochs: 1, reduction_factor: 2}}, sampler: {{name: tpe, random_fraction: 0}}}}
space:
  family: kan
  depth: {{low: 2, high: 3}}
  width: {{low: 2, high: 8, log: true}}
  base_function: [gaussian, tanh, silu, sin]
  n_basis: {{low: 2, high: 8}}
  l1: {{low: 1.0e-6, high: 1.0e-2, log: true}}
  unfreeze: [none, all_at, gradual_forward]
  batch_size: 32
  learning_rate: {{low: 0.001, high: 0.03, log: true}}
  weight_decay: {{low: 1.0e-5, high: 1.0e-1, log: true}}
  dropout: {{low: 0.0, high: 0.1}}
"""


def distributions_of(spec: StudySpec) -> dict[str, BaseDistribution]:
    """What the searched hyperparameters are drawn from."""
    return {name: to_distribution(d) for name, d in spec.space.domains.items() if not isinstance(d, Fixed)}


def fill(study: StoredStudy, n_trials: int) -> None:
    """Put pruned trials with made-up metrics into a study, as a worker would have written them."""
    spec, random = study.spec, np.random.default_rng(0)
    distributions = distributions_of(spec)
    for begin in range(0, n_trials, 100):
        drawn = [draw_params(spec, random, inside=True) for _ in range(min(100, n_trials - begin))]
        trials = begin_trials(
            study,
            [Candidate(p, {k: distributions[k] for k in p if k in distributions}, 0, 0, {}) for p in drawn],
            n_seen=len(study.trials()),
        )
        for rung in range(2):
            results = [
                RungResult(
                    slot=0,
                    rung=rung,
                    epoch=rung + 1,
                    metrics={"rmse": float(random.uniform()), "parameters": float(random.integers(20, 300))},
                    points=(),
                )
                for _ in trials
            ]
            write(study, [rung_write(study, t, r) for t, r in zip(trials, results, strict=True)])
        write(study, [prune_write(study, trial, "pruned", 0.1) for trial in trials])


def kansearch_ms(study: StoredStudy, size: int, n_trials: int) -> tuple[float, float]:
    """Milliseconds and rungs of a trial beside its training."""
    split = load_split(study.spec.data)
    trained = 0.0

    @contextmanager
    def training() -> Iterator[None]:
        nonlocal trained
        begin = time.perf_counter()
        yield
        trained += time.perf_counter() - begin

    n_before = len(study.trials())
    pack = StudyPack(study, split, size=size)
    begin = time.perf_counter()
    while max((trial.number for trial in pack.trials), default=0) < n_before + n_trials:
        pack.fill()
        pack.advance(training)
    while pack.trials:
        pack.advance(training)
    seconds = time.perf_counter() - begin - trained
    new = study.trials()[n_before:]
    rungs = sum(key.startswith(RUNG) for trial in new for key in trial.user_attrs)
    return 1000 * seconds / len(new), rungs / len(new)


def optuna_ms(url: str, filled: StoredStudy, n_trials: int) -> float:
    """Milliseconds of a trial with Optuna alone."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=url, directions=["minimize", "minimize"], study_name=f"plain-{uuid.uuid4()}")
    for trial in filled.trials()[:1000]:
        values = [float(trial.number % 97), float(trial.number % 53)]
        study.add_trial(
            optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, values=values)
        )
    distributions = distributions_of(filled.spec)
    taken = []
    for number in range(n_trials):
        begin = time.perf_counter()
        trial = study.ask()
        for name, distribution in distributions.items():
            trial._suggest(name, distribution)  # noqa: SLF001 - what its public methods call
        for epoch in range(N_RUNGS):
            trial.set_user_attr(f"epoch {epoch}", 0.5)
        study.tell(trial, [float(number % 89), float(number % 47)])
        taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", help="a storage URL; a SQLite file where it is left out")
    parser.add_argument("--existing", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument("--packs", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--trials", type=int, default=64, help="measured, after some that warm up")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(STUDY)
        url = args.storage or f"sqlite:///{folder}/study.db"
        storage = open_storage(url)
        print("| existing trials | pack | ms a trial | rungs a trial |")
        print("|---|---|---|---|")
        for existing in args.existing:
            name = f"overhead-{existing}-{uuid.uuid4()}"
            spec = load_study_file(file, [f"name={name}"])
            study = create_study(storage, spec, digest="", data_line="", versions={})
            fill(study, existing)
            study = load_study(open_storage(url), name)
            for size in args.packs:
                kansearch_ms(study, size, max(2 * size, args.trials // 4))
                ms, rungs = kansearch_ms(study, size, args.trials)
                print(f"| {existing} | {size} | {ms:.1f} | {rungs:.1f} |", flush=True)
            if existing == args.existing[0]:
                print(f"| {min(existing, 1000)} | Optuna alone | {optuna_ms(url, study, 20):.1f} | {N_RUNGS} |")


if __name__ == "__main__":
    main()
