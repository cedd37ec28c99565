"""A study for data that nobody has described yet: what a file or a folder holds, and what would be searched on it.

Whatever is guessed is said, with how sure it is, and stands in the study file where its author can change it.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kansearch.data.columns import (
    MARKERS,
    MARKERS_AMONG_NUMBERS,
    Cells,
    Reading,
    count,
    decide,
    is_gap,
    label,
    shown,
)
from kansearch.data.files import TableFile, read_table
from kansearch.data.folders import is_hidden
from kansearch.data.forms import plain
from kansearch.data.images import SUFFIXES, image_size_of
from kansearch.data.splits import Split, load_split
from kansearch.data.tabular import name_in
from kansearch.data.texts import words_of
from kansearch.errors import DataError, UserError
from kansearch.specs.columns import Column
from kansearch.specs.data import TABLE_SUFFIXES, TEXT_FILES, DataSpec
from kansearch.specs.metrics import Task
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import study_of

TARGET_NAMES = (
    "target", "label", "labels", "class", "y", "outcome", "response", "output", "diagnosis", "species", "survived",
    "churn", "price", "salary", "wage", "quality", "score", "rating", "purchase",
)  # fmt: skip
"""What a column that is to be predicted is often called, the surest first."""

FEW_VALUES = 10
"""Whole numbers of so many different values at most may be classes."""

LONG_TEXT = 5
"""Words of the median cell from which a column of texts is one to be read, and no category."""

MANY_NAMES = 0.5
"""A column of texts with more different ones than this share of its rows names rows."""

RARE = 0.2
"""Share of the rows outside the largest class below which the accuracy of a constant answer looks good."""

STEPS = 8_000
"""Of the optimizer, which a training should have."""


@dataclass(frozen=True)
class Proposal:
    """A study file, and how it came about.

    Attributes:
        spec: The study, as the file says it.
        text: The file: YAML with comments.
        columns: Of a table, the target first; () of a folder.
        sentences: What was seen, what was guessed and how sure that is, and what a person should look at.
    """

    spec: StudySpec
    text: str
    columns: tuple[Column, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """What is known of the data before they are split.

    Attributes:
        data: The keys of `data`, with the path as it was given.
        comments: What stands behind each of them.
        sentences: As `Proposal` has them.
    """

    data: Mapping[str, Any]
    comments: Mapping[str, str]
    sentences: tuple[str, ...]


def propose(path: Path, target: str | None = None, file: Path | None = None) -> Proposal:
    """Look at data and write a study that suits them.

    Args:
        path: A CSV, TSV or Parquet file, or a folder with a folder of images or texts for each class.
        target: The column to predict; None guesses it.
        file: The study file, as which it will be written; None is one of the data's name in the current folder.

    Raises:
        DataError: If the data cannot be read or learned from.
        UserError: If the path is neither a table nor a folder, or a target is named of a folder.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; name a table ({', '.join(TABLE_SUFFIXES)}) or a folder of classes")
    if path.is_dir():
        if path.suffix:
            raise UserError(f"{path} is a folder whose name has a point, as files have; give it another name")
        if target is not None:
            raise UserError(f"{path} is a folder, whose classes are its folders; --target is for tables")
        seen = _folder(path)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        seen = _table(path, target)
    else:
        raise UserError(f"{path} is no table and no folder; a table ends in {', '.join(TABLE_SUFFIXES)}")
    data = dict(seen.data)
    split = load_split(_data_spec(data))
    comments, sentences = dict(seen.comments), list(seen.sentences)
    # What may be a good input stays one, and is warned of.
    useless = [one for one in split.suspicions if not one.is_leak]
    left = [*data.get("ignore", ()), *(one.column for one in useless)]
    if useless and any(column.role == "input" and column.name not in left for column in split.columns):
        data["ignore"] = left
        whys = [comments["ignore"]] if "ignore" in comments else []
        comments["ignore"] = "; ".join([*whys, *(f"{one.column} {one.what}" for one in useless)])
        sentences += [f"{shown(one.column)} {one.what}: it is left out (data.ignore)" for one in useless]
        split = load_split(_data_spec(data))
    sentences += [f"files left out: {split.left_out}"] if split.left_out else []
    sentences += [f"warning: {warning}" for warning in split.warnings]
    file = file or study_file(path)
    text = _text(path, data, comments, split, file)
    return Proposal(study_of(text, file), text, split.columns, tuple(sentences))


def study_file(path: Path) -> Path:
    """Where the study of these data is written if nobody says it: in the current folder, under the data's name."""
    return Path(f"{path.resolve().stem}.yaml")


def _data_spec(data: Mapping[str, Any]) -> DataSpec:
    return DataSpec.model_validate({**data, "path": Path(data["path"]).absolute()})


# --- tables -----------------------------------------------------------------------------------------


def _table(path: Path, target: str | None) -> _Seen:
    file = read_table(path, set() if target is None else {target})
    readings = {name: _reading(cells) for name, cells in file.columns.items()}
    if not readings:
        raise DataError(f"{file.source} has no column to learn from")
    if target is None:
        name, how_chosen = _guess_target(file, readings)
    else:
        name, how_chosen = name_in(file, target, "--target"), "as you said"
    cells = file.columns[name]
    task, how_sure, amounts = _guess_task(cells)
    ignore = {
        other: why
        for other, reading in readings.items()
        if other != name and (why := _useless(file.columns[other], reading, file.n_rows))
    }
    texts = [other for other in ignore if _is_prose(file.columns[other], readings[other])]
    inputs = [other for other in readings if other != name and other not in ignore]
    data: dict[str, Any] = {"path": str(path), "target": name, "task": task.value}
    comments = {"target": how_chosen, "task": how_sure}
    sentences = [f"target: {shown(name)} ({how_chosen})", f"task: {task.value} ({how_sure})"]
    if amounts:
        data["numbers"] = [name]
        comments["numbers"] = amounts
        sentences.append(f"{shown(name)}: {amounts} (data.numbers)")
    if texts and not inputs:
        data["text"] = texts[0]
        comments["text"] = "the only column of texts" if len(texts) == 1 else "the first of several columns of texts"
        sentences.append(f"rows are texts: {shown(texts[0])} ({comments['text']})")
    elif ignore:
        data["ignore"] = list(ignore)
        comments["ignore"] = "; ".join(f"{other} {why}" for other, why in ignore.items())
        sentences += [f"{shown(other)} {why}: it is left out (data.ignore)" for other, why in ignore.items()]
    return _Seen(data, comments, tuple(sentences))


def _guess_target(file: TableFile, readings: Mapping[str, Reading]) -> tuple[str, str]:
    """The column that is most likely to be predicted, and why."""
    for wanted in TARGET_NAMES:
        for name in readings:
            if name.strip().lower() == wanted and not (wanted == "y" and "z" in readings):
                return name, "its name says so; --target COLUMN says another"
    able = [name for name in readings if not _useless(file.columns[name], readings[name], file.n_rows)]
    if not able:
        raise UserError(f"{file.source} has no column that could be predicted; say which: --target COLUMN")
    return able[-1], "a guess: the last column; --target COLUMN says another"


def _reading(cells: Cells) -> Reading:
    try:
        return decide(cells)
    except DataError:
        return Reading("other", refusal="holds lists, bytes or the like")


def _guess_task(cells: Cells) -> tuple[Task, str, str]:
    """The task, why, and what must be said for the target's numbers to be read; "" for nothing."""
    reading = decide(cells, is_target=True)
    names = {label(text): text for text in cells.texts if not is_gap(text)}
    if not reading.form or reading.kind == "boolean":
        rest = {text for text in names.values() if math.isnan(plain(text))}
        are_marks = all(text in MARKERS or text.lower() in MARKERS_AMONG_NUMBERS for text in rest)
        if rest and are_marks and len(names) - len(rest) > FEW_VALUES:
            marks = ", ".join(shown(text) for text in sorted(rest))
            return Task.REGRESSION, "its values are numbers", f"{marks} count as missing"
        return Task.CLASSIFICATION, "its values are names", ""
    if len(names) <= 2:
        return Task.CLASSIFICATION, f"it has {count(len(names), 'value')}", ""
    numbers = reading.values(cells).astype(float)
    if (
        len(names) <= FEW_VALUES
        and np.isfinite(numbers[~np.isnan(numbers)]).all()
        and not (np.nan_to_num(numbers) % 1).any()
    ):
        return (
            Task.CLASSIFICATION,
            f"a guess: its values are {', '.join(sorted(names))}; regression where they measure something",
            "",
        )
    return (
        Task.REGRESSION,
        "its values are dates, predicted in days" if reading.kind == "date" else "its values are numbers",
        "",
    )


def _useless(cells: Cells, reading: Reading, n_rows: int) -> str:
    """Why nothing is to be learned from a column as it stands; "" where something is."""
    if reading.refusal:
        return f"cannot be read: it {reading.refusal}"
    if reading.kind in ("empty", "constant"):
        return f"is {reading.kind}"
    if reading.kind == "category" or not reading.form:
        n_distinct = sum(not is_gap(text) for text in cells.texts)
        if n_distinct > max(20, MANY_NAMES * n_rows):
            return "names rows, most of which are the only one of their name"
        if _is_prose(cells, reading):
            return "holds texts"
    return ""


def _is_prose(cells: Cells, reading: Reading) -> bool:
    if reading.form or reading.kind not in ("category", "text"):
        return False
    lengths = sorted(len(words_of(text)) for text in cells.texts if not is_gap(text))
    return bool(lengths) and lengths[len(lengths) // 2] >= LONG_TEXT


# --- folders ----------------------------------------------------------------------------------------


def _folder(path: Path) -> _Seen:
    files = [file for file in path.rglob("*") if file.is_file() and not is_hidden(file.relative_to(path))]
    kinds = Counter(file.suffix.lower() for file in files)
    n_images, n_texts = sum(kinds[suffix] for suffix in SUFFIXES), kinds[".txt"]
    if not n_images and not n_texts:
        listed = ", ".join(kind or "no suffix" for kind, _ in kinds.most_common(5)) or "none"
        raise DataError(
            f"{path} holds neither pictures nor texts (.txt) in a folder for each class; kinds of its files: {listed}"
        )
    if n_texts > n_images:
        return _Seen(
            {"path": str(path), "text": TEXT_FILES},
            {"text": "rows are files"},
            ("rows are texts: files in a folder for each class",),
        )
    size = image_size_of([file for file in files if file.suffix.lower() in SUFFIXES])
    return _Seen(
        {"path": str(path), "image_size": size},
        {"image_size": "pixels in both directions, to which pictures are brought"},
        (f"rows are pictures: files in a folder for each class, brought to {size} x {size} pixels",),
    )


# --- the study --------------------------------------------------------------------------------------


def _text(path: Path, data: Mapping[str, Any], comments: Mapping[str, str], split: Split, file: Path) -> str:
    """The study file."""
    given = {**data, "path": _relative(path, file.parent)}
    lines = [f"# {path.name}: {split.n_train + split.n_validation + split.n_test:,} rows, written by kansearch init."]
    lines += ["#", f"#   {command(file)}", "", f"name: {_yaml(study_name(path))}", "", "data:"]
    lines += [_line(f"  {key}: {_yaml(value)}", comments.get(key, "")) for key, value in given.items()]
    lines += [_line("  ", f"{one.column} {one.what}; {one.advice}") for one in split.suspicions]
    lines += [
        "  validation: 0.2 # of all rows, to judge trials",
        "  test: 0.2 # that no trial ever sees",
        "",
        *_goal(split),
        "",
        "search:",
        f"  pruner: {{name: pareto, min_epochs: {_budget(split)[2]}}} # who is far behind at its rungs is stopped",
        "",
        "space: # a list is a choice, low and high a range",
        *(f"  {line}" for line in _space(split)),
        "",
    ]
    return "\n".join(lines)


def study_name(path: Path) -> str:
    """The name of a study of these data: their file's, as far as a study may be called so."""
    plain_name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:60]
    return plain_name or f"study-{hashlib.sha256(path.stem.encode()).hexdigest()[:8]}"


def command(file: Path) -> str:
    """What searches the study of a file, as a shell takes it."""
    return f"kansearch optimize {shlex.quote(f'./{file}' if str(file).startswith('-') else str(file))}"


def _relative(path: Path, beside: Path) -> str:
    return Path(os.path.relpath(path.absolute(), beside.absolute())).as_posix()


def _line(text: str, comment: str) -> str:
    return f"{text} # {' '.join(comment.split())}" if comment else text


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def _goal(split: Split) -> list[str]:
    trials, epochs, _ = _budget(split)
    quality, why = "rmse", "the error in the target's own unit"
    if split.task is Task.CLASSIFICATION:
        quality, why = "accuracy", "the share of right answers"
        largest = int(split.train_y.bincount().max()) / split.n_train
        if 1 - largest < RARE:
            quality, why = "balanced_accuracy", f"of all classes alike: {largest:.0%} of the rows are of one class"
    return [
        f"objectives: [{quality}, parameters] # {why}, against the size of the network",
        f"constraints: [parameters <= {_most_parameters(split)}]",
        f"budget: {{trials: {trials}, epochs: {epochs}}} # of each trial at most; `--trials N` changes it",
    ]


def _batch_sizes(split: Split) -> list[int]:
    return [32] if split.n_train < 1_000 else [32, 128] if split.n_train < 10_000 else [256]


def _budget(split: Split) -> tuple[int, int, int]:
    """Trials, epochs of each, and the first epoch at which one may be stopped."""
    steps = math.ceil(split.n_train / _batch_sizes(split)[-1])
    is_dear = split.image_shape is not None or split.text_shape is not None
    most, fewest = (54, 9) if is_dear else (150, 27)
    epochs = min(most, max(fewest, round(STEPS / steps)))
    trials = 60 if is_dear else 300 if split.n_train < 10_000 else 100
    return trials, epochs, max(1, epochs // 18)


def _most_parameters(split: Split) -> int:
    return 60_000 if split.image_shape is not None or split.n_train > 10_000 else 20_000


def _space(split: Split) -> list[str]:
    if split.image_shape is not None:
        return [
            "family: [mlp, kan, hybrid]",
            "stem: convolution",
            "convolutions: [2, 3] # each after the first halves height and width, and doubles the channels",
            "channels: {low: 4, high: 16, log: true} # of the first",
            "pooling: [none, average]",
            "depth: [1, 2] # layers behind the convolutions",
            "width: {low: 8, high: 64, log: true, when: {depth: 2}}",
            "pattern: [stem, head] # of a hybrid: which layers are KAN layers",
            "base_function: [gaussian, tanh, silu]",
            "n_basis: {low: 2, high: 6} # functions mixed on every edge",
            "layer_norm: [true, false]",
            "dropout: {low: 0.0, high: 0.3}",
            "learning_rate: {low: 0.001, high: 0.01, log: true}",
        ]
    if split.text_shape is not None:
        return [
            "family: [mlp, kan, hybrid]",
            "stem: embedding",
            "embedding: [16, 32, 64] # numbers of each word",
            "depth: [1, 2] # layers behind the mean of the words",
            "width: {low: 4, high: 64, log: true, when: {depth: 2}}",
            "pattern: [first, last] # of a hybrid: which layers are KAN layers",
            "base_function: [gaussian, tanh, silu]",
            "n_basis: {low: 2, high: 6} # functions mixed on every edge",
            "activation: [relu, silu]",
            "dropout: {low: 0.0, high: 0.5}",
            "learning_rate: {low: 0.001, high: 0.03, log: true}",
            "weight_decay: {low: 1.0e-4, high: 1.0, log: true}",
        ]
    widest = 32 if split.n_train < 1_000 else 64 if split.n_train < 10_000 else 128
    return [
        "family: [mlp, kan, hybrid]",
        "depth: {low: 1, high: 3} # layers, so up to 2 hidden rows of nodes",
        f"width: {{low: 4, high: {widest}, log: true}} # nodes of a hidden row",
        "base_function: [gaussian, tanh, silu] # of KAN layers",
        "n_basis: {low: 3, high: 8} # functions mixed on every edge",
        "l1: {low: 1.0e-6, high: 1.0e-2, log: true}",
        "pattern: [first, last] # of a hybrid: which layers are KAN layers",
        "activation: [relu, silu] # of ordinary layers",
        f"batch_size: {_yaml(_batch_sizes(split))}",
        "learning_rate: {low: 0.0005, high: 0.03, log: true}",
        "weight_decay: {low: 1.0e-4, high: 1.0, log: true}",
        "dropout: {low: 0.0, high: 0.4}",
    ]
