"""A worker whose trials sleep instead of training: what is left is the service. Also plain Optuna, doing the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import optuna

from kansearch.specs.trial import End, RungResult, TrialSpec
from kansearch.storage.studies import load_study
from kansearch.storage.url import open_storage, parse_url
from kansearch.worker.loop import work
from kansearch.worker.signals import StopSignals

SLEEP_S = 0.2


class SleepingPack:
    """Stands for a pack: each trial takes 0.2 s and no processor."""

    def __init__(self, *_: object, **__: object) -> None:
        self._due: dict[int, float] = {}

    def admit(self, _: TrialSpec, __: bytes | None = None) -> int:
        slot = next(slot for slot in range(len(self._due) + 1) if slot not in self._due)
        self._due[slot] = time.monotonic() + SLEEP_S
        return slot

    def advance(self, _: Callable[[], bool]) -> list[RungResult]:
        slot = min(self._due, key=self._due.__getitem__)
        time.sleep(max(0.0, self._due[slot] - time.monotonic()))
        metrics = {"rmse": 0.5 + (hash(slot + time.monotonic()) % 1000) / 2000, "parameters": 100.0}
        return [RungResult(slot=slot, rung=0, epoch=1, metrics=metrics, points=(), end=End.COMPLETED)]

    def retire(self, slot: int) -> None:
        del self._due[slot]

    def checkpoint(self, _: int) -> bytes:
        return b""

    def checkpoint_since(self, _: int) -> None:
        return None


def ours(url: str, number: int) -> None:
    """A worker of the study "storm", with one trial at a time."""
    storage = open_storage(url)
    print("ready", flush=True)
    sys.stdin.readline()
    work(load_study(storage, "storm"), number, StopSignals(), size=1, open_pack=SleepingPack)


def plain(url: str, n_trials: int) -> None:
    """Optuna's own loop: the same hyperparameters, two objectives, its default sampler."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(parse_url(url).render_as_string(hide_password=False))
    study = optuna.create_study(
        study_name="plain", storage=storage, directions=["minimize", "minimize"], load_if_exists=True
    )

    def evaluate(trial: Any) -> tuple[float, float]:
        trial.suggest_categorical("family", ["mlp", "kan"])
        width = trial.suggest_int("width", 2, 8)
        rate = trial.suggest_float("learning_rate", 0.001, 0.1, log=True)
        time.sleep(SLEEP_S)
        return rate, width

    print("ready", flush=True)
    sys.stdin.readline()
    study.optimize(evaluate, callbacks=[optuna.study.MaxTrialsCallback(n_trials)])


if __name__ == "__main__":
    who, where, number = sys.argv[1:]
    (ours if who == "ours" else plain)(where, int(number))
