"""`kansearch dashboard`: the studies of a storage in a browser."""

from __future__ import annotations

import contextlib
import os
import signal

from kansearch.cli.places import artifacts_place, storage_url
from kansearch.cli.tables import console, say
from kansearch.dashboard.guard import find_login
from kansearch.dashboard.serve import Dashboard
from kansearch.storage.artifacts import artifacts_at
from kansearch.storage.url import open_storage, shown


def show_dashboard(storage: str | None, place: str | None, host: str, port: int, *, writable: bool) -> None:
    """Serve the dashboard until somebody stops it.

    Args:
        storage: URL that was given with --storage; None asks the environment.
        place: Place of artifacts that was given with --artifacts; likewise.
        host: Address of this machine on which it listens.
        port: Port on which it listens.
        writable: Whether something may be changed.

    Raises:
        KansearchError: If the login, the storage, the place or the address do not allow it.
    """
    # A container's engine asks it to end with SIGTERM, which is then what Ctrl-C is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    login = find_login(host, os.environ)
    url = storage_url(storage)
    named = artifacts_place(place)
    kept_at = artifacts_at(named) if named else None
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
