"""Texts and their targets: a column of a table, or a folder of text files; and texts as numbers of words.

Shapes: N texts, T words of a text.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64

from kansearch.data.tabular import Table, load_table
from kansearch.errors import DataError
from kansearch.specs.base import Spec
from kansearch.specs.data import DEFAULT_MAX_WORDS, DEFAULT_VOCABULARY, DataSpec, TextShape

TEXT = "text"
"""The column of the texts of a folder."""

NOTHING, UNKNOWN = 0, 1
"""Numbers of no word, and of one that is not in the vocabulary."""

_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


class TextEncoder(Spec):
    """Texts to rows of word numbers, by what the training texts have shown.

    Attributes:
        column: Of the texts.
        max_words: T; longer texts are cut.
        words: Known words, the most frequent first; the first has number 2.
    """

    kind: Literal["text"] = "text"
    column: str
    max_words: int
    words: tuple[str, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """For people."""
        return tuple(f"word {place + 1}" for place in range(self.max_words))

    @property
    def shape(self) -> TextShape:
        """What networks are built for: no word and the unknown one have numbers too."""
        return TextShape(self.max_words, len(self.words) + 2)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=2)}

    def encode(self, table: pd.DataFrame, source: str) -> Float64[np.ndarray, "N T"]:
        """The numbers of the first T words of each text, then zeros."""
        if self.column not in table:
            raise DataError(f'{source} has no column "{self.column}" (data.text)')
        rows = np.zeros((len(table), self.max_words))
        for row, text in enumerate(table[self.column]):
            numbers = [self._numbers.get(word, UNKNOWN) for word in words_of(text)[: self.max_words]]
            rows[row, : len(numbers)] = numbers
        return rows


def words_of(text: object) -> list[str]:
    """The words of a text in small letters, without tags; none where there is no text.

    >>> words_of("It's <br /> GREAT, isn't it?")
    ["it's", 'great', "isn't", 'it']
    """
    return _WORD.findall(_TAG.sub(" ", text).lower()) if isinstance(text, str) else []


def fit_text_encoder(spec: DataSpec, table: pd.DataFrame, source: str) -> TextEncoder:
    """What the training texts show.

    Raises:
        DataError: If they hold no words.
    """
    column = _column(spec)
    counts = Counter(word for text in table[column] for word in words_of(text))
    if not any(isinstance(text, str) for text in table[column]):
        raise DataError(f'{source}, column "{column}" holds no texts; numbers and categories need no data.text')
    if not counts:
        raise DataError(f'{source}, column "{column}": none of the {len(table)} training texts has a word')
    # By number and then by name, so that the order of the rows does not matter.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return TextEncoder(
        column=column,
        max_words=spec.max_words or DEFAULT_MAX_WORDS,
        words=tuple(ranked[: spec.vocabulary or DEFAULT_VOCABULARY]),
    )


def _column(spec: DataSpec) -> str:
    assert spec.text is not None
    return TEXT if spec.is_folder else spec.text


def load_texts(spec: DataSpec) -> tuple[Table, int]:
    """The texts with their targets, and how many at the end are the test rows of whoever made the set.

    Raises:
        DataError: If files are missing, broken, or hold nothing to learn from.
    """
    if not spec.is_folder:
        return load_table(spec), 0
    assert spec.path is not None
    return _from_folder(spec.path)


def _from_folder(folder: Path) -> tuple[Table, int]:
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; a folder of texts has a folder for each class")
    parts = [folder / "train", folder / "test"]
    if all(part.is_dir() for part in parts):
        class_names = _class_names(parts[0])
        unknown = sorted(set(_class_names(parts[1])) - set(class_names))
        if unknown:
            raise DataError(f'{parts[1]} has the class "{unknown[0]}", which {parts[0]} lacks')
        train, test = (_files(part, class_names) for part in parts)
    else:
        class_names, test = _class_names(folder), []
        train = _files(folder, class_names)
    if len(class_names) < 2:
        raise DataError(f"{folder} has {len(class_names)} folder(s) of texts; allowed: one for each class, at least 2")
    files = [*train, *test]
    texts = [_read(file) for file, _ in files]
    target = np.array([index for _, index in files], dtype=np.int64)
    content = hashlib.sha256(target.tobytes())
    for text in texts:
        content.update(f"{len(text)} {text}".encode())
    table = Table(str(folder), pd.DataFrame({TEXT: texts}), target, tuple(class_names), 0, content.hexdigest())
    return table, len(test)


def _class_names(folder: Path) -> list[str]:
    """Folders with text files; others, such as IMDB's `unsup`, hold no class."""
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [entry.name for entry in folders if entry.name != "unsup" and any(entry.glob("*.txt"))]


def _files(folder: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    files: list[tuple[Path, int]] = []
    for index, name in enumerate(class_names):
        found: Iterable[Path] = sorted((folder / name).glob("*.txt"))
        files += [(file, index) for file in found]
    if not files:
        raise DataError(f"{folder} has no texts; allowed: a folder of .txt files for each class")
    return files


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text in UTF-8 (byte {error.start + 1})") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
