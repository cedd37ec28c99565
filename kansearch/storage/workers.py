"""Workers in the storage: who trains what, and who is still there."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Row, func, inspect, literal, select, update

from kansearch.storage.ledger import LedgerStorage
from kansearch.storage.tables import WorkerModel

HEARTBEAT_S = 5.0
"""Between two signs of life of a worker."""

LATE_S = 15.0
"""A worker that was silent for so long is late."""

GRACE_S = 30.0
"""One that was silent for so long counts as dead, and others take its trials over."""

LOOK_S = 2 * HEARTBEAT_S
"""So much silence one sign of our own can tell of others: after an outage everybody is given time for theirs."""

FORGOTTEN_AFTER = timedelta(days=1)
"""Workers that ended, or were last seen, so long ago are forgotten."""


@functools.cache
def worker_name() -> str:
    """This process, as trials remember it: where it runs, its number there, and what no other process has."""
    return f"{_here()}/{os.getpid()}-{secrets.token_hex(3)}"


@functools.cache
def _here() -> str:
    """The host, and the boot and the namespace in which process numbers mean something."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    return "-".join(parts)


def is_gone(worker: str | None) -> bool:
    """Whether a worker of this host no longer runs."""
    place, _, process = (worker or "").rpartition("/")
    pid = process.partition("-")[0]
    if place != _here() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # A process that has ended but whose parent has not asked about it yet still has a number.
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] == "Z"
    return False


@dataclass(frozen=True)
class WorkerRecord:
    """A worker as read back from the storage.

    Attributes:
        name: As trials remember it.
        host: Where it runs.
        pid: Its number there.
        device: On which it trains.
        study_id: Of the study that it serves; None between two.
        trials: Numbers of the trials that it trains.
        n_ended: Trials of that study that ended in its hands.
        n_epochs: Epochs of that study that it trained.
        seconds: From when it began to serve that study to its last sign of life.
        silent_s: Since that sign.
        ended: Why it ended; None where it did not.
    """

    name: str
    host: str
    pid: int
    device: str
    study_id: int | None
    trials: tuple[int, ...]
    n_ended: int
    n_epochs: int
    seconds: float
    silent_s: float
    ended: str | None

    @property
    def state(self) -> str:
        """live, late, dead or ended."""
        if self.ended is not None:
            return "ended"
        if is_gone(self.name) or self.silent_s > GRACE_S:
            return "dead"
        return "late" if self.silent_s > LATE_S else "live"

    @property
    def rate(self) -> float:
        """Trials a minute."""
        return 60 * self.n_ended / self.seconds if self.seconds else 0.0

    @property
    def epochs_a_second(self) -> float:
        """How fast it trains, with all that it does beside."""
        return self.n_epochs / self.seconds if self.seconds else 0.0


class Presence:
    """This process among the workers of a storage, with a sign of life every HEARTBEAT_S seconds from a thread.

    Args:
        ledger: Of the storage.
        device: On which it trains, and by which code.

    Attributes:
        study_id: Of the study that it serves.
        trials: Numbers of the trials that it trains; the thread reads it, so it is replaced and never changed.
        n_ended: Trials of that study that ended in its hands.
        n_epochs: Epochs of that study that it trained.
    """

    def __init__(self, ledger: LedgerStorage, device: str) -> None:
        self.study_id: int | None = None
        self.trials: tuple[int, ...] = ()
        self.n_ended = self.n_epochs = 0
        self._ledger = ledger
        self._device = device
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, daemon=True)

    def __enter__(self) -> Self:
        self._ledger.patiently(self._register)
        self._thread.start()
        return self

    def _register(self) -> None:
        with self._ledger.session() as session:
            now = session.execute(select(func.current_timestamp())).scalar_one()
            forgotten = WorkerModel.seen_at < now - FORGOTTEN_AFTER
            session.query(WorkerModel).filter(forgotten).delete(synchronize_session=False)
            session.merge(
                WorkerModel(
                    worker=worker_name(),
                    host=socket.gethostname()[:255],
                    pid=os.getpid(),
                    device=self._device[:64],
                    started_at=now,
                    seen_at=now,
                    beats=0,
                    **self._work(),
                )
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._over.set()
        # The connection of a database that is away may be a long time in ending.
        self._thread.join(HEARTBEAT_S)
        self.trials, self.study_id = (), None
        ended = "its work was done, or it was asked to stop" if kind is None else f"{kind.__name__}: {error}"
        with contextlib.suppress(Exception):  # others find out from its silence
            self._beat(ended=ended[:255])

    def serve(self, study_id: int | None) -> None:
        """Say at once that it serves another study from now on, or none."""
        self.study_id, self.trials, self.n_ended, self.n_epochs = study_id, (), 0, 0
        with contextlib.suppress(Exception):  # the next sign of life says it too
            self._beat(started_at=func.current_timestamp())

    def _work(self) -> dict[str, Any]:
        return {
            "study_id": self.study_id,
            "trials": json.dumps(self.trials),
            "n_ended": self.n_ended,
            "n_epochs": self.n_epochs,
        }

    def _beat(self, **said: Any) -> bool:
        """Give a sign of life; returns whether the storage knows us."""
        changed = {**self._work(), **said, "seen_at": func.current_timestamp(), "beats": WorkerModel.beats + 1}
        with self._ledger.session() as session:
            ours = update(WorkerModel).where(WorkerModel.worker == worker_name()).values(changed)
            updated: Any = session.execute(ours)
            return bool(updated.rowcount)

    def _beat_on(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            # A database that is away for a while must not end the training.
            with contextlib.suppress(Exception):
                if not self._beat():
                    # This machine slept, or the clock of the database jumped, for so long that we were forgotten.
                    self._register()


@dataclass
class Watch:
    """What a process knows of the signs of life of others, by its own clock: those of others may jump.

    Attributes:
        seen: Of each worker its last sign, and for how many seconds this process has seen no other.
        own: The last sign of its own that got through.
        since: When it first saw that.
        clock: Its own, in seconds.
    """

    seen: dict[str, tuple[object, float]] = field(default_factory=dict)
    own: object = None
    since: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def lost(self, ledger: LedgerStorage, names: set[str]) -> set[str]:
        """Those of some workers that are dead: gone, ended, or silent for GRACE_S seconds.

        Silence counts only while our own signs get through. A database that is away, or full, or locked, silences all.
        Whoever is no worker itself knows only who ended, and who is gone on this machine.
        """
        signs = ledger.patiently(lambda: _signs(ledger))
        own, watched = signs.get(worker_name()), 0.0
        if own != self.own:
            now = self.clock()
            watched = min(now - self.since, LOOK_S) if self.own is not None else 0.0
            self.own, self.since = own, now
        before, self.seen = self.seen, {}
        lost = set()
        for name in names:
            beats, has_ended = signs.get(name, (None, False))
            last, silent = before.get(name, (None, 0.0))
            self.seen[name] = (beats, silent + watched if name in before and beats == last else 0.0)
            if has_ended or is_gone(name) or self.seen[name][1] > GRACE_S:
                lost.add(name)
        return lost


def _signs(ledger: LedgerStorage) -> Mapping[str, tuple[int, bool]]:
    with ledger.session() as session:
        rows = session.execute(select(WorkerModel.worker, WorkerModel.beats, WorkerModel.ended))
        return {name: (beats, ended is not None) for name, beats, ended in rows}


def read_workers(ledger: LedgerStorage) -> tuple[WorkerRecord, ...]:
    """All workers that the storage remembers, in the order of their start."""
    return ledger.patiently(lambda: _read_workers(ledger))


def _read_workers(ledger: LedgerStorage) -> tuple[WorkerRecord, ...]:
    # A storage that is only read may be older than the table.
    found = inspect(ledger.engine)
    if not found.has_table(WorkerModel.__tablename__):
        return ()
    known = {column["name"] for column in found.get_columns(WorkerModel.__tablename__)}
    with ledger.session() as session:
        now = session.execute(select(func.current_timestamp())).scalar_one()
        columns = [column if column.name in known else literal(0).label(column.name) for column in _COLUMNS]
        rows = session.execute(select(*columns).order_by(WorkerModel.started_at, WorkerModel.worker))
        return tuple(_record(row, now) for row in rows)


_COLUMNS = WorkerModel.__table__.columns


def _record(row: Row[Any], now: datetime) -> WorkerRecord:
    return WorkerRecord(
        name=row.worker,
        host=row.host,
        pid=row.pid,
        device=row.device,
        study_id=row.study_id,
        trials=tuple(json.loads(row.trials)),
        n_ended=row.n_ended,
        n_epochs=row.n_epochs,
        seconds=(row.seen_at - row.started_at).total_seconds(),
        silent_s=(now.replace(tzinfo=None) - row.seen_at).total_seconds(),
        ended=row.ended,
    )
