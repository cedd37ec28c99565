"""The splits of a study's data: what trials learn from, what judges them, and what no trial ever sees.

Shapes: N rows, I inputs (encoded features).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kansearch.data.columns import LARGEST, Numbers, count
from kansearch.data.encoder import Encoder, fit_encoder, told
from kansearch.data.functions import FORMULAS, sample
from kansearch.data.images import PixelEncoder, Pixels, fit_pixel_encoder, load_images
from kansearch.data.partition import PARTS, rows_of_parts
from kansearch.data.roles import Roles
from kansearch.data.suspicions import Suspicion, suspicions
from kansearch.data.tabular import load_table
from kansearch.data.texts import TextEncoder, fit_text_encoder, load_texts, unknown_words
from kansearch.errors import DataError
from kansearch.specs.columns import Column
from kansearch.specs.data import ROLES, DataSpec, ImageShape, Inputs, TextShape
from kansearch.specs.metrics import Task

WIDE = 1000.0
"""Times that one target in a hundred is at least larger than another one in a hundred, where errors are of few rows."""

Target = Int64[Tensor, "N"] | Float[Tensor, "N 1"]


_WEIGHTS = ("train_row_weights", "validation_row_weights", "class_weights")


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
        left_out: Files of a folder that are no rows, counted by kind; "" where there are none.
        warnings: What the author of a study should know of the data.
        image_shape: Of the images that rows are; None where they are none.
        text_shape: Of the texts that rows are, likewise.
        target_transform: `log` where standardised values are those of the target's natural logarithm.
        train_row_weights: How much each training row counts; None where all count alike.
        validation_row_weights: Likewise; they count in what is measured too.
        class_weights: How much each class counts in the loss; None where all rows count alike.
        suspicions: Of its inputs, those that a person should look at; each is among the warnings, too.
        columns: Of the file, the target first, and what was done with each; () where the data are no table in a file.
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
    left_out: str = ""
    warnings: tuple[str, ...] = ()
    image_shape: ImageShape | None = None
    text_shape: TextShape | None = None
    suspicions: tuple[Suspicion, ...] = ()
    columns: tuple[Column, ...] = ()
    target_transform: Literal["none", "log"] = "none"
    train_row_weights: Float[Tensor, " N"] | None = None
    validation_row_weights: Float[Tensor, " V"] | None = None
    class_weights: Float[Tensor, " C"] | None = None

    @property
    def train_weights(self) -> Float[Tensor, " N"] | None:
        """Weight of each training row in the loss, 1 on average; None where all have the same."""
        return _loss_weights(self.train_y, self.train_row_weights, self.class_weights)

    @property
    def validation_weights(self) -> Float[Tensor, " V"] | None:
        """Likewise of each validation row."""
        return _loss_weights(self.validation_y, self.validation_row_weights, self.class_weights)

    @property
    def inputs(self) -> Inputs:
        """What networks are built for."""
        return self.image_shape or self.text_shape or self.n_inputs

    def to(self, dtype: torch.dtype) -> Split:
        """The same rows with numbers of another type; class indices stay integers."""
        names = ("train_x", "train_y", "validation_x", "validation_y", *_WEIGHTS)
        tensors = {name: tensor for name in names if (tensor := getattr(self, name)) is not None}
        return replace(self, **{n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()})

    def head(self, n_rows: int) -> Split:
        """At most the first rows of each part: enough to try something out."""
        return replace(
            self,
            train_x=self.train_x[:n_rows],
            train_y=self.train_y[:n_rows],
            validation_x=self.validation_x[:n_rows],
            validation_y=self.validation_y[:n_rows],
            train_row_weights=None if self.train_row_weights is None else self.train_row_weights[:n_rows],
            validation_row_weights=None
            if self.validation_row_weights is None
            else self.validation_row_weights[:n_rows],
            n_train=min(n_rows, self.n_train),
            n_validation=min(n_rows, self.n_validation),
        )


def _loss_weights(
    y: Target, row_weights: Float[Tensor, " N"] | None, class_weights: Float[Tensor, " C"] | None
) -> Float[Tensor, " N"] | None:
    if row_weights is None and class_weights is None:
        return None
    weights = torch.ones(1) if class_weights is None else class_weights[y]
    weights = weights if row_weights is None else weights * row_weights
    return weights / weights.mean()


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
    spread = _wide_target(parts) if spec.target_transform == "none" else ()
    parts = _transformed(spec, parts)
    mean, scale = _target_unit(parts)
    tensors = partial(_tensors, parts=parts, encoder=encoder, unit=(mean, scale), dtype=dtype)
    train_x, train_y = tensors(parts.train)
    validation_x, validation_y = tensors(parts.validation)
    suspects = _suspicions(parts)
    unknown = unknown_words(validation_x) if isinstance(encoder, TextEncoder) else ()
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
        left_out=parts.left_out,
        image_shape=encoder.shape if isinstance(encoder, PixelEncoder) else None,
        text_shape=encoder.shape if isinstance(encoder, TextEncoder) else None,
        warnings=(*parts.warnings, *_absent_classes(parts), *spread, *unknown, *(one.sentence for one in suspects)),
        target_transform=spec.target_transform,
        train_row_weights=_row_weights(parts, parts.train, dtype),
        validation_row_weights=_row_weights(parts, parts.validation, dtype),
        class_weights=_class_weights(parts, dtype) if spec.class_weights == "balanced" else None,
        suspicions=suspects,
        columns=told(parts.columns, encoder) if isinstance(encoder, Encoder) else parts.columns,
    )


def load_test(spec: DataSpec, dtype: torch.dtype = torch.float32) -> HeldOut:
    """The test rows of a study's data: for the last evaluation, after the search.

    Raises:
        DataError: As `load_split` does.
    """
    parts = _parts(spec)
    encoder = _encoder(spec, parts)
    parts = _transformed(spec, parts)
    return HeldOut(*_tensors(parts.test, parts=parts, encoder=encoder, unit=_target_unit(parts), dtype=dtype))


def describe(spec: DataSpec, split: Split) -> str:
    """The data in one line: `digits: 1797 rows, 64 inputs, 10 classes; 1077 train, 360 validation, 360 test`."""
    name = spec.path.name if spec.path is not None else str(spec.name)
    n_rows = split.n_train + split.n_validation + split.n_test
    kind = f"{split.n_outputs} classes" if split.class_names else "regression"
    sizes = f"{split.n_train} train, {split.n_validation} validation, {split.n_test} test"
    beyond = " (beyond the domain)" if spec.is_function and FORMULAS[name].beyond else ""
    dropped = f"; {count(split.n_dropped, 'row')} without a target left out" if split.n_dropped else ""
    how = {"group": "by groups of", "order": "in the order of", "split": "as said by"}
    by = "".join(f", {words} {column}" for key, words in how.items() if (column := getattr(spec, key)) is not None)
    left_out = f"; files left out: {split.left_out}" if split.left_out else ""
    return f"{name}: {_rows_in_words(spec, split, n_rows)}, {kind}; {sizes}{by}{beyond}{dropped}{left_out}"


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
    weight: Numbers | None = None


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
    left_out: str = ""
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, _Part]]:
        return zip(PARTS, (self.train, self.validation, self.test), strict=True)


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
        rows = rows_of_parts(images.source, images.target, images.class_names, spec, Roles(), images.n_test)
        train, validation, test = (_Part(images.pixels[part], images.target[part]) for part in rows)
        return _Parts(
            images.source,
            train,
            validation,
            test,
            Task.CLASSIFICATION,
            images.class_names,
            0,
            images.content,
            left_out=images.left_out,
            warnings=images.warnings,
        )
    if spec.text is not None:
        table, n_test, left_out = load_texts(spec)
    else:
        table, n_test, left_out = load_table(spec), 0, ""
    rows = rows_of_parts(table.source, table.target, table.class_names, spec, table.roles, n_test)
    weight = table.roles.weight
    train, validation, test = (
        _Part(table.features.iloc[part], table.target[part], None if weight is None else weight[part]) for part in rows
    )
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
        left_out=left_out,
    )


def _encoder(spec: DataSpec, parts: _Parts) -> Encoder | PixelEncoder | TextEncoder:
    features = parts.train.features
    if not isinstance(features, pd.DataFrame):
        return fit_pixel_encoder(features)
    if spec.text is not None:
        return fit_text_encoder(spec, features, parts.source)
    return fit_encoder(features, parts.columns)


def _suspicions(parts: _Parts) -> tuple[Suspicion, ...]:
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
    exclude |= {key for key in ROLES if getattr(spec, key) is None}
    exclude |= {key for key in ("class_weights", "target_transform") if getattr(spec, key) == "none"}
    exclude |= {key for key in ("categories", "numbers", "dates") if not getattr(spec, key)}
    how = {
        **spec.model_dump(mode="json", exclude=exclude),
        "task": spec.resolved_task.value,
        "ignore": sorted(spec.ignore),
    }
    # Raise the format when the same raw data are split or encoded in another way.
    return hashlib.sha256(json.dumps({"format": 1, "content": content, **how}, sort_keys=True).encode()).hexdigest()


def _row_weights(parts: _Parts, part: _Part, dtype: torch.dtype) -> Float[Tensor, " N"] | None:
    if part.weight is None:
        return None
    if not part.weight.any():
        which = "training" if part is parts.train else "validation"
        raise DataError(f"{parts.source}: the weights of all {which} rows are 0 (data.weight)")
    return torch.from_numpy(part.weight / part.weight.mean()).to(dtype)


def _class_weights(parts: _Parts, dtype: torch.dtype) -> Float[Tensor, " C"]:
    """So that all classes of the training rows count alike; 1 for a class that none of these has."""
    counts = np.bincount(parts.train.target, weights=parts.train.weight, minlength=len(parts.class_names))
    weights = counts.sum() / (np.count_nonzero(counts) * np.where(counts, counts, 1))
    return torch.from_numpy(np.where(counts, weights, 1.0)).to(dtype)


def _transformed(spec: DataSpec, parts: _Parts) -> _Parts:
    """With the targets that networks learn."""
    if spec.target_transform == "none":
        return parts
    for _, part in parts:
        if (low := part.target.min()) <= 0:
            raise DataError(
                f"{parts.source}: the target is {low:g} in a row; data.target_transform: log needs numbers above 0"
            )
    train, validation, test = (replace(part, target=np.log(part.target)) for _, part in parts)
    return replace(parts, train=train, validation=validation, test=test)


def _wide_target(parts: _Parts) -> Iterator[str]:
    """Whether the errors are those of few rows: a target above 0 of very different sizes."""
    if parts.class_names:
        return
    target = np.concatenate([parts.train.target, parts.validation.target])
    if (low := target.min()) > 0:
        few, most = np.quantile(target, (0.01, 0.99))
        if most > WIDE * few:
            yield (
                f"data: the target spans {np.log10(target.max() / low):.0f} orders of magnitude ({low:.3g} to "
                f"{target.max():.3g}), so errors in its unit are those of its few largest rows; "
                "data.target_transform: log learns its logarithm"
            )


def _absent_classes(parts: _Parts) -> Iterator[str]:
    """Classes that a part lacks, which a random split never lets happen.

    Raises:
        DataError: If the training rows hold one class only.
    """
    for name, part in parts if parts.class_names else ():
        counts = np.bincount(part.target, minlength=len(parts.class_names))
        absent = [f'"{parts.class_names[index]}"' for index in np.flatnonzero(counts == 0)]
        if name == "train" and np.count_nonzero(counts) < 2:
            only = parts.class_names[int(counts.argmax())]
            raise DataError(f'{parts.source}: all training rows are of class "{only}"; there is nothing to tell apart')
        if absent:
            listed = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            yield f"data: no {'training' if name == 'train' else name} row is of class {listed}"


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
        with np.errstate(divide="ignore", over="ignore"):
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
