"""Workers that are kept up while somebody kills them, and what must be true of their study in the end."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import optuna

from kansearch.specs.trial import TrialRecord
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.commands import Command, run_in

STORM = """
name: storm
data: {name: multi_sine, n_train: 64, n_validation: 32, n_test: 32}
objectives: [rmse, parameters]
budget: {trials: %(trials)d, epochs: %(epochs)d}
search: {pruner: {name: pareto, min_epochs: %(epochs)d}, sampler: %(sampler)s}
space:
  family: [mlp, kan]
  width: {low: 2, high: 8}
  learning_rate: {low: 0.001, high: 0.1, log: true}
  dtype: float64
"""
"""In double precision, which torch trains: in single a trial would be over before anything can happen to it."""


class Crew:
    """Worker processes of a study; whoever dies is replaced until the work is done.

    Args:
        folder: For their words.
        url: Of the storage.
        name: Of the study.
        size: How many.
        arguments: Of each.
        first: Number of the first.
        environment: Of each, beside ours.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        name: str,
        size: int,
        *arguments: str,
        first: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.is_new = environment is not None
        self.environment = {**(environment or {}), "KANSEARCH_STORAGE": url, "OMP_NUM_THREADS": "1"}
        self.folder, self.arguments = folder, ("worker", name, *arguments)
        self.words = folder / "words"
        self.words.touch()
        self.workers: dict[int, Command] = {}
        self.n_killed = 0
        self.statuses: list[int] = []
        for number in range(first, first + size):
            self._start(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.end()

    def keep_up(self) -> bool:
        """Replace whoever was killed; returns whether anybody works."""
        for number, worker in list(self.workers.items()):
            status = worker.poll()
            if status is None:
                continue
            self.workers.pop(number).end()
            if status == -signal.SIGKILL:
                self._start(number)
            else:
                self.statuses.append(status)
        return bool(self.workers)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Let all work until something is so."""
        while not is_so():
            assert self.keep_up(), self.words.read_text()[-2000:]
            time.sleep(0.2)

    def finish(self) -> None:
        """Let all work to the end, at which they are content."""
        while self.keep_up():
            time.sleep(0.2)
        assert set(self.statuses) == {0}, self.words.read_text()[-2000:]

    def kill_one(self, dice: random.Random) -> None:
        """Kill one of those that work."""
        dice.choice(list(self.workers.values())).kill()
        self.n_killed += 1

    def _start(self, number: int) -> None:
        command = (*self.arguments, "--number", number)
        self.workers[number] = Command(
            self.folder, *command, environment=self.environment, words=self.words, is_new=self.is_new
        )


def create_storm(
    folder: Path, url: str, trials: int, epochs: int, sampler: str = "random", *arguments: str
) -> StoredStudy:
    """A study of small networks; `submit` gets more arguments."""
    (folder / "storm.yaml").write_text(STORM % {"trials": trials, "epochs": epochs, "sampler": sampler})
    done = run_in(folder, "submit", "storm.yaml", *arguments, KANSEARCH_STORAGE=url)
    assert done.returncode == 0, done.stderr
    return load_study(open_storage(url), "storm")


def n_ended(study: StoredStudy) -> int:
    """Trials that count and ended."""
    counts = study.counts()
    return counts["complete"] + counts["pruned"]


def check_invariants(study: StoredStudy, budget: int) -> tuple[TrialRecord, ...]:
    """`check_records`, and the front is the best there is."""
    records = read_records(study)
    check_records(records, budget)
    check_front(study, records)
    return records


def check_records(records: tuple[TrialRecord, ...], budget: int) -> None:
    """The budget is exact, nobody is left running, nothing was trained to two ends or failed by itself."""
    states = Counter(record.state for record in records)
    assert states["complete"] + states["pruned"] == budget, states
    assert set(states) <= {"complete", "pruned", "fail"}, states
    assert [record.number for record in records] == list(range(len(records)))
    ends = Counter(str(sorted(record.params.items())) for record in records if record.state != "fail")
    assert max(ends.values()) == 1
    reasons = {record.reason for record in records if record.state == "fail"}
    assert reasons <= {"its worker died", "its worker was asked to stop"}


def check_front(study: StoredStudy, records: tuple[TrialRecord, ...]) -> None:
    """As Optuna finds it in the raw records, and as we do."""
    from kansearch.report.progress import front_of, objectives_of

    ours = front_of(records, objectives_of(study.spec.objectives, records))
    theirs = optuna.load_study(study_name=study.spec.name, storage=study.storage.ledger).best_trials
    values = {tuple(record.values[name] for name in study.spec.objectives) for record in ours}
    assert values == {tuple(trial.values) for trial in theirs}


def run_storm(
    folder: Path, url: str, *, workers: int = 16, trials: int = 500, epochs: int = 100, kill_every_s: float = 2.0
) -> dict[str, float]:
    """Workers of a study of which one is killed now and then; returns what happened, after all checks."""
    study = create_storm(folder, url, trials, epochs)
    dice, begin = random.Random(0), time.monotonic()
    next_kill = begin + kill_every_s
    with Crew(folder, url, "storm", workers, "--pack", "2") as crew:
        while crew.keep_up():
            if time.monotonic() >= next_kill and len(crew.workers) == workers:
                crew.kill_one(dice)
                next_kill += kill_every_s
            time.sleep(0.1)
        crew.finish()
        records = check_invariants(study, trials)
    failed = sum(record.state == "fail" for record in records)
    return {"seconds": time.monotonic() - begin, "killed": crew.n_killed, "failed trials": failed}
