"""Which data a study learns from, and how it is split."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kansearch.specs.base import Number, Spec, Whole
from kansearch.specs.metrics import Task

Share = Annotated[Number, Field(gt=0, lt=1)]

BUNDLED_SETS = {
    "digits": Task.CLASSIFICATION,
    "breast_cancer": Task.CLASSIFICATION,
    "wine": Task.CLASSIFICATION,
    "iris": Task.CLASSIFICATION,
    "diabetes": Task.REGRESSION,
}
"""scikit-learn's bundled sets."""

FUNCTIONS = (
    "multi_sine",
    "noisy_sine",
    "feynman_i_6_2",
    "feynman_i_9_18",
    "feynman_i_12_11",
    "feynman_i_26_2",
    "feynman_i_29_16",
    "feynman_i_44_4",
)
"""Formulas with a stated domain, sampled afresh for each split."""

IMAGE_SETS = ("digits_images", "mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")
"""Sets of images; but for the first their files are torchvision's."""

DEFAULT_IMAGE_SIZE = 32
DEFAULT_MAX_WORDS = 128
DEFAULT_VOCABULARY = 5000
TEXT_FILES = "files"

SPLITTERS = ("group", "order", "split")
"""Keys that name the column by which rows are split."""

ROLES = (*SPLITTERS, "weight")
"""Keys that name a column of a table which is no input, but says something of each row."""

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")

NUMBER_FORMS = ("1234.5", "1234,5", "1,234.5", "1.234,5", "1 234.5", "1 234,5", "1'234.5", "1'234,5")
"""How 1234.5 may be written. A form with a mark between thousands also takes numbers without it."""


def _is_date_form(form: str) -> bool:
    """Whether strptime reads back what strftime writes, and the year is in it."""
    moment = dt.datetime(2023, 12, 31)  # noqa: DTZ001 - a form may have no zone
    try:
        return dt.datetime.strptime(moment.strftime(form), form).year == 2023  # noqa: DTZ007
    except (ValueError, re.error):
        return False


class TextShape(NamedTuple):
    """What networks for texts are built for.

    Attributes:
        length: Word numbers in a row; 0 where a text has no more words.
        vocabulary: Known words, with 0 for none and 1 for an unknown one.
    """

    length: int
    vocabulary: int


class ImageShape(NamedTuple):
    """What networks for images are built for."""

    channels: int
    height: int
    width: int


Inputs = int | ImageShape | TextShape
"""What networks are built for: numbers in a row, images or texts."""


def _with_forms(value: object) -> object:
    """A list of columns stands for columns whose values show how they are written."""
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, "")
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "columns_with_forms", "must be a list of columns, or have columns as keys, each with how it is written"
        )
    return value


class DataSpec(Spec):
    """A named dataset, a formula to approximate, a table in a file, or a folder of images.

    Attributes:
        name: A bundled set, a set of images or a formula; exclusive with `path`.
        path: A CSV, TSV or Parquet file, or a folder with a folder of images for each class (or with two such
            folders, `train` and `test`); relative to the study file.
        text: Rows are texts: the column of a table that holds them, or `files` where the path is a folder with a
            folder of text files for each class (or with two such folders, `train` and `test`).
        target: The column of the file that is predicted.
        task: What kind of column that is; needed with a table, known otherwise.
        ignore: Columns of the file that no network sees.
        categories: Columns whose values are names, also where they look like numbers.
        numbers: Columns of numbers; what is none there counts as missing. `{COLUMN: '1.234,5'}` says how 1234.5 is
            written.
        dates: Columns of dates; `{COLUMN: '%d/%m/%Y'}` says how they are written, by the directives of strptime.
        group: The column that says which rows belong together, such as those of a person: no group is in two parts.
        order: The column, numbers or dates, by which training rows come before validation rows, and those before test
            rows.
        split: The column that says in which part a row is: train, validation or test. A part that it never names is
            drawn from its training rows.
        weight: The column that says how much a row counts, in the loss and in what is measured; numbers from 0 on.
        class_weights: `balanced` lets all classes count alike in the loss, however few rows they have.
        target_transform: `log` lets networks learn the logarithm of a target above 0; errors stay in its own unit.
        validation: Share of the rows that judge trials. Not used by formulas.
        test: Share of the rows that no trial ever sees. Not used by formulas.
        seed: Of the split, and of the samples of a formula.
        n_train: Samples of a formula to train on; likewise `n_validation` and `n_test`.
        noise: Standard deviation of the noise on a formula's training targets, in units of the
            clean target's standard deviation; None takes the formula's own.
        folder: Where the files of a set of images lie, or are downloaded to; None is $KANSEARCH_DATA, or
            ~/.cache/kansearch.
        image_size: Height and width to which the images of a folder are brought; 32 where nothing is said.
        max_rows: Train and validate with so many images or texts at most, drawn by the seed.
        max_words: Of a text, its first ones; 128 where nothing is said.
        vocabulary: So many words are known, the most frequent ones of the training texts; 5,000 where nothing is said.
    """

    name: str | None = None
    path: Path | None = None
    text: str | None = None
    target: str | None = None
    task: Task | None = None
    ignore: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: Annotated[dict[str, str], BeforeValidator(_with_forms)] = Field(default_factory=dict)
    dates: Annotated[dict[str, str], BeforeValidator(_with_forms)] = Field(default_factory=dict)
    group: str | None = None
    order: str | None = None
    split: str | None = None
    weight: str | None = None
    class_weights: Literal["none", "balanced"] = "none"
    target_transform: Literal["none", "log"] = "none"
    validation: Share = 0.2
    test: Share = 0.2
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
    n_train: Annotated[Whole, Field(ge=8, le=1_000_000)] = 1000
    n_validation: Annotated[Whole, Field(ge=8, le=1_000_000)] = 500
    n_test: Annotated[Whole, Field(ge=8, le=1_000_000)] = 1000
    noise: Annotated[Number, Field(ge=0, le=100)] | None = None
    folder: Path | None = None
    image_size: Annotated[Whole, Field(ge=4, le=512)] | None = None
    max_rows: Annotated[Whole, Field(ge=20, le=10_000_000)] | None = None
    max_words: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    vocabulary: Annotated[Whole, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("target", mode="before")
    @classmethod
    def _one_target(cls, target: object) -> object:
        if isinstance(target, (list, tuple, dict)):
            raise PydanticCustomError(
                "one_target", "names several columns; a study predicts one: name it, and the others under data.ignore"
            )
        return target

    @field_validator("numbers")
    @classmethod
    def _known_numbers(cls, numbers: dict[str, str]) -> dict[str, str]:
        for column, form in numbers.items():
            if form and form not in NUMBER_FORMS:
                allowed = ", ".join(f"'{known}'" for known in NUMBER_FORMS)
                raise PydanticCustomError(
                    "number_form",
                    "is {form}; say how 1234.5 is written there: {allowed}",
                    {"form": form, "allowed": allowed, "at": column},
                )
        return numbers

    @field_validator("dates")
    @classmethod
    def _known_dates(cls, dates: dict[str, str]) -> dict[str, str]:
        for column, form in dates.items():
            if form and not _is_date_form(form):
                raise PydanticCustomError(
                    "date_form",
                    "is {form}; allowed: directives of strptime with a year, such as '%d/%m/%Y'",
                    {"form": form, "at": column},
                )
        return dates

    @field_validator("name")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        known = [*BUNDLED_SETS, *IMAGE_SETS, *FUNCTIONS]
        if name is not None and name not in known:
            raise PydanticCustomError("unknown_name", "is {given}", {"given": name, "allowed": known})
        return name

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.path is None):
            raise PydanticCustomError(
                "source", "needs either a name (a set or a formula) or a path (a table file or a folder of images)"
            )
        if self.name is not None:
            if self.target is not None or self.ignore or self.text is not None:
                raise PydanticCustomError("not_for_names", "target, ignore and text belong to a path, not to a name")
            if self.task is not None and self.task is not self.resolved_task:
                raise PydanticCustomError(
                    "task_differs",
                    "{name} is a {task} set; leave task out",
                    {"name": self.name, "task": self.resolved_task.value, "at": "task"},
                )
        if self.path is not None:
            if "\0" in str(self.path):
                raise PydanticCustomError("path_nul", "holds a NUL character, which no path has", {"at": "path"})
            if self.path.suffix.lower() not in ("", *TABLE_SUFFIXES):
                raise PydanticCustomError(
                    "suffix",
                    "is {path}; a table file ends in {allowed}, and a folder of images in none of them",
                    {"path": str(self.path), "allowed": ", ".join(TABLE_SUFFIXES), "at": "path"},
                )
            missing = [key for key in ("target", "task") if getattr(self, key) is None]
            if self.is_folder:
                self._only_in_tables()
            elif missing:
                raise PydanticCustomError(
                    "file_needs",
                    "a path also needs {missing} (task is classification or regression)",
                    {"missing": " and ".join(missing)},
                )
            if self.target in self.ignore:
                raise PydanticCustomError("target_ignored", "the target column is also ignored", {"at": "ignore"})
        is_table = self.path is not None and not self.is_folder and self.text is None
        for key, holds, owner in (
            ("folder", self.name in IMAGE_SETS, "a set of images"),
            ("image_size", self.is_images and self.path is not None, "a folder of images"),
            ("max_rows", self.is_images or self.text is not None, "images or texts"),
            ("max_words", self.text is not None, "texts"),
            ("vocabulary", self.text is not None, "texts"),
            ("categories", is_table, "a table in a file, without data.text"),
            ("numbers", is_table, "a table in a file, without data.text"),
            ("dates", is_table, "a table in a file, without data.text"),
        ):
            if getattr(self, key) not in (None, (), {}) and not holds:
                raise PydanticCustomError(
                    "not_here", "{key} belongs to {owner}", {"key": key, "owner": owner, "at": key}
                )
        self._check_roles()
        self._said_once()
        if self.text is not None and self.text == self.target:
            raise PydanticCustomError("text_is_target", "is the target column", {"at": "text"})
        if self.validation + self.test >= 0.9:
            raise PydanticCustomError(
                "no_train",
                "validation + test is {share}; must be below 0.9, the rest is what networks train on",
                {"share": round(self.validation + self.test, 4)},
            )
        return self

    def _check_roles(self) -> None:
        given = {key: name for key in ROLES if (name := getattr(self, key)) is not None}
        for key, name in given.items():
            if self.path is None or self.is_folder:
                raise PydanticCustomError("not_here", "{key} belongs to a table", {"key": key, "at": key})
            if name in (self.target, self.text):
                which = "target" if name == self.target else "text"
                raise PydanticCustomError("role_taken", "is the {which} column", {"which": which, "at": key})
        splitters = [key for key in SPLITTERS if key in given]
        if len(splitters) > 1:
            raise PydanticCustomError(
                "one_splitter",
                "stands beside {other}; allowed: one of {allowed}",
                {"other": splitters[0], "allowed": ", ".join(SPLITTERS), "at": splitters[1]},
            )
        task = self.resolved_task
        for key, needed in (("class_weights", Task.CLASSIFICATION), ("target_transform", Task.REGRESSION)):
            if getattr(self, key) != "none" and task is not needed:
                raise PydanticCustomError(
                    "not_for_this_task",
                    "is for {needed}, and the task is {task}",
                    {"needed": needed.value, "task": task.value, "at": key},
                )

    def _said_once(self) -> None:
        """Of each column at most one thing is said, and of a target only how its numbers are written."""
        told = {"ignore": self.ignore, "categories": self.categories, "numbers": self.numbers, "dates": self.dates}
        seen: dict[str, str] = {}
        for key, columns in told.items():
            for column in columns:
                if seen.setdefault(column, key) != key:
                    raise PydanticCustomError(
                        "said_twice",
                        "{column} stands under {other} too",
                        {"column": column, "other": seen[column], "at": key},
                    )
        if seen.get(self.target or "") == "categories" or (
            self.target in seen and self.target not in self.ignore and self.task is Task.CLASSIFICATION
        ):
            raise PydanticCustomError(
                "target_told",
                "{column} is the target, whose values data.task tells: classes as they stand, or numbers",
                {"column": self.target, "at": seen[self.target or ""]},
            )

    def _only_in_tables(self) -> None:
        if self.target is not None or self.ignore or self.task is Task.REGRESSION:
            raise PydanticCustomError(
                "not_for_folders",
                "target, ignore and regression belong to a table, and {path} is a folder",
                {"path": str(self.path)},
            )
        if self.text not in (None, TEXT_FILES):
            raise PydanticCustomError(
                "text_of_a_folder",
                "is {text}; the texts of a folder are {files}",
                {"text": self.text, "files": TEXT_FILES, "at": "text"},
            )

    @property
    def is_folder(self) -> bool:
        """Whether the data are files in a folder that is named."""
        return self.path is not None and not self.path.suffix

    @property
    def place(self) -> Path | None:
        """Where their files lie; None where there are none, or in the folder of all downloads."""
        return self.path or self.folder

    @property
    def is_images(self) -> bool:
        """Whether rows are images."""
        return self.name in IMAGE_SETS or (self.is_folder and self.text is None)

    @property
    def is_function(self) -> bool:
        """Whether the data are samples of a formula."""
        return self.name in FUNCTIONS

    @property
    def resolved_task(self) -> Task:
        """The task, also where the study file leaves it out."""
        if self.is_images or self.is_folder:
            return Task.CLASSIFICATION
        if self.name is None:
            assert self.task is not None
            return self.task
        return BUNDLED_SETS.get(self.name, Task.REGRESSION)
