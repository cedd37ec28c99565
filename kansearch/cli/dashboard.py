"""`kansearch dashboard`: the studies of a storage in a browser."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from kansearch.cli.places import storage_url
from kansearch.cli.tables import console, say
from kansearch.dashboard.guard import find_login
from kansearch.dashboard.serve import Dashboard
from kansearch.storage import artifacts
from kansearch.storage.url import open_storage, shown


def show_dashboard(storage: str | None, place: str | None, host: str, port: int, *, writable: bool) -> None:
    """Serve the dashboard until somebody stops it.

    Args:
        storage: With the flag.
        place: With the flag, of artifacts.
        host: On which it listens.
        port: Likewise.
        writable: Whether something may be changed.

    Raises:
        KansearchError: If the login, the storage, the place or the address do not allow it.
    """
    # A container's engine asks it to end with SIGTERM, which is then what Ctrl-C is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    login = find_login(host, os.environ)
    url = storage_url(storage)
    here = place or os.environ.get(artifacts.ENVIRONMENT)
    kept_at = artifacts.artifacts_at(artifacts.parse_place(here, Path())) if here else None
    if kept_at is not None:
        kept_at.check(writable=writable)
    dashboard = Dashboard(
        open_storage(url, read_only=not writable),
        login,
        host,
        port,
        kept_at,
        writable=writable,
        environment=os.environ,
    )
    out = console()
    with contextlib.suppress(KeyboardInterrupt):
        say(out, f"Dashboard of {shown(url)}: {dashboard.address}")
        say(out, f"{'Notes, artifacts and studies can be changed' if writable else 'It only shows'}; Ctrl-C ends it.")
        dashboard.run()
