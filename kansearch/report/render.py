"""The report as files: one HTML page that needs nothing else, JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from datetime import datetime
from pathlib import Path

from kansearch.errors import UserError
from kansearch.report.csv_export import to_csv
from kansearch.report.json_export import to_json
from kansearch.report.page import to_html
from kansearch.report.summary import Summary


def write_report(summary: Summary, folder: Path, now: datetime) -> Path:
    """Write `report.html`, `report.json` and `trials.csv`; returns the path of the page.

    All three are written whole before the first takes its place, so a full disk leaves the old report.

    Args:
        summary: The numbers.
        folder: Made if it does not exist; older reports in it are replaced.
        now: When the report is written.

    Raises:
        UserError: If the folder cannot be written.
    """
    check_writable(folder)
    texts = {
        "trials.csv": to_csv(summary),
        "report.json": json.dumps(to_json(summary, now), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.html": to_html(summary, now),
    }
    temporary: dict[str, Path] = {}
    try:
        for name, text in texts.items():
            temporary[name] = folder / f".{name}.{secrets.token_hex(4)}.tmp"
            _write(temporary[name], text)
        for name, path in temporary.items():
            path.replace(folder / name)
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return folder / "report.html"


def check_writable(folder: Path) -> None:
    """Make the folder and see whether files can be made in it.

    Raises:
        UserError: If not; the message names the folder and the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"the report cannot be written to {folder}: {error.strerror or error}; name another folder")


def _write(path: Path, text: str) -> None:
    """Write a whole text that survives a crash of the machine."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
