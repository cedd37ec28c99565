"""The splits of a study's data: what trials learn from, what judges them, and what no trial ever sees.

Shapes: N rows, I inputs (encoded features).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kansearch.data.columns import LARGEST, count
from kansearch.data.encoder import Encoder, fit_encoder, told
from kansearch.data.functions import FORMULAS, sample
from kansearch.data.images import PixelEncoder, Pixels, fit_pixel_encoder, load_images
from kansearch.data.suspicions import suspicions
from kansearch.data.tabular import load_table
from kansearch.data.texts import TextEncoder, fit_text_encoder, load_texts
from kansearch.errors import DataError
from kansearch.specs.columns import Column
from kansearch.specs.data import DataSpec, ImageShape, Inputs, TextShape
from kansearch.specs.metrics import Task

Target = Int64[Tensor, "N"] | Float[Tensor, "N 1"]
Rows = Int64[np.ndarray, "N"]

FEWEST = {"train": 8, "validation": 2, "test": 2}
"""Rows that a split needs."""


@dataclass(frozen=True, eq=False)
class Split:
    """What trials may see: the training and the validation rows, encoded.

    Attributes:
        train_x: Encoded inputs, numbers with zero mean and unit variance.
        train_y: Class indices, or values standardised by the training rows.
        n_outputs: Classes, or 1.
        class_names: In the order of their indices; () in regression.
        target_mean: Added to `target_scale` times a standardised value it gives the value; 0 in classification.
        target_scale: One standard deviation in the target's own unit, and so a standardised error of 1;
            1 in classification.
        encoder: Fitted on the training rows.
        digest: SHA-256, in hex, of the raw data and of all that decides how they are split.
        n_test: Rows kept apart; only `load_test` reads them.
        n_dropped: Rows of the file without a target.
        image_shape: Of the images that rows are; None where they are none.
        text_shape: Of the texts that rows are, likewise.
        columns: Of the file, the target first, and what was done with each; () where the data are no table in a file.
        warnings: What a person should know of the data, one sentence each.
    """

    train_x: Float[Tensor, "N I"]
    train_y: Target
    validation_x: Float[Tensor, "V I"]
    validation_y: Target
    task: Task
    n_inputs: int
    n_outputs: int
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    target_mean: float
    target_scale: float
    encoder: Encoder | PixelEncoder | TextEncoder
    digest: str
    n_train: int
    n_validation: int
    n_test: int
    n_dropped: int
    image_shape: ImageShape | None = None
    text_shape: TextShape | None = None
    columns: tuple[Column, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def inputs(self) -> Inputs:
        """What networks are built for."""
        return self.image_shape or self.text_shape or self.n_inputs

    def to(self, dtype: torch.dtype) -> Split:
        """The same rows with numbers of another type; class indices stay integers."""
        tensors = {name: getattr(self, name) for name in ("train_x", "train_y", "validation_x", "validation_y")}
        return replace(self, **{n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()})

    def head(self, n_rows: int) -> Split:
        """At most the first rows of each part: enough to try something out."""
        return replace(
            self,
            train_x=self.train_x[:n_rows],
            train_y=self.train_y[:n_rows],
            validation_x=self.validation_x[:n_rows],
            validation_y=self.validation_y[:n_rows],
            n_train=min(n_rows, self.n_train),
            n_validation=min(n_rows, self.n_validation),
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The test rows, encoded and scaled as the training rows have it."""

    x: Float[Tensor, "N I"]
    y: Target


def load_split(spec: DataSpec, dtype: torch.dtype = torch.float32) -> Split:
    """The training and validation rows of a study's data.

    Raises:
        DataError: If the data cannot be read, or do not suffice for the split that the study asks for.
    """
    parts = _parts(spec)
    encoder = _encoder(spec, parts)
    mean, scale = _target_unit(parts)
    tensors = partial(_tensors, parts=parts, encoder=encoder, unit=(mean, scale), dtype=dtype)
    train_x, train_y = tensors(parts.train)
    validation_x, validation_y = tensors(parts.validation)
    return Split(
        train_x=train_x,
        train_y=train_y,
        validation_x=validation_x,
        validation_y=validation_y,
        task=parts.task,
        n_inputs=train_x.shape[1],
        n_outputs=len(parts.class_names) or 1,
        feature_names=encoder.feature_names,
        class_names=parts.class_names,
        target_mean=mean,
        target_scale=scale,
        encoder=encoder,
        digest=_digest(spec, parts.content),
        n_train=len(train_y),
        n_validation=len(validation_y),
        n_test=len(parts.test.target),
        n_dropped=parts.n_dropped,
        image_shape=encoder.shape if isinstance(encoder, PixelEncoder) else None,
        text_shape=encoder.shape if isinstance(encoder, TextEncoder) else None,
        columns=told(parts.columns, encoder) if isinstance(encoder, Encoder) else parts.columns,
        warnings=(*parts.warnings, *_suspicions(parts)),
    )


def load_test(spec: DataSpec, dtype: torch.dtype = torch.float32) -> HeldOut:
    """The test rows of a study's data: for the last evaluation, after the search.

    Raises:
        DataError: As `load_split` does.
    """
    parts = _parts(spec)
    encoder = _encoder(spec, parts)
    return HeldOut(*_tensors(parts.test, parts=parts, encoder=encoder, unit=_target_unit(parts), dtype=dtype))


def describe(spec: DataSpec, split: Split) -> str:
    """The data in one line: `digits: 1797 rows, 64 inputs, 10 classes; 1077 train, 360 validation, 360 test`."""
    name = spec.path.name if spec.path is not None else str(spec.name)
    n_rows = split.n_train + split.n_validation + split.n_test
    kind = f"{split.n_outputs} classes" if split.class_names else "regression"
    sizes = f"{split.n_train} train, {split.n_validation} validation, {split.n_test} test"
    beyond = " (beyond the domain)" if spec.is_function and FORMULAS[name].beyond else ""
    dropped = f"; {count(split.n_dropped, 'row')} without a target left out" if split.n_dropped else ""
    return f"{name}: {_rows_in_words(spec, split, n_rows)}, {kind}; {sizes}{beyond}{dropped}"


def _rows_in_words(spec: DataSpec, split: Split, n_rows: int) -> str:
    if split.image_shape:
        colours = " in colour" if split.image_shape.channels == 3 else ""
        return f"{n_rows} images of {split.image_shape.height} x {split.image_shape.width}{colours}"
    if split.text_shape:
        length, vocabulary = split.text_shape
        return f"{n_rows} texts of up to {length} words out of {vocabulary - 2:,}"
    rows = FORMULAS[str(spec.name)].expression if spec.is_function else f"{n_rows} rows"
    return f"{rows}, 1 input" if split.n_inputs == 1 else f"{rows}, {split.n_inputs} inputs"


# --- parts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Part:
    features: pd.DataFrame | Pixels
    target: np.ndarray


@dataclass(frozen=True, eq=False)
class _Parts:
    source: str
    train: _Part
    validation: _Part
    test: _Part
    task: Task
    class_names: tuple[str, ...]
    n_dropped: int
    content: str
    columns: tuple[Column, ...] = ()
    warnings: tuple[str, ...] = ()


def _parts(spec: DataSpec) -> _Parts:
    """All rows, split but not yet encoded."""
    if spec.is_function:
        assert spec.name is not None
        formula = FORMULAS[spec.name]
        # The formula and not its values: the last digits of a sine differ from machine to machine.
        content = f"{formula.expression} {dict(formula.domain)} {formula.noise} {formula.beyond}"
        train, validation, test = (_Part(pd.DataFrame(s.x, columns=list(formula.domain)), s.y) for s in sample(spec))
        return _Parts(spec.name, train, validation, test, Task.REGRESSION, (), 0, content)
    if spec.is_images:
        images = load_images(spec)
        rows = _rows_of_parts(images.source, images.target, images.class_names, images.n_test, spec)
        train, validation, test = (_Part(images.pixels[part], images.target[part]) for part in rows)
        return _Parts(
            images.source, train, validation, test, Task.CLASSIFICATION, images.class_names, 0, images.content
        )
    if spec.text is not None:
        table, n_test = load_texts(spec)
        rows = _rows_of_parts(table.source, table.target, table.class_names, n_test, spec)
    else:
        table = load_table(spec)
        rows = split_rows(table.source, table.target, table.class_names, spec)
    train, validation, test = (_Part(table.features.iloc[part], table.target[part]) for part in rows)
    return _Parts(
        source=table.source,
        train=train,
        validation=validation,
        test=test,
        task=spec.resolved_task,
        class_names=table.class_names,
        n_dropped=table.n_dropped,
        content=table.content,
        columns=table.columns,
        warnings=table.warnings,
    )


def _encoder(spec: DataSpec, parts: _Parts) -> Encoder | PixelEncoder | TextEncoder:
    features = parts.train.features
    if not isinstance(features, pd.DataFrame):
        return fit_pixel_encoder(features)
    if spec.text is not None:
        return fit_text_encoder(spec, features, parts.source)
    return fit_encoder(features, parts.columns)


def _suspicions(parts: _Parts) -> tuple[str, ...]:
    """What inputs of a table in a file give away."""
    train, validation = parts.train.features, parts.validation.features
    if not parts.columns or not isinstance(train, pd.DataFrame) or not isinstance(validation, pd.DataFrame):
        return ()
    return suspicions(
        Path(parts.source).name, (train, parts.train.target), (validation, parts.validation.target), parts.class_names
    )


def _digest(spec: DataSpec, content: str) -> str:
    exclude = {"name", "path", "validation", "test"} if spec.is_function else {"name", "path", "noise"}
    if not spec.is_function:
        exclude |= {"n_train", "n_validation", "n_test"}
    # What was not there when the first studies began, and says nothing of other data.
    exclude |= {"folder"} if spec.is_images else {"folder", "image_size"}
    exclude |= set() if spec.text is not None else {"text", "max_words", "vocabulary"}
    exclude |= set() if spec.is_images or spec.text is not None else {"max_rows"}
    exclude |= {key for key in ("categories", "numbers", "dates") if not getattr(spec, key)}
    how = {
        **spec.model_dump(mode="json", exclude=exclude),
        "task": spec.resolved_task.value,
        "ignore": sorted(spec.ignore),
    }
    # Raise the format when the same raw data are split or encoded in another way.
    return hashlib.sha256(json.dumps({"format": 1, "content": content, **how}, sort_keys=True).encode()).hexdigest()


def _target_unit(parts: _Parts) -> tuple[float, float]:
    """Mean and standard deviation of the training targets; (0, 1) in classification."""
    if parts.class_names:
        return 0.0, 1.0
    target = parts.train.target
    if target.min() == target.max():
        raise DataError(
            f"{parts.source}: the target is {target[0]:g} in all {len(target)} training rows; there is nothing to learn"
        )
    mean, scale = float(target.mean()), float(target.std())
    for part in (parts.train, parts.validation, parts.test):
        distance = np.abs(part.target - mean) / scale
        if distance.max() > LARGEST:
            raise DataError(
                f"{parts.source}: the target {part.target[distance.argmax()]:g} lies {distance.max():.0e} standard "
                "deviations from the mean of the training rows"
            )
    return mean, scale


def _tensors(
    part: _Part,
    parts: _Parts,
    encoder: Encoder | PixelEncoder | TextEncoder,
    unit: tuple[float, float],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "N I"], Target]:
    if isinstance(encoder, PixelEncoder):
        assert not isinstance(part.features, pd.DataFrame)
        encoded = encoder.encode(part.features)
    else:
        assert isinstance(part.features, pd.DataFrame)
        encoded = encoder.encode(part.features, parts.source)
    x = torch.from_numpy(encoded).to(dtype)
    if parts.class_names:
        return x, torch.from_numpy(part.target)
    mean, scale = unit
    return x, torch.from_numpy((part.target - mean) / scale).to(dtype).unsqueeze(1)


# --- rows -------------------------------------------------------------------------------------------


def split_rows(
    source: str, target: np.ndarray, class_names: tuple[str, ...], spec: DataSpec
) -> tuple[Rows, Rows, Rows]:
    """Which rows train, which validate and which test, shuffled by the seed; by classes where there are some.

    The rule is ours and not scikit-learn's, so that a study's rows stay the same from version to version;
    and every class has a row in every split.

    Raises:
        DataError: If there are too few rows, or too few of a class.
    """
    n = len(target)
    n_test, n_validation = (math.ceil(round(n * share, 6)) for share in (spec.test, spec.validation))
    sizes = {"train": n - n_test - n_validation, "validation": n_validation, "test": n_test}
    listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
    for name, size in sizes.items():
        fewest = max(FEWEST[name], len(class_names))
        if size < fewest:
            why = f" ({len(class_names)} classes)" if fewest > FEWEST[name] else ""
            raise DataError(
                f"{source} has {n} rows with a target: {listed}; the {name} split needs at least {fewest}{why}"
            )
    order = np.random.default_rng(spec.seed).permutation(n)
    if not class_names:
        return order[n_test + n_validation :], order[n_test : n_test + n_validation], order[:n_test]

    counts = np.bincount(target, minlength=len(class_names))
    if counts.min() < 3:
        rare = int(counts.argmin())
        raise DataError(
            f'{source}: class "{class_names[rare]}" has {counts[rare]} rows; allowed: at least 3, '
            "one each to train, to validate and to test"
        )
    # One row of each class goes into each split; the rest are shared out by size.
    spare = counts - 3
    test = _share_out(n_test - len(counts), spare)
    validation = _share_out(n_validation - len(counts), spare - test)
    place = np.empty(n, dtype=np.int64)
    for index, (in_test, in_validation) in enumerate(zip(test + 1, validation + 1, strict=True)):
        members = order[target[order] == index]
        place[members] = 0
        place[members[: in_test + in_validation]] = 1
        place[members[:in_test]] = 2
    train_rows, validation_rows, test_rows = (order[place[order] == part] for part in range(3))
    return train_rows, validation_rows, test_rows


def _rows_of_parts(
    source: str, target: np.ndarray, class_names: tuple[str, ...], n_test: int, spec: DataSpec
) -> tuple[Rows, Rows, Rows]:
    """Which rows train, which validate and which test; whoever made the set has the first word on the last."""
    if not n_test:
        train, validation, test = split_rows(source, target, class_names, spec)
    else:
        n_rows = len(target) - n_test
        order = np.random.default_rng(spec.seed).permutation(n_rows)
        train, validation = _apart(source, order, target, class_names, spec.validation)
        test = np.arange(n_rows, len(target))
    if spec.max_rows is not None and len(train) + len(validation) > spec.max_rows:
        n_validation = math.ceil(round(spec.max_rows * spec.validation, 6))
        train, validation = train[: spec.max_rows - n_validation], validation[:n_validation]
    for name, rows in (("train", train), ("validation", validation)):
        if len(rows) < FEWEST[name]:
            raise DataError(f"{source}: {len(rows)} rows to {name}; the {name} split needs at least {FEWEST[name]}")
    return train, validation, test


def _apart(
    source: str, order: Rows, target: np.ndarray, class_names: tuple[str, ...], share: float
) -> tuple[Rows, Rows]:
    """Which of some rows train and which validate: a share of every class."""
    counts = np.bincount(target[order], minlength=len(class_names))
    if counts.min() < 2:
        rare = int(counts.argmin())
        raise DataError(
            f'{source}: class "{class_names[rare]}" has {counts[rare]} rows to train and validate; allowed: at least 2'
        )
    n_validation = math.ceil(round(len(order) * share, 6))
    in_validation = 1 + _share_out(max(0, n_validation - len(counts)), counts - 2)
    is_validation = np.zeros(len(target), dtype=bool)
    for index, n_rows in enumerate(in_validation):
        is_validation[order[target[order] == index][:n_rows]] = True
    return order[~is_validation[order]], order[is_validation[order]]


def _share_out(total: int, available: np.ndarray) -> np.ndarray:
    """Whole parts of a total, in proportion to what is available; the largest remainders round up."""
    whole, rest = np.divmod(available * total, max(1, int(available.sum())))
    n_left = total - int(whole.sum())
    whole[np.argsort(-rest, kind="stable")[:n_left]] += 1
    return whole
