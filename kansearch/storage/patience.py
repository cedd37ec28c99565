"""Patience with a database that is away for a while, or in which others stand in the way."""

from __future__ import annotations

import functools
import logging
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
from sqlalchemy import exc

PATIENCE_S = 180.0
"""How long a search waits for its database to come back."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 3.0
"""Between two tries: at first, and in the end."""

WORTH_SAYING_S = 2.0
"""A search that waits longer than this says so."""

POSTGRES_PASSES = ("08", "40", "53", "55P03", "57P")
"""Beginnings of the codes of: connection failed, deadlock, no resources, locked, going down or coming up."""

MYSQL_PASSES = {1021, 1040, 1053, 1114, 1158, 1159, 1160, 1161, 1205, 1213, 1412, 1927, 2002, 2003, 2006, 2013}
"""Codes of: disk or table full, too many connections, going down, network trouble, lock timeout, deadlock, a table that
somebody just changed, connection killed, lost, or never made."""

NEVER_PASSES = re.compile(r"authentication failed|does not exist|no pg_hba\.conf entry|permission denied|no password")
"""Reasons for which PostgreSQL refuses a connection, of which its driver gives no code."""

SQLITE_PASSES = re.compile(r"locked|busy|disk is full|disk I/O error")

T = TypeVar("T")

_logger = logging.getLogger(__name__)


def cause_of(error: BaseException) -> BaseException:
    """What Optuna's storage wraps into an error of its own."""
    while isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def does_pass(error: BaseException) -> bool:
    """Whether a database may do in a while what it just refused."""
    cause = cause_of(error)
    if isinstance(cause, exc.TimeoutError):
        return True
    if isinstance(cause, sqlite3.OperationalError):
        return bool(SQLITE_PASSES.search(str(cause)))
    if not isinstance(cause, exc.DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    original: Any = cause.orig
    driver = type(original).__module__.partition(".")[0]
    if driver == "psycopg":
        code = getattr(original, "sqlstate", None)
        if code is not None:
            return str(code).startswith(POSTGRES_PASSES)
        return isinstance(cause, exc.OperationalError) and not NEVER_PASSES.search(str(original))
    if driver == "pymysql":
        return bool(original.args) and original.args[0] in MYSQL_PASSES
    return bool(SQLITE_PASSES.search(str(original)))


def wait_for(work: Callable[[], T], seconds: float, passes: Callable[[BaseException], bool] = does_pass) -> T:
    """Do some work on a database, again and again for so many seconds where it fails for reasons that pass.

    Args:
        work: All or nothing, or such that doing it twice does no harm: its first try may have been done and the answer
            lost.
        seconds: 0 tries once.
        passes: Whether to wait for what failed so.
    """
    begin, pause, said = time.monotonic(), SHORTEST_PAUSE_S, False
    while True:
        try:
            return work()
        except Exception as error:
            waited = time.monotonic() - begin
            if waited >= seconds or not passes(error):
                raise
            if waited > WORTH_SAYING_S and not said:
                _logger.warning("the storage does not answer; trying again for %.0f s", seconds - waited)
                said = True
        # Workers that lost the same database do not all come back at once.
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        pause = min(2 * pause, LONGEST_PAUSE_S)


def patient(*names: str) -> Callable[[type], type]:
    """A class whose methods of these names wait for the database, for as long as `patience_s` of the object says."""
    inside = threading.local()

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            # A method that another one calls is part of its transaction: only the whole can be tried again.
            if getattr(inside, "depth", 0):
                return method(self, *args, **kwargs)
            inside.depth = 1
            try:
                return wait_for(lambda: method(self, *args, **kwargs), self.patience_s)
            finally:
                inside.depth = 0

        return call

    def decorate(cls: type) -> type:
        for name in names:
            setattr(cls, name, wrap(getattr(cls, name)))
        return cls

    return decorate
