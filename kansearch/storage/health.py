"""What may be wrong with a storage, found without changing anything in it."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from optuna.storages._rdb import models
from sqlalchemy import delete, exc, false, insert, inspect, select, text, update

from kansearch.errors import StorageError
from kansearch.storage.artifacts import artifacts_at, find_unused
from kansearch.storage.ledger import Storage
from kansearch.storage.schema import NEWEST, version
from kansearch.storage.studies import open_studies
from kansearch.storage.tables import OwnTable
from kansearch.storage.url import reason
from kansearch.storage.workers import read_workers

NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "afs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "fuse")
"""Beginnings of their names."""

LITTLE_ROOM = 2**28
"""Bytes."""

FAR_MS = 20.0
"""A round trip to a database that takes longer slows a search down."""

CLOCK_DIFFERS = timedelta(minutes=1)

FORBIDDEN_SEQUENCES = """SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema() AND NOT
has_sequence_privilege(quote_ident(schemaname) || '.' || quote_ident(sequencename), 'USAGE') ORDER BY sequencename"""

MOST_CONNECTIONS = 0.9
"""Share of those that a server allows."""


def tables(storage: Storage) -> str:
    """Their versions; that one is missing, or too new, is seen when the storage is opened."""
    with storage.ledger.engine.connect() as connection:
        ours = version(connection)
    if ours < NEWEST:
        return f"kansearch's own are of version {ours}; the next search brings them to {NEWEST}"
    return f"all there (version {ours}; Optuna's {storage.ledger.get_current_version()})"


def rights(storage: Storage) -> str:
    """Whether we may write.

    Raises:
        StorageError: If not.
    """
    engine = storage.ledger.engine
    if engine.name == "sqlite":
        path = _file(storage)
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise StorageError(f"{path} or its folder may not be written; it can only be looked at")
        return "file and folder may be written"
    found = set(inspect(engine).get_table_names())
    for table in (*models.BaseModel.metadata.sorted_tables, *OwnTable.metadata.sorted_tables):
        if table.name not in found:
            continue
        column = next(iter(table.columns))
        # Each changes no row, and needs the right to change all.
        for verb, statement in {
            "INSERT": insert(table).from_select(list(table.columns), select(table).where(false())),
            "UPDATE": update(table).values({column: column}).where(false()),
            "DELETE": delete(table).where(false()),
        }.items():
            try:
                with engine.begin() as connection:
                    connection.execute(statement)
            except exc.DBAPIError as error:
                raise StorageError(f"{verb} on {table.name}: {reason(error)}; grant it") from None
    if engine.name == "postgresql":
        with engine.connect() as connection:
            forbidden = connection.execute(text(FORBIDDEN_SEQUENCES)).scalars().all()
        if forbidden:
            raise StorageError(f"permission denied for the sequences {', '.join(forbidden)}; grant USAGE")
    return "SELECT, INSERT, UPDATE and DELETE on all tables"


def room(storage: Storage) -> str:
    """Whether a file has room to grow, or a server room for another worker.

    Raises:
        StorageError: If not.
    """
    ledger = storage.ledger
    if ledger.engine.name == "sqlite":
        path = _file(storage)
        free = shutil.disk_usage(path.parent).free
        if free < LITTLE_ROOM:
            raise StorageError(f"{path.parent} has {_size(free)} left; make room")
        kind = _file_system(path)
        where = (
            f"; {kind} is a network file system: only workers of one machine may use the file"
            if kind.startswith(NETWORK_FILE_SYSTEMS)
            else ""
        )
        return f"{_size(path.stat().st_size)}, {_size(free)} left{where}"
    with ledger.session() as session:
        if ledger.engine.name == "mysql":
            allowed = int(session.execute(text("SELECT @@max_connections")).scalar_one())
            used = int(session.execute(text("SHOW STATUS LIKE 'Threads_connected'")).one()[1])
        else:
            allowed = int(session.execute(text("SHOW max_connections")).scalar_one())
            used = int(
                session.execute(
                    text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
                ).scalar_one()
            )
    if used > MOST_CONNECTIONS * allowed:
        raise StorageError(
            f"{used} of {allowed} connections are in use and a worker takes up to two; "
            "allow more (max_connections), or let a pgbouncer stand between"
        )
    return (
        f"{used} of {allowed} connections in use, up to two a worker; "
        f"checkpoints of up to {_size(ledger.largest_value)} fit, larger ones need --artifacts"
    )


def distance(storage: Storage) -> str:
    """How long a round trip takes, and by how much the clock differs, which harms nobody."""
    engine = storage.ledger.engine
    if engine.name == "sqlite":
        return "none; the storage is a file"
    times = []
    with engine.connect() as connection:
        for _ in range(5):
            begin = time.perf_counter()
            connection.execute(text("SELECT 1"))
            times.append(1000 * (time.perf_counter() - begin))
        clock = "UTC_TIMESTAMP()" if engine.name == "mysql" else "CURRENT_TIMESTAMP"
        now: datetime = connection.execute(text(f"SELECT {clock}")).scalar_one()
    round_trip = statistics.median(times)
    far = "; that is far, and short trials will wait for it" if round_trip > FAR_MS else ""
    ahead = (now if now.tzinfo else now.replace(tzinfo=UTC)) - datetime.now(UTC)
    skew = f"; its clock differs by {abs(ahead.total_seconds()):,.0f} s, which harms nobody"
    return f"a round trip takes {round_trip:.1f} ms{far}{skew if abs(ahead) > CLOCK_DIFFERS else ''}"


def workers(storage: Storage) -> str:
    """Who is there, and who should be."""
    states = Counter(worker.state for worker in read_workers(storage.ledger))
    said = ", ".join(f"{states[state]} {state}" for state in ("live", "late", "dead") if states[state]) or "none"
    waiting = [study.spec.name for study in open_studies(storage)]
    if waiting and not states["live"]:
        return f"{said}; {', '.join(waiting)} would go on with `kansearch optimize` or a worker"
    return said


def artifacts(storage: Storage) -> str:
    """Whether the places of large checkpoints of open studies can be used from here.

    Raises:
        KansearchError: If one cannot.
    """
    places = sorted({study.artifacts for study in open_studies(storage) if study.artifacts is not None})
    for place in places:
        artifacts_at(place).check()
    n_left = len(find_unused(storage.ledger)) if inspect(storage.ledger.engine).has_table("kansearch_artifacts") else 0
    left = f"; {n_left} of trials that ended, which the next worker removes" if n_left else ""
    return (", ".join(places) or "all checkpoints of open studies lie in the storage") + left


EXAMINATIONS: dict[str, Callable[[Storage], str]] = {
    "tables": tables,
    "rights": rights,
    "room": room,
    "distance": distance,
    "workers": workers,
    "artifacts": artifacts,
}
"""What `kansearch doctor` looks at, by its name there."""


def _file(storage: Storage) -> Path:
    return Path(unquote(str(storage.ledger.engine.url.database).removeprefix("file:")))


def _file_system(path: Path) -> str:
    """The kind of file system that a file lies on; empty where nobody says."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    except OSError:
        return ""
    kinds = {Path(point): kind for _, point, kind, *_ in (line.split() for line in mounts.splitlines())}
    return next((kinds[folder] for folder in path.resolve().parents if folder in kinds), "")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
