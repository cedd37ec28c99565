"""The search that people write by hand: Optuna's TPE, one network at a time, the layers of the field.

It searches family, depth, width, rate, decay and dropout of a study's space, trains every trial for all of the study's
epochs (or until its patience ends), looks at the validation rows after each, and keeps its trials in an SQLite file, as
Optuna's tutorials do. Networks with too many parameters are not trained. A line of JSON is printed for each trial.

It does so in one of two ways: `loader` is what tutorials show, a DataLoader and AdamW as they come; `tensors` is what
somebody writes who measured it, bare tensors and AdamW in its fused form.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.others import Radial, Splines
from kansearch.data.splits import Split
from kansearch.search.data import load_study_split
from kansearch.specs.space import Choice, Fixed, Range
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import optuna_directions

LAYERS: dict[str, Callable[[int, int], nn.Module]] = {"mlp": nn.Linear, "b_spline": Splines, "rbf": Radial}
"""The layers of each of the script's families: plain, efficient-kan's and FastKAN's."""

SEARCHED = {
    "depth": 2, "width": 16, "dropout": 0.0,
    "batch_size": 64, "learning_rate": 0.005, "weight_decay": 0.0, "patience": 0,
}  # fmt: skip
"""What the script asks a study's space for, and what it takes where that is silent."""

VALIDATION_SIZE = 1024
"""Rows of a batch in which nothing is learned."""


def draw(trial: optuna.Trial, spec: StudySpec, name: str, default: Any) -> Any:
    """A hyperparameter from the domain that the study gives it."""
    match spec.space.domains.get(name):
        case Range(integer=True) as domain:
            return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
        case Range() as domain:
            return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
        case Choice(choices=choices):
            return trial.suggest_categorical(name, choices)
        case Fixed(value=value):
            return value
    return default


class Bare:
    """Batches of tensors in a new order each time, without a DataLoader."""

    def __init__(self, x: Tensor, y: Tensor, size: int, *, shuffled: bool) -> None:
        self.x, self.y, self.size, self.shuffled = x, y, size, shuffled

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x)) if self.shuffled else torch.arange(len(self.x))
        for rows in order.split(self.size):
            yield self.x[rows], self.y[rows]


def batches(x: Tensor, y: Tensor, size: int, *, shuffled: bool, loader: bool) -> Iterable[Any]:
    """As a tutorial makes them, or as somebody who measured it."""
    if loader:
        return DataLoader(TensorDataset(x, y), batch_size=size, shuffle=shuffled)
    return Bare(x, y, size, shuffled=shuffled)


def network(family: str, n_inputs: int, n_outputs: int, depth: int, width: int, dropout: float) -> nn.Sequential:
    """Layers of a family with dropout between them."""
    widths = [n_inputs, *[width] * (depth - 1), n_outputs]
    layers: list[nn.Module] = []
    for place, (here, there) in enumerate(pairwise(widths)):
        if place:
            layers += [*([nn.ReLU()] if family == "mlp" else []), nn.Dropout(dropout)]
        layers.append(LAYERS[family](here, there))
    return nn.Sequential(*layers)


def train(trial: optuna.Trial, spec: StudySpec, split: Split, *, loader: bool) -> tuple[int, dict[str, float]]:
    """A trial of the script: the epochs that it was trained, and its metrics after the last one, or the best one.

    Raises:
        optuna.TrialPruned: If its network has too many parameters.
    """
    given = {name: draw(trial, spec, name, default) for name, default in SEARCHED.items()}
    family = trial.suggest_categorical("family", list(LAYERS))
    net = network(family, split.n_inputs, split.n_outputs, given["depth"], given["width"], given["dropout"])
    found = {"parameters": float(sum(p.numel() for p in net.parameters()))}
    if any(c.metric in found and c.violation(found[c.metric]) > 0 for c in spec.constraints):
        raise optuna.TrialPruned
    classes = bool(split.class_names)
    loss = nn.CrossEntropyLoss() if classes else nn.MSELoss()
    rates = {"lr": given["learning_rate"], "weight_decay": given["weight_decay"]}
    optimizer = torch.optim.AdamW(net.parameters(), **rates, fused=None if loader else True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.budget.epochs)
    training = batches(split.train_x, split.train_y, given["batch_size"], shuffled=True, loader=loader)
    validation = batches(split.validation_x, split.validation_y, VALIDATION_SIZE, shuffled=False, loader=loader)
    target = outputs = split.validation_y
    epoch, best_epoch, best_loss = 0, 0, math.inf
    for epoch in range(1, spec.budget.epochs + 1):
        net.train()
        for x, y in training:
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
        schedule.step()
        net.eval()
        with torch.no_grad():
            predicted = torch.cat([net(x) for x, _ in validation])
            now = loss(predicted, target).item()
        if not given["patience"] or not now >= best_loss:  # what is no number is kept, and is not feasible
            outputs, best_epoch, best_loss = predicted, epoch, now
        if given["patience"] and epoch - best_epoch >= given["patience"]:
            break
    if classes:
        found["accuracy"] = (outputs.argmax(1) == target).double().mean().item()
        found["cross_entropy"] = nn.functional.cross_entropy(outputs, target).item()
    else:
        found["rmse"] = split.target_scale * (outputs - target).square().mean().sqrt().item()
    return epoch, found


def main(study_file: str, seed: int, seconds: float, way: str) -> None:
    """Search for so many CPU seconds, the imports included."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = load_study_file(Path(study_file), [])
    split = load_study_split(spec)
    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/script.db",
            directions=optuna_directions(spec),
            sampler=optuna.samplers.TPESampler(seed=seed),
        )

        def objective(trial: optuna.Trial) -> list[float]:
            begin = time.process_time()
            epochs, found = train(trial, spec, split, loader=way == "loader")
            values = [found[name] for name in spec.objectives]
            feasible = all(map(math.isfinite, values)) and all(
                c.violation(found[c.metric]) <= 0 for c in spec.constraints
            )
            end = time.process_time()
            line = {"cpu": end, "epochs": epochs, "values": values, "feasible": feasible}
            print(json.dumps({**line, "layer": trial.params["family"], "seconds": end - begin}), flush=True)
            if time.process_time() > seconds:
                study.stop()
            return values

        study.optimize(objective)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
