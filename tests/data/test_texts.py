"""Texts: a column of a table, folders of files, and words as numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kansearch.data.splits import describe, load_split, load_test
from kansearch.data.texts import words_of
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec, TextShape
from tests.texts import write_imdb, write_reviews


def test_words() -> None:
    """In small letters, with their apostrophes, without tags, signs and underscores; of any script."""
    assert words_of("It's <br /><br />GREAT, isn't it? Così-così_10/10") == [
        "it's", "great", "isn't", "it", "così", "così", "10", "10",
    ]  # fmt: skip
    assert words_of("if 3 < 5 and 7 > 6, I <3 it") == ["if", "3", "5", "and", "7", "6", "i", "3", "it"]
    assert words_of(None) == words_of(" ... <b></b>") == []


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
