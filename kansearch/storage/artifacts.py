"""Large checkpoints beside the database: in a folder that all workers see, or in a bucket of an S3-compatible store.

Each lies there under a key of its own, which the database knows before anything is written and until it is gone again:
whoever dies in between leaves nothing that nobody can find, and what a checkpoint refers to is always whole.
"""

from __future__ import annotations

import functools
import io
import logging
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import delete, select

from kansearch.errors import StorageError, UserError
from kansearch.storage.ledger import LedgerStorage, StoredCheckpoint, TrialWrite
from kansearch.storage.patience import wait_for
from kansearch.storage.tables import ArtifactModel, CheckpointModel

if TYPE_CHECKING:
    from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore

ENVIRONMENT = "KANSEARCH_ARTIFACTS"
"""The environment variable that says where large checkpoints are kept."""

LARGE = 2**20
"""Bytes; a smaller checkpoint costs a database little."""

S3 = "s3://"
_LOGIN = "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)*/?")

_logger = logging.getLogger(__name__)


class ArtifactError(Exception):
    """A place refuses to keep something, or to give it back."""


def parse_place(text: str, folder: Path) -> str:
    """Where artifacts are kept, as all workers understand it.

    Args:
        text: `s3://BUCKET/PREFIX` or a folder.
        folder: From which a relative one counts.

    Raises:
        UserError: If it is neither; the message never holds a login.
    """
    text = text.strip()
    if text.startswith(S3):
        if not _BUCKET.fullmatch(text):
            shown = f"{S3}***" if "@" in text else text[:100]
            raise UserError(f"artifacts {shown} is no bucket; write s3://BUCKET/PREFIX, with the login in {_LOGIN}")
        return text.rstrip("/")
    if "://" in text or not text:
        raise UserError(
            f'artifacts "{text.partition("://")[0]}://..." is no place; write a folder or s3://BUCKET/PREFIX'
        )
    return str((folder / Path(text).expanduser()).resolve())


@functools.cache
def artifacts_at(place: str) -> Artifacts:
    """What is kept at a place, as `parse_place` names it."""
    return Artifacts(place)


class Artifacts:
    """Bytes under keys, in a folder or a bucket.

    Args:
        place: As `parse_place` names it.

    Raises:
        UserError: If a module is missing.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._prefix = ""
        self._store: FileSystemArtifactStore | Boto3ArtifactStore
        if not place.startswith(S3):
            self._store = optuna.artifacts.FileSystemArtifactStore(place)
            return
        bucket, slash, prefix = place.removeprefix(S3).partition("/")
        self._prefix = prefix + slash
        try:
            self._store = optuna.artifacts.Boto3ArtifactStore(bucket)
        except ImportError:
            raise UserError(f"artifacts {place} need the module boto3: pip install 'kansearch[s3]'") from None
        except Exception as error:  # noqa: BLE001 - boto3 refuses in its own ways
            raise StorageError(f"artifacts {place} cannot be reached: {error}") from None

    def write(self, key: str, content: bytes) -> None:
        """Keep some bytes, whole or not at all.

        Raises:
            ArtifactError: If the place refuses.
        """
        try:
            self._store.write(self._prefix + key, io.BytesIO(content))
        except Exception as error:  # each kind of store refuses in its own ways
            self.remove(key)
            raise ArtifactError(_reason(error)) from error

    def read(self, key: str) -> bytes:
        """What was kept; empty where nothing is, for somebody has removed it.

        Raises:
            ArtifactError: If the place refuses.
        """
        try:
            with self._store.open_reader(self._prefix + key) as reader:
                return reader.read()
        except ArtifactNotFound:
            return b""
        except Exception as error:  # each kind of store refuses in its own ways
            raise ArtifactError(_reason(error)) from error

    def remove(self, key: str) -> bool:
        """Remove what was kept, if anything was; returns whether it is gone."""
        if not self.place.startswith(S3) and not Path(self.place).is_dir():
            return False  # not gone, but not to be seen from this machine
        try:
            self._store.remove(self._prefix + key)
        except ArtifactNotFound:
            return True
        except Exception:  # noqa: BLE001 - whoever asks can do nothing but try again later
            return False
        return True

    def check(self) -> None:
        """Make sure that the place keeps something and gives it back.

        Raises:
            UserError: If a folder does not.
            StorageError: If a bucket does not.
        """
        key, content = _new_key(), b"kansearch"
        try:
            self.write(key, content)
            kept = self.read(key)
        except ArtifactError as error:
            kind = StorageError if self.place.startswith(S3) else UserError
            raise kind(f"artifacts {self.place} cannot be kept there: {error}") from None
        finally:
            self.remove(key)
        if kept != content:
            raise StorageError(f"artifacts {self.place} are not given back as they were written")


def make_folder(place: str) -> None:
    """Make the folder of a place that is one and does not exist yet.

    Raises:
        UserError: If that cannot be.
    """
    if place.startswith(S3):
        return
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"artifacts {place} cannot be kept there: {error.strerror or error}") from None


def prepare(ledger: LedgerStorage, place: str) -> None:
    """Make sure that a worker can use a place, and remove what dead ones left behind.

    Raises:
        KansearchError: As `Artifacts.check`.
    """
    artifacts_at(place).check()
    sweep(ledger)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0] or type(error).__name__


def _new_key() -> str:
    return f"kansearch-{secrets.token_hex(16)}"


def keep_apart(ledger: LedgerStorage, place: str, writes: Sequence[TrialWrite]) -> list[TrialWrite]:
    """Put the large checkpoints of some writes into artifacts.

    Where that fails the trial goes on with its earlier checkpoint.

    Args:
        ledger: Of the storage that is to know them.
        place: Where they go.
        writes: About running trials.

    Returns:
        The writes, with what is still to be written of them.
    """
    artifacts = artifacts_at(place)
    large = {w.trial_id: _new_key() for w in writes if w.checkpoint is not None and len(w.checkpoint.state) > LARGE}
    if not large:
        return list(writes)

    def announce() -> None:
        with ledger.session() as session:
            for trial_id, key in large.items():
                session.merge(ArtifactModel(artifact=key, place=place, trial_id=trial_id))

    ledger.patiently(announce)
    kept = []
    for write in writes:
        key = large.get(write.trial_id)
        if key is None or write.checkpoint is None:
            kept.append(write)
            continue
        try:
            artifacts.write(key, write.checkpoint.state)
        except ArtifactError as error:
            _logger.warning("artifacts %s: %s; a trial goes on with its earlier checkpoint", place, error)
            kept.append(replace(write, checkpoint=None))
        else:
            kept.append(replace(write, checkpoint=StoredCheckpoint(write.checkpoint.epoch, b"", key)))
    return kept


def fetch(ledger: LedgerStorage, checkpoint: StoredCheckpoint | None) -> StoredCheckpoint | None:
    """A checkpoint with its bytes, wherever they lie; empty ones where somebody has removed them.

    Raises:
        ArtifactError: If they cannot be reached, for as long as the storage is patient.
    """
    if checkpoint is None or checkpoint.artifact is None:
        return checkpoint
    key = checkpoint.artifact

    def find() -> str | None:
        with ledger.session() as session:
            return session.scalar(select(ArtifactModel.place).where(ArtifactModel.artifact == key))

    place = ledger.patiently(find)
    if place is None:
        return checkpoint
    state = wait_for(
        lambda: artifacts_at(place).read(key), ledger.patience_s, lambda error: isinstance(error, ArtifactError)
    )
    return StoredCheckpoint(checkpoint.epoch, state)


def sweep(ledger: LedgerStorage, trial_ids: Collection[int] | None = None) -> int:
    """Remove the artifacts that nobody needs; returns how many.

    Args:
        ledger: Of the storage that knows them.
        trial_ids: Of trials whose artifacts nobody writes at this moment: those are removed that are not of their
            latest checkpoint. None looks for those of all trials that ended, or were deleted.
    """

    def find() -> list[tuple[str, str]]:
        artifact, trial = ArtifactModel, models.TrialModel
        unused = select(artifact.artifact, artifact.place)
        if trial_ids is None:
            going_on = select(trial.trial_id).where(trial.state.in_((TrialState.RUNNING, TrialState.WAITING)))
            unused = unused.where(artifact.trial_id.not_in(going_on))
        else:
            used = select(CheckpointModel.artifact).where(CheckpointModel.artifact.is_not(None))
            unused = unused.where(artifact.trial_id.in_(trial_ids), artifact.artifact.not_in(used))
        with ledger.session() as session:
            return [(key, place) for key, place in session.execute(unused)]

    gone = [key for key, place in ledger.patiently(find) if artifacts_at(place).remove(key)]

    def forget() -> None:
        with ledger.session() as session:
            session.execute(delete(ArtifactModel).where(ArtifactModel.artifact.in_(gone)))

    if gone:
        ledger.patiently(forget)
    return len(gone)
