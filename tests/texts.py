"""Small sets of texts in the files of real ones."""

from __future__ import annotations

from pathlib import Path

GOOD = ("a great film", "I loved it <br /> truly great", "what a wonderful, wonderful story")
BAD = ("a dull film", "I hated it <br /> truly dull", "what a boring, boring story")


def write_reviews(folder: Path, n: int = 60) -> Path:
    """A table with a column of texts."""
    path = folder / "reviews.csv"
    rows = [f'"{(GOOD if n % 2 else BAD)[n % 3]}",{"good" if n % 2 else "bad"},{1 + 4 * (n % 2)},{n}' for n in range(n)]
    path.write_text("review,mood,stars,other\n" + "\n".join(rows))
    return path


def write_imdb(folder: Path, n_train: int = 16, n_test: int = 5) -> None:
    """Folders as IMDB has them, with so many texts of each class."""
    for part, n in (("train", n_train), ("test", n_test)):
        for name, texts in (("neg", BAD), ("pos", GOOD)):
            (folder / part / name).mkdir(parents=True)
            for place in range(n):
                (folder / part / name / f"{place}.txt").write_text(texts[place % 3])
    (folder / "train/unsup").mkdir()
    (folder / "train/unsup/0.txt").write_text("unlabelled")
