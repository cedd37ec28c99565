"""The dashboard as a server: what it is put together from, where it listens, and how it ends."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kansearch.errors import MissingExtraError, UserError

try:
    import optuna_dashboard
    import waitress
except ImportError as error:
    raise MissingExtraError("the dashboard", str(error.name), "dashboard") from None

from kansearch.dashboard.artifacts import ArtifactStore
from kansearch.dashboard.guard import HOSTS, Guard, Login, host_name, is_loopback
from kansearch.dashboard.review import REPORT, Reviewer
from kansearch.storage.artifacts import Artifacts

if TYPE_CHECKING:
    from kansearch.storage.ledger import Storage

THREADS = 6
"""Requests that are answered at the same time."""

MAX_BODY, MAX_UPLOAD = 2**20, 2**27
"""Bytes of a request, and of one that may bring an artifact."""

PATIENCE_S = 2.0
"""For a storage that does not answer; a page asks again anyway."""

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - only whoever asks for it gets it, behind a password
"""Hosts that stand for all addresses of this machine."""


class Dashboard:
    """A dashboard that listens, and answers once it is run.

    Args:
        storage: Of the studies; what is changed needs one that can be written.
        login: Who may come in.
        host: Address or name of this machine on which it listens.
        port: Likewise; 0 takes a free one.
        place: Of artifacts that are shown beside studies and trials; None shows none.
        writable: Whether notes, artifacts and studies may be changed.
        environment: In which more names of this machine may stand.

    Raises:
        UserError: If it cannot listen there.
    """

    def __init__(
        self,
        storage: Storage,
        login: Login,
        host: str,
        port: int,
        place: Artifacts | None,
        *,
        writable: bool,
        environment: Mapping[str, str],
    ) -> None:
        storage.ledger.patience_s = PATIENCE_S
        app: Any = optuna_dashboard.wsgi(storage, None if place is None else ArtifactStore(place))
        reviewer = Reviewer(storage, place)
        app.route(REPORT, "GET", reviewer.report)
        app.install(reviewer)
        named = {name for text in environment.get(HOSTS, "").split(",") if (name := host_name(text.strip()))}
        ours = {"localhost", "127.0.0.1", "::1", host, *(() if is_loopback(host) else (socket.gethostname(),))}
        guard = Guard(app, login, ours | named, any_address=host in EVERYWHERE, writable=writable)
        try:
            self._server: Any = waitress.create_server(
                guard,
                host=host,
                port=port,
                threads=THREADS,
                max_request_body_size=MAX_UPLOAD if writable else MAX_BODY,
                ident="kansearch",
            )
        except (OSError, ValueError) as error:
            raise UserError(f"--host {host} --port {port}: {_why_not(error)}") from None
        listening = getattr(self._server, "effective_listen", None)  # of each address, where a name has several
        here, found = listening[0] if listening else (self._server.effective_host, self._server.effective_port)
        here = "127.0.0.1" if here in EVERYWHERE else here
        self.address = f"http://{f'[{here}]' if ':' in here else here}:{found}/{login.query}"
        """For a browser of this machine."""

    def run(self) -> None:
        """Answer until Ctrl-C."""
        self._server.run()


def _why_not(error: OSError | ValueError) -> str:
    """Why a server cannot listen."""
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return "something listens on this port already; name another one, or 0 for any that is free"
        case errno.EADDRNOTAVAIL | socket.EAI_NONAME | None:
            return "this host is none of this machine's; 127.0.0.1 serves this machine, 0.0.0.0 all its addresses"
        case errno.EACCES:
            return "only an administrator may listen on a port below 1024"
    return str(error)
