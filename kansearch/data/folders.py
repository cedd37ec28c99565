"""Folders of files that are rows: which of them are looked at, and what is said of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

ARCHIVER = "__MACOSX"
"""The folder in which one system's archives keep what it hides."""


def is_hidden(path: Path) -> bool:
    """Whether a file, by its path inside a folder of rows, or a folder above it, is hidden."""
    return any(part.startswith(".") or part == ARCHIVER for part in path.parts)


def files_left_out(folder: Path, rows: Collection[Path]) -> str:
    """The files of a folder that are no rows, counted by kind, the commonest first; "" where there are none.

    A kind is a suffix in small letters, `hidden` or `without a suffix`, as in `20 .heic, 4 .txt, 1 hidden`.

    Args:
        folder: With all its folders.
        rows: Those of its files that are.
    """
    kinds = Counter(
        _kind(path.relative_to(folder)) for path in folder.rglob("*") if path not in rows and path.is_file()
    )
    return ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _kind(path: Path) -> str:
    return "hidden" if is_hidden(path) else path.suffix.lower() or "without a suffix"
