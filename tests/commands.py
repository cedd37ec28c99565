"""The command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PATIENCE_S = 300


def run_in(
    folder: Path, *arguments: object, stdin: int = subprocess.DEVNULL, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, with no terminal unless it is given one as its input."""
    return subprocess.run(
        [sys.executable, "-m", "kansearch", *map(str, arguments)], cwd=folder, env={**os.environ, **environment},
        stdin=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
