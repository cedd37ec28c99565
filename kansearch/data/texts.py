"""Texts and their targets: a column of a table, or a folder of text files; and texts as numbers of words.

Shapes: N texts, T words of a text.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import regex
from jaxtyping import Float64
from torch import Tensor

from kansearch.data.folders import files_left_out, is_hidden
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
"""Where a word is letters and digits and no more: in plain ASCII."""

APART = ("Han", "Hiragana", "Katakana", "Bopomofo", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Yi")
"""Scripts that leave no space between words, or glue so much to them that few come twice: each letter is a word."""

MOST = 0.5
"""Share of unknown words among those of the validation texts above which the texts were perhaps not split rightly."""


@functools.cache
def _word() -> regex.Pattern[str]:
    """A word of any script: letters and digits with the marks and joiners behind them."""
    apart = "".join(rf"\p{{scx={script}}}" for script in APART)
    marks = r"[\p{M}\u200c\u200d]*+"
    letter = rf"(?:[a-z0-9]++{marks}|[\p{{L}}\p{{N}}--[{apart}]]{marks})"
    return regex.compile(rf"(?V1){letter}++(?:'{letter}++)?+|[\p{{L}}\p{{N}}]{marks}")


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

    Composed and decomposed letters are the same (NFC), a mark belongs to the letter before it, and of scripts that are
    written without spaces each letter is a word.

    >>> words_of("It's <br /> GREAT, isn't it?")
    ["it's", 'great', "isn't", 'it']

    Source: Unicode Standard Annexes 15 (NFC) and 24 (scripts).
    """
    if not isinstance(text, str):
        return []
    plain = _TAG.sub(" ", unicodedata.normalize("NFC", text)).lower()
    # Small letters compose where large ones did not.
    return _WORD.findall(plain) if plain.isascii() else _word().findall(unicodedata.normalize("NFC", plain))


def _words_of_the_first_release(text: object) -> list[str]:
    """The words of a text as they were before marks and scripts counted."""
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


def load_texts(spec: DataSpec) -> tuple[Table, int, str]:
    """The texts with their targets; how many at the end are the test rows of whoever made the set; and what is no row.

    The last is the files of a folder that were left out, counted by kind; "" where there are none.

    Raises:
        DataError: If files are missing, broken, or hold nothing to learn from.
    """
    assert spec.path is not None
    table, n_test, left_out = _from_folder(spec.path) if spec.is_folder else (load_table(spec), 0, "")
    texts = table.features[_column(spec)]
    if any(not str(text).isascii() and words_of(text) != _words_of_the_first_release(text) for text in texts):
        # The same file, read in another way: trials of the first release do not compare.
        table = replace(table, content=hashlib.sha256(f"{table.content} words 2".encode()).hexdigest())
    return table, n_test, left_out


def unknown_words(rows: Tensor) -> Iterator[str]:
    """A warning where most words of some encoded texts are not in the vocabulary."""
    n_words, n_unknown = int((rows != NOTHING).sum()), int((rows == UNKNOWN).sum())
    if n_unknown > MOST * n_words:
        yield (
            f"data: {n_unknown:,} of the {n_words:,} words of the validation texts are not among those that networks "
            "know (data.vocabulary, from the training texts), so that little of these texts is seen"
        )


def _from_folder(folder: Path) -> tuple[Table, int, str]:
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
    return table, len(test), files_left_out(folder, {file for file, _ in files})


def _class_names(folder: Path) -> list[str]:
    """Folders with text files; others, such as IMDB's `unsup`, hold no class."""
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [entry.name for entry in folders if entry.name != "unsup" and _texts(entry)]


def _files(folder: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    files: list[tuple[Path, int]] = []
    for index, name in enumerate(class_names):
        files += [(file, index) for file in _texts(folder / name)]
    if not files:
        raise DataError(f"{folder} has no texts; allowed: a folder of .txt files for each class")
    return files


def _texts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() == ".txt" and not is_hidden(Path(f.name)))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text in UTF-8 (byte {error.start + 1})") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
