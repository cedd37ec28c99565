"""Dashboards as their users start them, and requests to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPMessage
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from urllib.parse import urlsplit

from tests.commands import Command

PRINTED = re.compile(r"http://\S+")


@dataclass
class Answer:
    """What a dashboard answered."""

    status: int
    headers: HTTPMessage
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def text(self) -> str:
        return self.content.decode()


@dataclass
class Served:
    """A dashboard that runs.

    Attributes:
        address: As it was printed.
        process: Of the command.
        words: What it says from then on.
        login: Headers that show who we are.
    """

    address: str
    process: Command
    words: IO[str]
    login: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """With the login; headers of a name replace ours, and empty ones are left out."""
        named = {"Host": self.host, **self.login, **{key.replace("_", "-"): v for key, v in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.address).port, timeout=120)
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body)
            kind = {"Content-Type": "application/json"} if content else {}
            connection.request(method, path, content, {k: v for k, v in {**kind, **named}.items() if v})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def enter(self) -> Answer:
        """Open the printed address, as a browser does, and keep the cookie."""
        answer = self.ask("/?" + urlsplit(self.address).query)
        self.login["Cookie"] = answer.headers["Set-Cookie"].partition(";")[0]
        return answer


@contextlib.contextmanager
def dashboard(folder: Path, *arguments: object, **environment: str) -> Iterator[Served]:
    """The command on a free port, until the end of the block."""
    with NamedTemporaryFile("r", encoding="utf-8") as words, Command(
        folder, "dashboard", "--port", 0, *arguments, environment=environment, words=Path(words.name)
    ) as process:  # fmt: skip
        process.wait_until(lambda: "Ctrl-C" in Path(words.name).read_text())
        found = PRINTED.search(words.readline())
        assert found is not None
        words.readline()  # how it ends
        yield Served(found[0], process, words)
