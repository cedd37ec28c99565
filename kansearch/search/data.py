"""The data of a study, in the precision of its trials."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch

from kansearch.data.splits import Split, load_split
from kansearch.errors import DataError
from kansearch.models.pretrained import NAMES, weights_file
from kansearch.models.saved import backbones_from, read_about
from kansearch.specs.data import DataSpec, TextShape
from kansearch.specs.study import StudySpec
from kansearch.storage.studies import StoredStudy
from kansearch.vision import DATA_ENVIRONMENT


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


def load_known_split(study: StoredStudy, place: Path | None = None) -> Split:
    """What the trials of a study in the storage see: the rows with which it began, wherever they lie now.

    They are looked for at `place` alone if that is given, else where the study says, where it said before, and in
    $KANSEARCH_DATA. The digest decides whether they are the same, and no path.

    Args:
        study: Whose data they are.
        place: The file or the folder, or a folder that holds it under the name that it had.

    Raises:
        DataError: If they are nowhere, or changed since the study began; as `load_study_split`.
    """
    spec = study.spec
    changed: list[DataSpec] = []
    unreadable: DataError | None = None
    for data in _candidates(study, place):
        try:
            split = load_study_split(spec.model_copy(update={"data": data}))
        except DataError as error:
            unreadable = unreadable or error
            continue
        if split.digest == study.data_digest:
            return split
        changed.append(data)
    if changed:
        where = f" ({changed[0].place})" if changed[0].place else ""
        raise DataError(
            f'the data of study "{spec.name}"{where} changed since it began; its trials would not compare with others'
        )
    if unreadable is not None:
        raise unreadable
    listed = ", ".join(str(path) for path in (place, spec.data.place, *study.data_places) if path is not None)
    raise DataError(
        f'the data of study "{spec.name}" are not where they may be ({listed}); say where they lie now: --data PATH, '
        f"or {DATA_ENVIRONMENT}=FOLDER"
    )


def _candidates(study: StoredStudy, place: Path | None) -> list[DataSpec]:
    """The data of a study at each of the places where something lies, the likeliest first."""
    data = study.spec.data
    key = "folder" if data.path is None else "path"
    known = [path for path in (data.place, *study.data_places) if path is not None]
    # Who names a place means no other one.
    found = list(known) if place is None else [*(place / path.name for path in known), place]
    if place is None and (given := os.environ.get(DATA_ENVIRONMENT)) and data.place is not None:
        # What stands before the data differs from machine to machine; what stands right before them less so.
        found += [Path(given, *path.parts[-n:]) for path in known for n in range(len(path.parts) - 1, 0, -1)]
        found += [Path(given)] if data.path is None else []
    there = [
        data.model_copy(update={key: path.absolute()})
        for path in dict.fromkeys(found)
        if _is_there(path) and path.is_dir() == (key == "folder" or data.is_folder)
    ]
    # Sets that can be downloaded need not be anywhere.
    return there if data.path is not None else [*there, data]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # behind a folder that we may not enter
        return False


def backbones_of(spec: StudySpec) -> tuple[str, ...]:
    """Those that trials of a study may begin with: names of torchvision's, and files."""
    return spec.space.words("backbone") if "backbone" in spec.space.words("stem") else ()


def _refuse_undefined(spec: StudySpec, split: Split) -> None:
    """Refuse a metric that no network could have: every trial would fail for want of it."""
    needed = {*spec.objectives, *(constraint.metric for constraint in spec.constraints)}
    target = split.validation_y
    if split.validation_row_weights is not None:
        target = target[split.validation_row_weights > 0]
    needs_two = [name for name in ("r2", "roc_auc", "average_precision") if name in needed]
    if needs_two and target.min() == target.max():
        others = "rmse or mae" if needs_two == ["r2"] else "accuracy or cross_entropy"
        raise DataError(
            f"{needs_two[0]} does not exist on the validation rows: all {len(target)} of them have the same target; "
            f"allowed: {others}, or other validation rows (data.seed, data.validation)"
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
