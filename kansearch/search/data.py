"""The data of a study, in the precision of its trials."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from kansearch.data.splits import Split, load_split
from kansearch.errors import DataError
from kansearch.models.pretrained import NAMES, weights_file
from kansearch.models.saved import backbones_from, read_about
from kansearch.specs.data import TextShape
from kansearch.specs.study import StudySpec


def load_study_split(spec: StudySpec) -> Split:
    """What the trials of a study see: in float64 where one of them may be trained so, else in float32.

    Its digest covers the weights of the backbones that trials may begin with, and of those that these begin with:
    other weights are another study.

    Raises:
        DataError: As `load_split`; if a metric that the study asks for does not exist on the validation rows; if a
            backbone cannot be read, or knows other columns or words than the data have.
    """
    split = load_split(spec.data, getattr(torch, max(spec.space.words("dtype"))))
    _refuse_undefined(spec, split)
    digest = split.digest
    for backbone in backbones_of(spec):
        if backbone in NAMES and split.image_shape is None:
            continue  # no trial can have it, which whoever builds networks says
        if backbone not in NAMES:
            _refuse_strange(backbone, split)
        for name in backbones_from(backbone):
            file = weights_file(name) if name in NAMES else Path(name)
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest = hashlib.sha256(f"{digest} {content}".encode()).hexdigest()
    return replace(split, digest=digest)


def backbones_of(spec: StudySpec) -> tuple[str, ...]:
    """Those that trials of a study may begin with: names of torchvision's, and files."""
    return spec.space.words("backbone") if "backbone" in spec.space.words("stem") else ()


def _refuse_undefined(spec: StudySpec, split: Split) -> None:
    """Refuse a metric that no network could have: every trial would fail for want of it."""
    needed = {*spec.objectives, *(constraint.metric for constraint in spec.constraints)}
    target = split.validation_y
    if "r2" in needed and target.min() == target.max():
        raise DataError(
            f"r2 does not exist on the validation rows: all {len(target)} of them have the same target; allowed: rmse "
            "or mae, or other validation rows (data.seed, data.validation)"
        )


def _refuse_strange(path: str, split: Split) -> None:
    """Shapes that differ are for whoever builds the networks to refuse; here it is what the same shapes mean."""
    about = read_about(path)
    if about.inputs != split.inputs or split.image_shape is not None:
        return
    if isinstance(split.inputs, TextShape):
        if about.encoder != split.encoder.model_dump(mode="json"):
            raise DataError(
                f"the network in {path} knows other words than these texts; allowed: texts of the same words"
            )
    elif about.feature_names != split.feature_names:
        raise DataError(
            f"the network in {path} was trained on the columns {_names(about.feature_names)}, and these data have "
            f"{_names(split.feature_names)}; allowed: the same columns in the same order"
        )


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(columns[:6]) + (", ..." if len(columns) > 6 else "")
