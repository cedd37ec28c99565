"""Storage URLs: what one may be, how it is opened, and how it is shown without its password."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sqlite3
import warnings
import weakref
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from alembic.util import CommandError
from optuna.storages._rdb import models
from sqlalchemy import Connection, create_engine, event, exc, func, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from kansearch.errors import EmptyStorageError, MissingExtraError, StorageError, StorageUrlError
from kansearch.storage.ledger import LedgerStorage, Storage
from kansearch.storage.patience import PATIENCE_S, cause_of, does_pass, wait_for
from kansearch.storage.schema import migrate, refuse_newer, refuse_torn
from kansearch.storage.tables import PREFIX

DEFAULT_URL = "sqlite:///kansearch.db"
"""A file in the current folder."""

ENVIRONMENT = "KANSEARCH_STORAGE"
"""The environment variable that holds a storage URL; passwords belong here, not on a command line."""

_EXAMPLES = "sqlite:///study.db, or postgresql:// or mysql://USER:PASSWORD@HOST/DATABASE"
_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_EXTRAS = {"postgresql": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql")}
"""Of each server: the module that reaches it, and the extra of kansearch that brings it."""

_SQLITE_WAIT_S = 60

CONNECTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": _SQLITE_WAIT_S},
    "postgresql": {
        # A server that vanished without a word is noticed within half a minute, not within the system's two hours.
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        # Behind a pgbouncer the next transaction may have another connection, which knows no prepared statements.
        "prepare_threshold": None,
    },
    "mysql": {"connect_timeout": 10, "read_timeout": 120, "write_timeout": 120},
}
"""What each driver is told of its connections, unless the URL says otherwise."""

MAX_PORT = 65535

_REFUSALS = (
    exc.SQLAlchemyError,
    sqlite3.Error,
    optuna.exceptions.StorageInternalError,
    CommandError,
    RuntimeError,
    # What drivers raise of options that make no sense.
    ValueError,
    TypeError,
)

RACE_S = 10.0
"""So long processes that make the same tables at the same moment get out of each other's way."""


def parse_url(text: str) -> URL:
    """The URL, with its driver.

    Raises:
        StorageUrlError: If it cannot be a storage; the message never holds a password.
    """
    try:
        url = make_url(text.strip())
    except (exc.ArgumentError, ValueError):
        raise StorageUrlError(f"storage URL {_quoted(text)} is none; write {_EXAMPLES}") from None
    dialect, _, driver = url.drivername.partition("+")
    if dialect not in _DRIVERS:
        close = difflib.get_close_matches(dialect, _DRIVERS, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"write {_EXAMPLES}"
        raise StorageUrlError(f'storage URL {_quoted(text)} begins with "{dialect}"; {hint}')
    if driver and driver != _DRIVERS[dialect].partition("+")[2]:
        known = _DRIVERS[dialect]
        raise StorageUrlError(f'storage URL {_quoted(text)} asks for the driver "{driver}"; write {known}://...')
    if dialect != "sqlite" and re.search(r"[/@].*@", text.strip().partition("://")[2]):
        raise StorageUrlError(f"storage URL {_quoted(text)} has a / or an @ before another @; write them %2F and %40")
    if url.port is not None and url.port > MAX_PORT:
        raise StorageUrlError(f"storage URL {_quoted(text)} has a port above {MAX_PORT}; write {_EXAMPLES}")
    if dialect == "sqlite" and url.host:
        raise StorageUrlError(f"storage URL {_quoted(text)} has a host; a file has three slashes: sqlite:///study.db")
    if dialect == "sqlite" and (not url.database or url.database == ":memory:"):
        raise StorageUrlError(f"storage URL {_quoted(text)} names no file; workers need one: sqlite:///study.db")
    return url.set(drivername=_DRIVERS[dialect])


def is_file(text: str) -> bool:
    """Whether a storage is a file of one machine, and no server that others reach."""
    return parse_url(text).get_backend_name() == "sqlite"


def from_folder(text: str, folder: Path) -> str:
    """The URL with a relative path of a SQLite file counted from a folder; whatever else it is stays as it is."""
    start, path = "sqlite:///", text.strip().removeprefix("sqlite:///")
    if not text.strip().startswith(start) or not path or path.startswith(("/", ":")):
        return text
    return f"{start}{folder.resolve() / path}"


def shown(text: str) -> str:
    """The URL for people: whatever in it may be a secret becomes ***."""
    try:
        url = parse_url(text)
    except StorageUrlError:
        return _quoted(text)
    text = text.strip()
    if url.get_backend_name() == "sqlite":
        return masked(text)
    login = f"{_name(url.username)}{':***' if url.password is not None else ''}@" if url.username else ""
    port = f":{url.port}" if url.port is not None else ""
    database = f"/{_name(url.database, ' ')}" if url.database else ""
    host = f"[{url.host}]" if ":" in (url.host or "") else _name(url.host)
    return f"{text.partition('://')[0]}://{login}{host}{port}{database}{'?***' if url.query else ''}"


def _name(text: str | None, also: str = "") -> str:
    """A name in a URL; what follows signs that names seldom have was meant for something else, a password perhaps.

    Args:
        text: The name.
        also: Signs that this kind of name may have, beside letters, digits and a few.
    """
    return re.sub(rf"[^\w.@{also}-].*", "***", text or "", flags=re.DOTALL)


def masked(text: str) -> str:
    """A text for people, without the secrets that options in it name."""
    return re.sub(r"(?i)((?:pass\w*|pwd|token|secret|key)=)[^&\s]*", r"\1***", text)


def _quoted(text: str) -> str:
    """A URL that cannot be read: nobody knows where a secret stands in it, so hardly more than its scheme is shown."""
    text = text.strip()
    scheme, slashes, _ = text.partition("://")
    is_path = text.startswith("sqlite:///") or re.fullmatch(r"(?=.*[./])[\w./-]*", text)
    if is_path:
        text = text.partition("?")[0]
    elif text:
        text = f"{scheme}://***" if slashes and re.fullmatch(r"[\w+.-]+", scheme) else "***"
    return f'"{text}"' if len(text) <= 200 else f'"{text[:197]}..."'


def open_storage(text: str, *, read_only: bool = False, patience_s: float = 0.0) -> Storage:
    """Connect to a storage.

    Args:
        text: The URL.
        read_only: Whether it is only looked at: its content is left as it is, and it need not be writable.
            Otherwise its tables are created where they are missing, and a SQLite file likewise.
        patience_s: How long to wait for a server that does not answer. Whoever writes waits later on as well, for
            PATIENCE_S at most.

    Raises:
        StorageUrlError: If the URL cannot be a storage, or names a file that cannot be opened.
        MissingExtraError: If the module that reaches such a server is missing.
        EmptyStorageError: If there is nothing to be looked at.
        StorageError: If it does not answer or refuses us.
    """
    url = parse_url(text)
    _quiet_libraries()
    is_sqlite = url.get_backend_name() == "sqlite"
    # No connection is tried before it is used, which would cost a round trip each time: whoever meets one that the
    # database has closed tries again.
    engine: dict[str, Any] = {"pool_pre_ping": False}
    if is_sqlite:
        _check_file(url, text, read_only=read_only)
    else:
        # One connection for the trials and one for the signs of life.
        engine |= {"pool_size": 1, "max_overflow": 1}
    if url.get_backend_name() == "mysql":
        # As on PostgreSQL: who holds a lock sees what others wrote before.
        engine["isolation_level"] = "READ COMMITTED"
    options = CONNECTIONS[url.get_backend_name()]
    engine["connect_args"] = {name: value for name, value in options.items() if name not in url.query}
    try:
        return wait_for(lambda: Storage(_open(url, text, engine, read_only=read_only)), patience_s)
    except ImportError:
        raise MissingExtraError(f"storage {shown(text)}", *_EXTRAS[url.get_backend_name()]) from None
    except _REFUSALS as error:
        kind = StorageUrlError if "file is not a database" in str(error) else StorageError
        raise kind(f"storage {shown(text)} cannot be opened: {reason(error, url)}") from None


def check_creatable(text: str) -> None:
    """Make sure that tables can be made in a storage that has none; nobody asks MySQL.

    Raises:
        StorageUrlError: If a file may not be written.
        StorageError: If we lack the right.
    """
    url = parse_url(text)
    if url.get_backend_name() == "sqlite":
        _check_file(url, text, read_only=False)
    elif url.get_backend_name() == "postgresql":
        with _probe(url, {"connect_args": CONNECTIONS["postgresql"]}) as connection:
            if not connection.execute(select(func.has_schema_privilege(func.current_schema(), "CREATE"))).scalar_one():
                raise StorageError(f"storage {shown(text)}: we may not make tables there; grant CREATE on its schema")


def _open(url: URL, text: str, engine: Mapping[str, Any], *, read_only: bool) -> LedgerStorage:
    if read_only:
        return _open_to_read(url, text, engine)
    _refuse_foreign(url, text, engine)
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite:
        _use_write_ahead_log(str(url.database))
    ledger = _open_ledger(url, engine)
    if is_sqlite:
        event.listen(ledger.engine, "connect", _sync_at_checkpoints)
        # The connections that made the tables are replaced by ones that listen.
        ledger.engine.dispose()
    # Whoever closes a SQLite file last folds its write-ahead log in, so that the file alone is the storage.
    weakref.finalize(ledger, ledger.engine.dispose)
    ledger.patience_s = PATIENCE_S
    return ledger


def _open_to_read(url: URL, text: str, engine: Mapping[str, Any]) -> LedgerStorage:
    """Connect, and leave everything as it is."""
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite:
        path = Path(str(url.database)).absolute()
        url = url.set(database=f"file:{quote(str(path))}")
        url = url.update_query_dict({"uri": "true", **_way_to_read(path, text)})
        # Whoever closes a file last removes the companions of its write-ahead log.
        engine = {**engine, "poolclass": NullPool}
    with _probe(url, engine) as connection:
        has_studies = inspect(connection).has_table("version_info")
        refuse_newer(connection, shown(text))
        refuse_torn(connection, shown(text))
    if not has_studies:
        raise EmptyStorageError(f"storage {shown(text)} holds no studies; `kansearch optimize` makes them")
    ledger = LedgerStorage(
        url.render_as_string(hide_password=False), engine_kwargs=dict(engine), skip_table_creation=True
    )
    if is_sqlite:
        event.listen(ledger.engine, "connect", _refuse_to_write)
    return ledger


def _way_to_read(path: Path, text: str) -> dict[str, str]:
    """How SQLite is to open a file that is only read, as options of its URI."""
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return {"mode": "rw"}
    if not log.exists():
        # SQLite could not create the companions of a write-ahead log; nobody is writing, so none are needed.
        return {"mode": "ro", "immutable": "1"}
    if not index.exists() and not os.access(path.parent, os.W_OK):
        raise StorageUrlError(
            f"storage {shown(text)} has a write-ahead log ({log.name}) and lies where nothing can be written; "
            "copy both files to where that can be"
        )
    return {"mode": "ro"}


def _probe(url: URL, engine: Mapping[str, Any]) -> Connection:
    """A connection for a look, closed for good at its end."""
    return create_engine(url, connect_args=engine["connect_args"], poolclass=NullPool).connect()


def _open_ledger(url: URL, engine: Mapping[str, Any]) -> LedgerStorage:
    """Connect, and make the tables where they are missing."""

    def make() -> LedgerStorage:
        ledger = LedgerStorage(url.render_as_string(hide_password=False), engine_kwargs=dict(engine))
        try:
            migrate(ledger.engine)
        except Exception:
            ledger.engine.dispose()
            raise
        return ledger

    return wait_for(make, RACE_S, _is_race)


def _is_race(error: BaseException) -> bool:
    """Whether another process is making the same tables at this moment."""
    taken = re.search("already exists|duplicate column", str(error), re.IGNORECASE)
    return isinstance(error, exc.IntegrityError | CommandError) or taken is not None or does_pass(error)


def reason(error: BaseException, url: URL | None = None) -> str:
    """The first telling line of a database error, without passwords."""
    cause = cause_of(error)
    if isinstance(cause, exc.DBAPIError) and cause.orig is not None:
        cause = cause.orig
    line = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    if url is not None:
        # Also what a driver repeats of options that it does not know.
        for secret in filter(None, (url.password, *url.query.values())):
            line = re.sub(rf"(?<![\w.]){re.escape(str(secret))}(?![\w.])", "***", line)
    return masked(line)


def _check_file(url: URL, text: str, *, read_only: bool) -> None:
    # Looks at the file without opening it: closing it again would drop the locks that this process may hold
    # through SQLite, and two writers would ruin the file (https://sqlite.org/howtocorrupt.html, section 2.2).
    assert url.database is not None
    path = Path(url.database)
    if path.is_dir():
        raise StorageUrlError(f"storage {shown(text)} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise StorageUrlError(f"storage {shown(text)} lies in a folder that does not exist: {path.parent}")
    if not path.exists() and read_only:
        raise StorageUrlError(f"storage {shown(text)} does not exist; `kansearch optimize` makes it")
    target = path if path.exists() else path.parent
    if not os.access(target, os.R_OK if read_only else os.R_OK | os.W_OK):
        how = "read" if read_only else "written"
        raise StorageUrlError(f"storage {shown(text)} cannot be {how}: no permission for {target}")


def _use_write_ahead_log(path: str) -> None:
    """Let readers and the writer of the file not wait for each other; the file remembers it."""

    def switch() -> None:
        with closing(sqlite3.connect(path, timeout=_SQLITE_WAIT_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

    # SQLite itself does not wait here: it refuses at once while another process fills the new file.
    wait_for(switch, RACE_S)


def _refuse_foreign(url: URL, text: str, engine: Mapping[str, Any]) -> None:
    """Leave a database alone that is another program's, or that lost something."""
    with _probe(url, engine) as connection:
        refuse_newer(connection, shown(text))
        found = inspect(connection)
        tables = set(found.get_table_names())
        columns = found.get_columns("studies") if "studies" in tables else []
        strange = {table for table in tables - set(models.BaseModel.metadata.tables) if not table.startswith(PREFIX)}
        strange -= {"alembic_version"}
        # A server's database may be shared; a file is one program's.
        is_others = url.get_backend_name() == "sqlite" and strange and "version_info" not in tables
        has_others = "studies" in tables and all(column["name"] != "study_id" for column in columns)
        if is_others or has_others:
            names = ", ".join(sorted(strange or tables)[:5])
            raise StorageUrlError(
                f"storage {shown(text)} is another program's database (tables: {names}); name another"
            )
        refuse_torn(connection, shown(text))


def _refuse_to_write(connection: Any, _record: Any) -> None:
    """A connection that is only there to look."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _sync_at_checkpoints(connection: Any, _record: Any) -> None:
    """With a write-ahead log this loses nothing when a process dies, and is the fast half of a trial's writes."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _quiet_libraries() -> None:
    """Our own words reach people, not Optuna's log; what we use of it that is experimental is tested here."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def as_storage_error(error: BaseException) -> StorageError | None:
    """The error of a database, in words for its operator; None where it is something else."""
    if isinstance(error, exc.SQLAlchemyError | optuna.exceptions.StorageInternalError):
        return StorageError(f"the storage failed: {reason(error)}")
    return None
