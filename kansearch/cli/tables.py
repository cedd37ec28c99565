"""Tables for a terminal, which become plain text in a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

from rich import box
from rich.console import Console
from rich.table import Table


class _Trimmed:
    """A text stream that drops the blanks with which rich pads its lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r" +(?=\n|\Z)", "", text) if text.endswith("\n") else text)


def console() -> Console:
    """Where commands print: colours and a live display on a terminal, nothing but text elsewhere."""
    # No markup: a name or a reason may hold brackets of its own.
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    if sys.stdout.isatty():
        return Console(**plain)
    # A pipe has no width of its own; rich would cut tables at 80 columns.
    return Console(**plain, width=200, file=cast("TextIO", _Trimmed(sys.stdout)))


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence: wrapped between words on a terminal, one line in a pipe."""
    console.print(text, style=style, soft_wrap=not console.is_terminal)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose columns of numbers stand to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column, name in enumerate(header):
        # A number, perhaps with its unit; an architecture may begin with a number too.
        cells = [row[column] for row in rows]
        numeric = bool(cells) and all(cell[:1] in "0123456789-.\N{EN DASH}" and cell.count(" ") < 2 for cell in cells)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def duration(seconds: float) -> str:
    """A time for people: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
