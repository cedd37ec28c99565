"""The guard of the dashboard: who may come in, under which address, and what they may change.

Optuna's dashboard has no login and looks at no header: whoever reaches it can delete every study, and so can any web
page that a person with access happens to open. So nothing reaches it that this guard has not let through.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from kansearch.errors import UserError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

USER, PASSWORD = "KANSEARCH_DASHBOARD_USER", "KANSEARCH_DASHBOARD_PASSWORD"
"""The environment variables that hold the login."""

HOSTS = "KANSEARCH_DASHBOARD_HOSTS"
"""The environment variable with more names, behind commas, under which the dashboard is reached (through a proxy)."""

HEALTH = "/healthz"
"""The path that answers everybody, so that a container's engine can see that the dashboard runs."""

CHANGES = (
    ("PUT", re.compile(r"/api/studies/\d+(/\d+)?/note")),
    ("DELETE", re.compile(r"/api/studies/\d+")),
    ("POST", re.compile(r"/api/artifacts/\d+(/\d+)?")),
    ("DELETE", re.compile(r"/api/artifacts/\d+(/\d+)?/[\da-fA-F-]+")),
)
"""What a writable dashboard may change: notes, files beside a study or a trial, and whether a study exists.

A study that is renamed, or a trial that is told its end, by anybody but its workers is no study of ours any more.
"""

HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
"""What every answer tells the browser."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A request that the guard does not let through.

    Args:
        status: Of the answer.
        reason: The only line that its sender sees.
        headers: Of the answer, beside the usual ones.
    """

    def __init__(self, status: HTTPStatus, reason: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, list(headers)


class Login(ABC):
    """How a person shows that the dashboard is theirs to see."""

    query = ""
    """What the printed address ends with."""

    @abstractmethod
    def admit(self, request: WSGIEnvironment) -> None:
        """Let a request through.

        Raises:
            Refusal: If it does not show what it must.
        """


class Password(Login):
    """A user and a password, as browsers ask for them (RFC 7617)."""

    def __init__(self, user: str, password: str) -> None:
        self._expected = f"{user}:{password}".encode()

    def admit(self, request: WSGIEnvironment) -> None:
        """Let a request with the right user and password through."""
        scheme, _, coded = request.get("HTTP_AUTHORIZATION", "").partition(" ")
        try:
            given = base64.b64decode(coded.strip(), validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            given = b""
        if not hmac.compare_digest(given, self._expected):
            challenge = ("WWW-Authenticate", 'Basic realm="kansearch dashboard", charset="UTF-8"')
            raise Refusal(HTTPStatus.UNAUTHORIZED, "the dashboard asks for its user and password", [challenge])


class Token(Login):
    """A secret in the printed address, which becomes a cookie of the browser that opens it."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(24)
        self.query = f"?token={self._token}"

    def admit(self, request: WSGIEnvironment) -> None:
        """Let a request with the cookie through, and send one with the token on with it."""
        # Cookies are shared by all ports of a machine.
        cookie = f"kansearch_dashboard_{request['SERVER_PORT']}"
        given = parse_qs(request.get("QUERY_STRING", "")).get("token", [""])[0]
        if self._is_right(given):
            keep = f"{cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            place = request["PATH_INFO"].strip("/") or "dashboard"
            raise Refusal(HTTPStatus.SEE_OTHER, "welcome", [("Location", f"/{quote(place)}"), ("Set-Cookie", keep)])
        try:
            kept = SimpleCookie(request.get("HTTP_COOKIE", "")).get(cookie)
        except CookieError:
            kept = None
        if kept is None or not self._is_right(kept.value):
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "the dashboard opens with the address that `kansearch dashboard` printed, token and all",
            )

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


def find_login(host: str, environment: Mapping[str, str]) -> Login:
    """The login of a dashboard.

    Args:
        host: On which it listens.
        environment: In which a user and a password may stand.

    Raises:
        UserError: If one of them is missing, or both where other machines could come in.
    """
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    if user and password:
        if ":" in user:
            raise UserError(f"{USER} holds a colon; a browser cannot send such a user")
        return Password(user, password)
    if user or password:
        raise UserError(f"{USER if password else PASSWORD} is not set; a login needs both a user and a password")
    if not is_loopback(host):
        raise UserError(
            f"--host {host} lets other machines in: set {USER} and {PASSWORD} first, or leave --host at 127.0.0.1"
        )
    return Token()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(text: str) -> str:
    """The name in an address, or in a part of one, without its port; empty where it is none."""
    try:
        return urlsplit(text if "//" in text else f"//{text}").hostname or ""
    except ValueError:
        return ""


class Guard:
    """What stands before the dashboard.

    Args:
        app: The dashboard.
        login: Who may come in.
        hosts: Names under which it is reached; a request with any other Host comes from a page that pretends
            that our address is its own (DNS rebinding). Where it listens on all addresses of the machine, any
            address is fine, for no page has one as its name.
        any_address: Whether it does.
        writable: Whether something may be changed, of what `CHANGES` holds.
    """

    def __init__(
        self, app: WSGIApplication, login: Login, hosts: Collection[str], *, any_address: bool, writable: bool
    ) -> None:
        self._app, self._login = app, login
        self._hosts = {host.lower() for host in hosts}
        self._any_address, self._writable = any_address, writable

    def __call__(self, request: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer a request, or let the dashboard do it."""

        def start_safely(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            # Whoever may read an answer is decided here: the dashboard opens its artifacts to all pages.
            kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
            if request["PATH_INFO"].startswith("/artifacts/"):
                kept.append(("Content-Security-Policy", "sandbox"))  # a file that somebody uploaded runs nothing
            return start(status, [*kept, *HEADERS], *rest)

        request.setdefault("HTTP_ACCEPT_ENCODING", "")  # the dashboard takes it for given
        try:
            self._check(request)
        except Refusal as refusal:
            return _answer(start_safely, refusal, for_people=not request["PATH_INFO"].startswith("/api/"))
        if request["PATH_INFO"] == HEALTH:
            return _answer(start_safely, Refusal(HTTPStatus.OK, "well"), for_people=True)
        return self._app(request, start_safely)

    def _check(self, request: WSGIEnvironment) -> None:
        method = request["REQUEST_METHOD"]
        try:
            path = request["PATH_INFO"].encode("latin-1").decode()
        except UnicodeDecodeError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the path is no text") from None
        if re.search(r"(^|/)\.\.(/|$)|[\\\0]", path):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the path leaves its folder")
        host = request.get("HTTP_HOST", "")
        if not self._is_ours(host):
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST, f"the Host of the request is none of ours; {HOSTS} may name more"
            )
        if method in ("GET", "HEAD"):
            if path != HEALTH:
                self._login.admit(request)
            return
        # What a page of somebody else asks a browser to send comes with the name of that page.
        if request.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none") or (
            "HTTP_ORIGIN" in request and request["HTTP_ORIGIN"].partition("://")[2].lower() != host.lower()
        ):
            raise Refusal(HTTPStatus.FORBIDDEN, "a page of another site may not change anything here")
        self._login.admit(request)
        if not self._writable:
            raise Refusal(HTTPStatus.FORBIDDEN, "this dashboard only shows; start it with --writable to change notes")
        if not any(method == verb and place.fullmatch(path.rstrip("/")) for verb, place in CHANGES):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "only notes, artifacts and whole studies can be changed here: a study of kansearch is made by its "
                "file, and its trials by its workers",
            )

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address


def _answer(start: Any, refusal: Refusal, *, for_people: bool) -> list[bytes]:
    """Answer without the dashboard: a line of text, or what its pages expect."""
    body = f"{refusal.reason}\n" if for_people else json.dumps({"reason": refusal.reason})
    kind = "text/plain; charset=UTF-8" if for_people else "application/json"
    content = body.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store")]
    start(f"{refusal.status.value} {refusal.status.phrase}", [*headers, *refusal.headers])
    return [content]
