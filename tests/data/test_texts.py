"""Texts: a column of a table, folders of files, and words as numbers."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kansearch.data.splits import Split, describe, load_split, load_test
from kansearch.data.texts import words_of
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec, TextShape
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.loop import train
from tests.texts import write_imdb, write_reviews


def test_words() -> None:
    """In small letters, with their apostrophes, without tags, signs and underscores; of any script."""
    assert words_of("It's <br /><br />GREAT, isn't it? Così-così_10/10") == [
        "it's", "great", "isn't", "it", "così", "così", "10", "10",
    ]  # fmt: skip
    assert words_of("if 3 < 5 and 7 > 6, I <3 it") == ["if", "3", "5", "and", "7", "6", "i", "3", "it"]
    assert words_of(None) == words_of(" ... <b></b>") == []


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("कि की। 2 किताबें", ["कि", "की", "2", "किताबें"]),
        ("مَدرَسة می\u200cخواهم", ["مَدرَسة", "می\u200cخواهم"]),  # noqa: RUF001 - Arabic letters, short vowels and a joiner
        (nfd("Über Việt ñandú H̱"), ["über", "việt", "ñandú", "ẖ"]),
        ("İstanbul", ["i̇stanbul"]),
        ("我们 iPhone手机3月，真的", [*"我们", "iphone", *"手机", "3", *"月真的"]),  # noqa: RUF001 - a Chinese comma
        ("コーヒー、すごい 葛\U000e0100", [*"コーヒーすごい", "葛\U000e0100"]),
        (nfd("한국어 좋다"), [*"한국어좋다"]),
        ("ง่ายกำ", ["ง่", "า", "ย", "ก", "ำ"]),
        ("x\u0301y isn't <b>né</b>", ["x\u0301y", "isn't", "né"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    """Marks belong to their letters, composed or not; scripts without spaces are split into their letters."""
    assert words_of(text) == [unicodedata.normalize("NFC", word) for word in words]


@given(st.text())
def test_any_text_has_words_of_letters_and_digits(text: str) -> None:
    """However a text is composed, its words are the same, and every letter and digit is in one of them."""
    words = words_of(text)
    assert words == words_of(nfd(text)) == words_of(unicodedata.normalize("NFC", text))
    if not {"<", ">"} & {*unicodedata.normalize("NFC", text)}:
        plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
        kept = Counter(c for c in plain if c.isalnum())
        assert Counter(c for c in "".join(words) if c.isalnum()) == kept


def write_texts(folder: Path, texts: dict[str, list[str]], n: int = 60) -> DataSpec:
    """A table of texts of some words, of which the first ones of the list tell the class."""
    random = np.random.default_rng(0)
    common = texts.pop("")
    path = folder / "texts.csv"
    rows = []
    for place in range(n):
        name = sorted(texts)[place % len(texts)]
        words = [*random.choice(common, 5), texts[name][place // 2 % len(texts[name])]]
        rows.append(f"{' '.join(random.permutation(words))},{name}")
    path.write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    return DataSpec(path=path, text="text", target="label", task="classification", max_words=24)


@pytest.mark.parametrize(
    "texts",
    [
        {"": ["घर", "कमल", "पत"], "a": ["की"], "b": ["कि"]},
        {"": ["bus", "taxi"], "a": ["uber"], "b": ["über", nfd("über")]},
        {"": ["กา", "บ้าน"], "a": ["ดี"], "b": ["ดึ"]},
    ],
    ids=["hindi", "accents", "thai"],
)
def test_classes_that_differ_in_a_mark_are_told_apart(texts: dict[str, list[str]], tmp_path: Path) -> None:
    """The mark stays with its word, and the same word is one whichever way it is composed."""
    split = load_split(write_texts(tmp_path, texts))
    model = ModelSpec(family="mlp", stem="embedding", width=8)
    training = TrainingSpec(epochs=30, learning_rate=0.03, batch_size=8)
    *_, last = train([TrialSpec(model=model, training=training, rungs=(30,))], split)
    assert last.metrics["accuracy"] == 1
    assert split.warnings == ()


def test_sentences_without_spaces_share_words(tmp_path: Path) -> None:
    """Other sentences of the same letters are known; where most words are not, a warning says so."""
    random = np.random.default_rng(0)

    def split_of(words: list[str], between: str) -> Split:
        rows = [f"{between.join(random.permutation(words))},{place % 2}" for place in range(60)]
        (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
        return load_split(DataSpec(path=tmp_path / "texts.csv", text="text", target="label", task="classification"))

    chinese = ["我们", "今天", "包装", "讨厌", "觉得", "真的", "喜欢"]
    assert split_of(chinese, "").warnings == ()
    # Tibetan has marks between its syllables, and codes of a machine none.
    (warning,) = split_of(["ab", "cd", "ef", "gh", "ij", "kl", "mn"], "").warnings
    assert warning.startswith("data: 12 of the 12 words of the validation texts are not among those that networks know")


def test_a_very_long_text(tmp_path: Path) -> None:
    """Its first words count, whatever the length of its field."""
    path = tmp_path / "texts.csv"
    rows = [f"{'poor dull ' * (40_000 if n == 7 else 2)},{n % 2}" for n in range(40)]
    path.write_text("text,label\n" + "\n".join(rows))
    split = load_split(DataSpec(path=path, text="text", target="label", task="classification", max_words=6))
    assert split.text_shape == TextShape(6, 4)
    assert split.n_train + split.n_validation + split.n_test == 40


def test_only_texts_that_are_read_in_another_way_have_another_digest(tmp_path: Path) -> None:
    """Studies of the first release go on, unless their words are others now."""
    digests = {}
    for name, word in (("plain", "Così"), ("marked", "कि")):
        path = tmp_path / "texts.csv"
        path.write_text("text,label\n" + "\n".join(f"{word} {n},{n % 2}" for n in range(40)), encoding="utf-8")
        digests[name] = load_split(DataSpec(path=path, text="text", target="label", task="classification")).digest
    assert digests["plain"] == "7c4a93d3229afb4391336d2d5a61d5ad2ddbd366dba016d7766acf854e613e68"
    assert digests["marked"] != "b6b8d4b63b86fbebf1f9502144c2e88d84a1beb6014d78112e797841689e3ae7"


def test_a_column_of_a_table(tmp_path: Path) -> None:
    """Other columns are not looked at; a target that is a number is standardised."""
    path = write_reviews(tmp_path)
    spec = DataSpec(path=path, text="review", target="mood", task="classification", max_words=6, vocabulary=5)
    split = load_split(spec)
    assert split.inputs == split.text_shape == TextShape(6, 7)
    assert split.class_names == ("bad", "good")
    assert split.train_x.shape[1] == split.n_inputs == 6
    assert split.train_x.max() == 6
    assert describe(spec, split) == (
        "reviews.csv: 60 texts of up to 6 words out of 5, 2 classes; 36 train, 12 validation, 12 test"
    )
    assert len(load_test(spec).y) == 12
    stars = load_split(DataSpec(path=path, text="review", target="stars", task="regression"))
    assert stars.text_shape is not None
    assert abs(stars.train_y.mean()) < 1e-5


def test_the_vocabulary_is_that_of_the_training_texts(tmp_path: Path) -> None:
    """Frequent words first; a word of other texts alone is unknown, and the rest of a short text is nothing."""
    path = tmp_path / "texts.csv"
    rows = [f"{'common ' * 3}word{n},{n % 2}" for n in range(40)]
    path.write_text("text,target\n" + "\n".join(rows))
    split = load_split(DataSpec(path=path, text="text", target="target", task="classification", max_words=8))
    assert split.encoder.words[0] == "common"
    assert len(split.encoder.words) == 1 + split.n_train
    assert torch.equal(split.validation_x, torch.tensor([[2.0, 2, 2, 1, 0, 0, 0, 0]]).expand(split.n_validation, -1))


def test_imdbs_folders(tmp_path: Path) -> None:
    """Its own test texts are the test rows; unlabelled ones are not looked at; max_rows leaves the test rows."""
    write_imdb(tmp_path / "aclImdb")
    spec = DataSpec(path=tmp_path / "aclImdb", text="files", validation=0.25)
    split = load_split(spec)
    assert split.class_names == ("neg", "pos")
    assert (split.n_train, split.n_validation, split.n_test) == (24, 8, 10)
    assert "unlabelled" not in split.encoder.words
    (tmp_path / "aclImdb/train/pos/._0.txt").write_bytes(b"\xff of a file system")
    (tmp_path / "aclImdb/train/pos/notes.md").write_text("not a text")
    (tmp_path / "aclImdb/train/pos/0.txt").rename(tmp_path / "aclImdb/train/pos/0.TXT")
    assert load_split(spec).n_train == 24
    assert describe(spec, load_split(spec)).endswith("; files left out: 1 .md, 1 .txt, 1 hidden")
    fewer = load_split(spec.model_copy(update={"max_rows": 20}))
    assert (fewer.n_train, fewer.n_validation, fewer.n_test) == (15, 5, 10)
    assert fewer.digest != split.digest


def test_texts_that_cannot_be_learned_from(tmp_path: Path) -> None:
    """Each mistake has one line that names the place."""

    def message(**spec: object) -> str:
        with pytest.raises(DataError) as caught:
            load_split(DataSpec(**spec))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    path = write_reviews(tmp_path)
    table = {"target": "mood", "task": "classification"}
    assert 'has no column "reviw" (data.text); did you mean "review"?' in message(path=path, text="reviw", **table)
    empty = tmp_path / "empty.csv"
    empty.write_text("review,mood\n" + "\n".join(f"...,{n % 2}" for n in range(30)))
    assert "none of the 18 training texts has a word" in message(path=empty, text="review", **table)
    assert 'column "stars" holds no texts' in message(path=path, text="stars", **table)
    (tmp_path / "extra").mkdir()
    write_imdb(tmp_path / "extra/set")
    (tmp_path / "extra/set/test/new").mkdir()
    (tmp_path / "extra/set/test/new/0.txt").write_text("new")
    assert 'has the class "new", which' in message(path=tmp_path / "extra/set", text="files")
    assert "nowhere does not exist; a folder of texts" in message(path=tmp_path / "nowhere", text="files")
    (tmp_path / "one/pos").mkdir(parents=True)
    assert "has no texts; allowed: a folder of .txt files" in message(path=tmp_path / "one", text="files")
    (tmp_path / "one/pos/a.txt").write_text("good")
    assert "has 1 folder(s) of texts; allowed: one for each class" in message(path=tmp_path / "one", text="files")
    write_imdb(tmp_path / "broken")
    (tmp_path / "broken/train/pos/3.txt").write_bytes(b"caf\xe9")
    assert "pos/3.txt is no text in UTF-8 (byte 4)" in message(path=tmp_path / "broken", text="files")
