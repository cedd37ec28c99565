"""`kansearch init`: from data to a study file that runs as it is."""

from __future__ import annotations

from pathlib import Path

from kansearch.cli.studies import MOST_COLUMNS
from kansearch.cli.tables import console, say, table
from kansearch.data.proposal import command, propose, study_file
from kansearch.errors import UserError
from kansearch.report.words import column_rows


def write_study(data: Path, target: str | None, output: Path | None, *, force: bool) -> None:
    """Look at data, say what was seen, and write a study file.

    Args:
        data: The file or folder.
        target: The column to predict; None guesses it.
        output: The study file; None is one of the data's name in the current folder.
        force: Whether a file that is there may be overwritten.

    Raises:
        KansearchError: If the data cannot be learned from, or the file is there or cannot be written.
    """
    file = output or study_file(data)
    if file.exists() and not force:
        raise UserError(f"{file} exists; --force overwrites it, -o FILE writes another")
    proposal = propose(data, target, file)
    out = console()
    if proposal.columns:
        header, rows, more = column_rows(proposal.columns, MOST_COLUMNS)
        out.print(table(f"Columns of {data.name}", header, rows))
        say(out, more)
    for sentence in proposal.sentences:
        say(out, sentence)
    try:
        file.write_text(proposal.text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    say(out, f"Wrote {file}: look at it, then  {command(file)}")
