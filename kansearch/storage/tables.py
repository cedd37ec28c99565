"""Our own tables, beside Optuna's; `kansearch.storage.migrations` makes them and changes them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, LargeBinary, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PREFIX = "kansearch_"
"""Of the names of our tables."""

VERSION_TABLE = "kansearch_version"
"""Holds the number of the last migration."""


class OwnTable(DeclarativeBase):
    """What our tables have in common."""


class CheckpointModel(OwnTable):
    """The latest checkpoint of a trial that has not ended; whichever takes its place takes it over.

    Attributes:
        epoch: At which it was made.
        state: Its bytes; empty where they lie in an artifact.
        artifact: Key of the artifact that holds them.
    """

    __tablename__ = "kansearch_trial_checkpoints"
    trial_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    state: Mapped[bytes] = mapped_column(LargeBinary().with_variant(mysql.LONGBLOB(), "mysql"))
    artifact: Mapped[str | None] = mapped_column(String(64))


class ArtifactModel(OwnTable):
    """An artifact that may be there: known before it is written, and until it is removed.

    Attributes:
        artifact: Its key.
        place: Where it is kept.
        trial_id: Whose checkpoint it is, or was to be.
    """

    __tablename__ = "kansearch_artifacts"
    artifact: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[str] = mapped_column(Text)
    trial_id: Mapped[int]


class WorkerModel(OwnTable):
    """A process that trains.

    Attributes:
        worker: Its name, as trials remember it.
        host: Where it runs.
        pid: Its number there.
        device: On which it trains.
        study_id: Of the study that it serves.
        trials: Numbers of the trials that it trains, as JSON.
        n_ended: Trials of that study that ended in its hands.
        n_epochs: Epochs of that study that it trained.
        started_at: When it began to serve that study, by the clock of the database.
        seen_at: Its last sign of life, by the same clock.
        beats: How many signs of life it gave: whoever watches it needs no clock but his own.
        ended: Why it ended, for people; None while it works.
    """

    __tablename__ = "kansearch_workers"
    worker: Mapped[str] = mapped_column(String(255), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(64))
    study_id: Mapped[int | None]
    trials: Mapped[str] = mapped_column(Text)
    n_ended: Mapped[int]
    n_epochs: Mapped[int] = mapped_column(BigInteger, server_default="0")
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    beats: Mapped[int]
    ended: Mapped[str | None] = mapped_column(String(255))
