"""The report as files: one HTML page that needs nothing else, JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from kansearch.errors import UserError
from kansearch.report.csv_export import to_csv
from kansearch.report.explanation import explanation_html
from kansearch.report.json_export import FORMAT, to_json
from kansearch.report.page import to_html
from kansearch.report.summary import Summary
from kansearch.specs.explanation import Explanation


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
    return _write_whole(
        folder,
        {
            "trials.csv": to_csv(summary),
            "report.json": json.dumps(to_json(summary, now), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            "report.html": to_html(summary, now),
        },
    )


def write_explanation(explanation: Explanation, folder: Path, now: datetime) -> Path:
    """Write `explain-N.html` and `explain-N.json` of trial N; returns the path of the page.

    Args:
        explanation: Of its network.
        folder: As in `write_report`.
        now: When it is written.

    Raises:
        UserError: If the folder cannot be written.
    """
    name = f"explain-{explanation.trial}"
    document = {"format": FORMAT, "written": now.isoformat(timespec="seconds"), **explanation.model_dump(mode="json")}
    return _write_whole(
        folder,
        {
            f"{name}.json": json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            f"{name}.html": explanation_html(explanation, now),
        },
    )


def _write_whole(folder: Path, texts: Mapping[str, str]) -> Path:
    """All files or none, whatever happens; returns the path of the last."""
    temporary: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
    return folder / list(texts)[-1]


def check_writable(folder: Path, what: str = "report") -> None:
    """See whether files can be made in a folder, and leave everything as it is.

    Args:
        folder: Which; it need not exist.
        what: Is to be written there.

    Raises:
        UserError: If not; the message names the folder and the reason.
    """
    missing: list[Path] = []
    try:
        missing += (path for path in (folder, *folder.parents) if not path.exists())
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error, what) from None
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _unwritable(folder: Path, error: OSError, what: str = "report") -> UserError:
    reason = error.strerror or error
    return UserError(f"the {what} cannot be written to {folder}: {reason}; name another folder with --output")


def _write(path: Path, text: str) -> None:
    """Write a whole text that survives a crash of the machine."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
