"""How accurate are the networks that kansearch trains?

Five parts, each over 5 seeds (of the split of the data and of the training), always judged on test rows that neither
training nor choice has seen:

    functions  plain networks, KANs and edge layers with as many parameters as each other (within 5 %, where a width
               gives so many), with the same epochs; relative error: rmse over the standard deviation of the target
    images     convolutional networks on the 8x8 digits; accuracy
    texts      sentences whose class hangs on the order of words: a mean of words against recurrent networks and
               Transformers; accuracy
    tables     a whole search of each bundled set; the best by validation is trained again on training and validation
               rows, as is the peer of scikit-learn beside it: error, or rmse over the standard deviation
    digits     the same for the digits as images, with convolutions

    .venv/bin/python benchmarks/accuracy/run.py
    .venv/bin/python benchmarks/accuracy/run.py --parts images texts --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.linear_model import RidgeCV
from sklearn.svm import SVC

from kansearch.data.splits import Split, load_test
from kansearch.interpret.explain import train_again
from kansearch.models.cost import cost
from kansearch.search.data import load_study_split
from kansearch.search.study_pack import StudyPack
from kansearch.search.suggest import trial_spec
from kansearch.specs.metrics import Task
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.storage.studies import create_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from kansearch.training.pack import Pack

PIECE_ROWS = 512

FUNCTION_FORMS: dict[str, dict[str, Any]] = {
    "plain, tanh": {"family": "mlp", "activation": "tanh"},
    "plain, silu": {"family": "mlp", "activation": "silu"},
    "KAN, Gaussian K=8": {"base_function": "gaussian"},
    "KAN, B-spline K=8": {"base_function": "b_spline"},
    "KAN, sin K=6": {"base_function": "sin", "n_basis": 6},
    "KAN, edge tanh": {"layer": "edge", "base_function": "tanh"},
    "KAN, scaled tanh K=6": {"layer": "scaled", "base_function": "tanh", "n_basis": 6},
}
PRECISE = {"epochs": 300, "learning_rate": 0.01, "dtype": "float64", "polish": 0.6, "polisher": "levenberg_marquardt"}
IMAGE_FORMS: dict[str, dict[str, Any]] = {
    "CNN": {"family": "mlp", "channels": 16, "width": 64, "dropout": 0.2},
    "KAN-CNN, Gaussian K=4": {"channels": 16, "width": 32, "n_basis": 4},
    "KAN-CNN, B-spline K=6": {"channels": 16, "width": 32, "n_basis": 6, "base_function": "b_spline"},
    "KAN convolutions, ordinary head": {
        "family": "hybrid", "pattern": "stem", "channels": 16, "width": 64, "n_basis": 4, "dropout": 0.2,
    },
}  # fmt: skip
TEXT_FORMS: dict[str, dict[str, Any]] = {
    "mean of words, plain": {"family": "mlp", "stem": "embedding", "embedding": 32, "width": 32},
    "mean of words, KAN": {"stem": "embedding", "embedding": 32, "width": 8, "n_basis": 4},
    "GRU": {"family": "mlp", "stem": "recurrent", "state": 32, "depth": 1},
    "KAN-GRU": {"stem": "recurrent", "depth": 1, "n_basis": 4},
    "Transformer": {"family": "mlp", "stem": "attention", "feed_forward": 64, "activation": "gelu"},
    "KAN-Transformer": {"stem": "attention", "feed_forward": 16, "n_basis": 4},
    "hybrid Transformer": {"family": "hybrid", "pattern": "stem", "stem": "attention", "feed_forward": 16},
}
TRANSFORMER = {"embedding": 32, "blocks": 2, "depth": 1, "n_basis": 4}
SPACE = {
    "family": ["mlp", "kan", "hybrid"],
    "depth": {"low": 1, "high": 3},
    "width": {"low": 8, "high": 256, "log": True},
    "layer": ["dictionary", "edge", "node"],
    "base_function": ["gaussian", "tanh", "silu"],
    "n_basis": {"low": 2, "high": 8},
    "l1": {"low": 1e-6, "high": 1e-2, "log": True},
    "dropout": {"low": 0.0, "high": 0.6},
    "learning_rate": {"low": 0.001, "high": 0.03, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
}
AIMS = {"digits": 0.022, "breast_cancer": 0.028, "wine": 0.0075, "iris": 0.01, "diabetes": 0.70}
GOOD = ["good", "great", "fine", "lovely", "brilliant", "funny", "charming", "clever"]
BAD = ["bad", "dull", "poor", "awful", "boring", "flat", "clumsy", "silly"]


def study(data: Mapping[str, Any], seed: int, **more: Any) -> StudySpec:
    """A study of some data, split by the seed."""
    given = {"space": {"dtype": "float32"}, **more, "data": {**data, "seed": seed}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "accuracy.yaml"
        path.write_text(yaml.safe_dump(given))
        return load_study_file(path)


def test_error(network: torch.nn.Module, spec: StudySpec, split: Split) -> float:
    """Share of wrong classes, or rmse over the standard deviation of the test rows."""
    test = load_test(spec.data, next(network.parameters()).dtype)
    outputs = torch.cat([network(rows) for rows in torch.split(test.x, PIECE_ROWS)]).detach()
    if split.task is Task.CLASSIFICATION:
        return (outputs.argmax(1) != test.y).double().mean().item()
    return ((outputs - test.y).square().mean().sqrt() / test.y.std(correction=0)).item()


def by_hand(spec: StudySpec, model: ModelSpec, training: TrainingSpec, seed: int) -> float:
    """Test error of one network, trained to its end."""
    split = load_study_split(spec)
    pack = Pack(split, latency_at_rungs=False)
    slot = pack.admit(TrialSpec(model=model, training=training, seed=seed))
    while pack.advance()[-1].end is None:
        pass
    return test_error(pack.network(slot).eval(), spec, split)


def searched(spec: StudySpec) -> float:
    """Test error of the best network of a search by validation, trained on training and validation rows."""
    split = load_study_split(spec)
    with tempfile.TemporaryDirectory() as folder:
        found = create_study(
            open_storage(f"sqlite:///{folder}/study.db"), spec, digest=split.digest, data_line="", versions={}
        )
        pack = StudyPack(found, split, size=8)
        while len(read_records(found)) < spec.budget.trials or pack.trials:
            pack.fill()
            if not pack.trials:
                break
            pack.advance()
        complete = [record for record in read_records(found) if record.state == "complete"]
        best = min(complete, key=lambda record: record.values[spec.objectives[0]])
    both = with_validation(split)
    network, _ = train_again(trial_spec(spec, best.params).model_copy(update={"seed": best.seed}), both, best.epochs)
    return test_error(network.eval(), spec, split)


def with_validation(split: Split) -> Split:
    """The validation rows are training rows, too."""
    x, y = torch.cat([split.train_x, split.validation_x]), torch.cat([split.train_y, split.validation_y])
    return replace(split, train_x=x, train_y=y, n_train=len(x))


def of_peer(spec: StudySpec) -> float:
    """Test error of scikit-learn's support vectors, or of its ridge regression, as they come."""
    both, test = with_validation(load_study_split(spec)), load_test(spec.data)
    if both.task is Task.CLASSIFICATION:
        found = SVC().fit(both.train_x, both.train_y).predict(test.x)
        return float((found != test.y.numpy()).mean())
    found = RidgeCV(np.logspace(-3, 4, 29)).fit(both.train_x, both.train_y[:, 0]).predict(test.x)
    return float(np.sqrt(np.mean((found - test.y[:, 0].numpy()) ** 2)) / test.y.std(correction=0))


def functions(folder: Path, seeds: int) -> Iterator[str]:
    """Two functions of the field."""
    x = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    table = str(folder / "function.csv")
    y = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
    np.savetxt(table, np.c_[x, y], "%.17g", ",", header="x,y,z", comments="")
    plane = {"path": table, "target": "z", "task": "regression", "validation": 0.25, "test": 0.5}
    for name, data, size in (
        ("sin x + 0.5 cos 2x + 0.2 sin 5x, 280 parameters", {"name": "multi_sine", "n_train": 1000}, 280),
        ("exp(sin(pi x) + y^2), 950 parameters", plane, 950),
    ):
        yield f"\n| {name} | parameters | relative error |\n|---|---|---|"
        for form, given in FUNCTION_FORMS.items():
            spec = study(data, 0, objectives=["rmse"], space={"dtype": "float64"})
            n_inputs = load_study_split(spec).n_inputs
            models = [ModelSpec(**given, width=width, depth=depth) for depth in (2, 3) for width in range(2, 200)]
            sizes = [cost(model, n_inputs, 1).parameters for model in models]
            near = min(range(len(models)), key=lambda i: (max(abs(sizes[i] - size), 0.05 * size), -models[i].depth))
            model, training = models[near], TrainingSpec(**PRECISE)
            errors = [by_hand(spec, model, training, seed) for seed in range(seeds)]
            yield f"| {form}, width {model.width}, depth {model.depth} | {sizes[near]} | {spread(errors)} |"


def images(_: Path, seeds: int) -> Iterator[str]:
    """The 8x8 digits."""
    yield "\n| digits as images | parameters | accuracy on test rows |\n|---|---|---|"
    training = TrainingSpec(epochs=60, learning_rate=0.005, weight_decay=0.05, shift=1)
    for form, given in IMAGE_FORMS.items():
        model = ModelSpec(stem="convolution", **given)
        specs = [study({"name": "digits_images"}, seed, objectives=["accuracy"]) for seed in range(seeds)]
        right = [1 - by_hand(spec, model, training, seed) for seed, spec in enumerate(specs)]
        size = cost(model, load_study_split(specs[0]).inputs, 10).parameters
        yield f"| {form} | {size:,} | {spread(right)} |"


def sentence(random: np.random.Generator, is_good: bool) -> str:
    """Two clauses with a judgement each, of which the one behind `but` counts; `not` turns it round."""

    def clause(is_good: bool) -> list[str]:
        negated = random.random() < 0.4
        word = str(random.choice(GOOD if is_good != negated else BAD))
        before, after = ([f"w{n}" for n in random.integers(0, 60, random.integers(1, 5))] for _ in range(2))
        return [*before, *(["not"] if negated else []), word, *after]

    return " ".join([*clause(bool(random.integers(2))), "but", *clause(is_good)])


def texts(folder: Path, seeds: int) -> Iterator[str]:
    """Generated sentences."""
    random = np.random.default_rng(0)
    rows = [f"{sentence(random, n % 2 == 1)},{'good' if n % 2 else 'bad'}" for n in range(4000)]
    table = str(folder / "sentences.csv")
    Path(table).write_text("text,mood\n" + "\n".join(rows))
    data = {"path": table, "text": "text", "target": "mood", "task": "classification", "max_words": 24}
    training = TrainingSpec(epochs=15, learning_rate=0.005, schedule="warmup_cosine", weight_decay=0.01)
    yield "\n| sentences | parameters | accuracy on test rows |\n|---|---|---|"
    for form, given in TEXT_FORMS.items():
        model = ModelSpec(**{**(TRANSFORMER if given["stem"] == "attention" else {}), **given})
        specs = [study(data, seed, objectives=["accuracy"]) for seed in range(seeds)]
        right = [1 - by_hand(spec, model, training, seed) for seed, spec in enumerate(specs)]
        size = cost(model, load_study_split(specs[0]).inputs, 2).parameters
        yield f"| {form} | {size:,} | {spread(right)} |"


def tables(_: Path, seeds: int) -> Iterator[str]:
    """scikit-learn's sets, as rows of numbers."""
    yield "\n| set | the best network | its peer | to reach |\n|---|---|---|---|"
    for name, aim in AIMS.items():
        yield search_line(name, SPACE, seeds, aim)


def digits(_: Path, seeds: int) -> Iterator[str]:
    """The digits as images, for which there are convolutions too."""
    yield "\n| set | the best network | its peer | to reach |\n|---|---|---|---|"
    stems = {"stem": ["none", "convolution"], "channels": {"low": 8, "high": 16}, "shift": [0, 1]}
    space = SPACE | stems | {"depth": {"low": 1, "high": 2}, "pattern": ["last", "head", "stem"]}
    yield search_line("digits_images", space, seeds, AIMS["digits"])


def search_line(name: str, space: Mapping[str, Any], seeds: int, aim: float) -> str:
    """The networks that searches find, and their peer on the same rows."""
    quality = "rmse" if name == "diabetes" else "cross_entropy"
    budget = {"trials": 120, "epochs": 54}
    specs = [
        study({"name": name, "test": 0.25}, seed, objectives=[quality], space=space, budget=budget)
        for seed in range(seeds)
    ]
    ours, peers = ([of(spec) for spec in specs] for of in (searched, of_peer))
    return f"| {name} | {spread(ours)} | {spread(peers)} | {aim} |"


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    digits = ".2e" if statistics.mean(values) < 0.005 else ".4f"
    return f"{statistics.mean(values):{digits}} ± {deviation:{digits}}"


PARTS = {"functions": functions, "images": images, "texts": texts, "tables": tables, "digits": digits}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            for line in PARTS[part](Path(folder), args.seeds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
