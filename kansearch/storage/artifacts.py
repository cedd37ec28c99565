"""Large checkpoints beside the database: in a folder that all workers see, or in a bucket of an S3-compatible store.

Each lies there under a key of its own, which the database knows before anything is written and until it is gone again:
whoever dies in between leaves nothing that nobody can find, and what a checkpoint refers to is always whole.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import delete, select

from kansearch.errors import KansearchError, MissingExtraError, StorageError, UserError
from kansearch.storage.ledger import LedgerStorage
from kansearch.storage.patience import wait_for
from kansearch.storage.tables import ArtifactModel, CheckpointModel
from kansearch.storage.writes import StoredCheckpoint, TrialWrite

ENVIRONMENT = "KANSEARCH_ARTIFACTS"
"""The environment variable that says where large checkpoints are kept."""

LARGE = 2**20
"""Bytes; a smaller checkpoint costs a database little."""

S3 = "s3://"
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)*/?")

CONNECT_S, READ_S, TRIES = 10, 60, 2
"""Patience with a bucket: training waits for it."""

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
            raise UserError(
                f"artifacts {shown} is no bucket; write s3://BUCKET/PREFIX, with the login in the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        return text.rstrip("/")
    if re.match(r"\w{2,}:", text) or not text:
        raise UserError(f'artifacts "{text.partition(":")[0]}:..." is no place; write a folder or s3://BUCKET/PREFIX')
    try:
        # Links stay: what they stand for may differ from machine to machine.
        return os.path.abspath(folder / Path(text).expanduser())  # noqa: PTH100 - Path.resolve follows them
    except (RuntimeError, ValueError) as error:
        raise UserError(f"artifacts {text!r} is no folder: {error}") from None


@functools.cache
def artifacts_at(place: str) -> Artifacts:
    """What is kept at a place, as `parse_place` names it.

    Raises:
        KansearchError: If a bucket needs what this machine has not.
    """
    return Bucket(place) if place.startswith(S3) else Folder(place)


class Artifacts(ABC):
    """Bytes under keys, at a place.

    Attributes:
        place: As `parse_place` names it.
    """

    error: type[KansearchError]
    """What is wrong with the place, for whoever can mend that."""

    def __init__(self, place: str) -> None:
        self.place = place

    @abstractmethod
    def make(self) -> None:
        """Make the place, if that is for us to do and it is not there yet.

        Raises:
            KansearchError: If that cannot be.
        """

    @abstractmethod
    def _write(self, key: str, content: bytes) -> None: ...

    @abstractmethod
    def _read(self, key: str) -> bytes: ...

    @abstractmethod
    def _remove(self, key: str) -> None: ...

    def write(self, key: str, content: bytes) -> None:
        """Keep some bytes, whole or not at all.

        Raises:
            ArtifactError: If the place refuses.
        """
        with _refusals():
            self._write(key, content)

    def read(self, key: str) -> bytes:
        """What was kept; empty where nothing is, for somebody has removed it.

        Raises:
            ArtifactError: If the place refuses.
        """
        with _refusals():
            return self._read(key)

    def remove(self, key: str) -> None:
        """Remove what was kept, if anything was.

        Raises:
            ArtifactError: If the place refuses.
        """
        with _refusals():
            self._remove(key)

    def check(self, *, writable: bool = True) -> None:
        """Make sure that the place keeps something and gives it back, or at least that it can be looked at.

        Raises:
            KansearchError: If not.
        """
        key, content = _new_key(), b"kansearch"
        if not writable:
            try:
                self.read(key)
            except ArtifactError as error:
                raise self.error(f"artifacts {self.place} cannot be looked at: {error}") from None
            return
        try:
            self.write(key, content)
            kept = self.read(key)
        except ArtifactError as error:
            raise self.error(f"artifacts {self.place} cannot be kept there: {error}") from None
        finally:
            with contextlib.suppress(ArtifactError):
                self.remove(key)
        if kept != content:
            raise self.error(f"artifacts {self.place} are not given back as they were written")


class Folder(Artifacts):
    """Files in a folder; one that is not there is out of reach from this machine, not empty."""

    error = UserError

    def make(self) -> None:
        """Make the folder, if it does not exist yet."""
        try:
            Path(self.place).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"artifacts {self.place} cannot be kept there: {error.strerror or error}") from None

    def _path(self, key: str) -> Path:
        folder = Path(self.place)
        if not folder.is_dir():
            raise ArtifactError("no such folder on this machine")
        return folder / key

    def _write(self, key: str, content: bytes) -> None:
        path = self._path(key)
        try:
            path.write_bytes(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _read(self, key: str) -> bytes:
        path = self._path(key)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""

    def _remove(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)


class Bucket(Artifacts):
    """Objects in a bucket, below a prefix.

    Raises:
        MissingExtraError: If boto3 is missing.
        StorageError: If the environment says something impossible of the bucket's server.
    """

    error = StorageError

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self._bucket, slash, prefix = place.removeprefix(S3).partition("/")
        self._prefix = prefix + slash
        try:
            import boto3  # noqa: PLC0415 - an extra, and slow to import
            from botocore.config import Config  # noqa: PLC0415 - likewise
        except ImportError:
            raise MissingExtraError(f"the bucket {place}", "boto3", "s3") from None
        settings = Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": TRIES})
        try:
            self._client: Any = boto3.client("s3", config=settings)
        except Exception as error:  # noqa: BLE001 - boto3 refuses in its own ways
            raise StorageError(f"artifacts {place} cannot be reached: {_reason(error)}") from None

    def make(self) -> None:
        """Buckets are made by their owners."""

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _write(self, key: str, content: bytes) -> None:
        # One request: whoever is killed in the middle leaves nothing, not even parts.
        self._client.put_object(Body=content, **self._where(key))

    def _read(self, key: str) -> bytes:
        try:
            return bytes(self._client.get_object(**self._where(key))["Body"].read())
        except self._client.exceptions.NoSuchKey:
            return b""

    def _remove(self, key: str) -> None:
        self._client.delete_object(**self._where(key))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Whatever a place raises in its own ways becomes an ArtifactError."""
    try:
        yield
    except Exception as error:
        raise ArtifactError(_reason(error)) from error


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
    large = {w.trial_id: _new_key() for w in writes if w.checkpoint is not None and len(w.checkpoint.state) > LARGE}
    if not large:
        return list(writes)

    def announce() -> None:
        with ledger.session() as session:
            for trial_id, key in large.items():
                session.merge(ArtifactModel(artifact=key, place=place, trial_id=trial_id))

    ledger.patiently(announce)
    refusal = ""
    kept = []
    for write in writes:
        key, checkpoint = large.get(write.trial_id), write.checkpoint
        if key is None or checkpoint is None:
            kept.append(write)
            continue
        try:
            # What was refused once would be refused, or waited for, again.
            if not refusal:
                artifacts_at(place).write(key, checkpoint.state)
        except (ArtifactError, KansearchError) as error:
            refusal = str(error)
            _logger.warning("artifacts %s: %s; trials go on with their earlier checkpoints", place, error)
        kept.append(replace(write, checkpoint=None if refusal else StoredCheckpoint(checkpoint.epoch, b"", key)))
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

    def read() -> bytes:
        try:
            return artifacts_at(place).read(key)
        except KansearchError as error:
            raise ArtifactError(str(error)) from None

    state = wait_for(read, ledger.patience_s, lambda error: isinstance(error, ArtifactError))
    return StoredCheckpoint(checkpoint.epoch, state)


def find_unused(ledger: LedgerStorage, trial_ids: Collection[int] | None = None) -> list[tuple[str, str]]:
    """Key and place of the artifacts that nobody needs.

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

    return ledger.patiently(find)


def sweep(ledger: LedgerStorage, trial_ids: Collection[int] | None = None) -> int:
    """Remove the artifacts that nobody needs, as `find_unused` finds them; returns how many."""
    return remove_all(ledger, find_unused(ledger, trial_ids))


def find_artifacts(ledger: LedgerStorage, study_id: int) -> list[tuple[str, str]]:
    """Key and place of the artifacts of a study's trials."""

    def find() -> list[tuple[str, str]]:
        artifact, trial = ArtifactModel, models.TrialModel
        of_study = artifact.trial_id.in_(select(trial.trial_id).filter_by(study_id=study_id))
        with ledger.session() as session:
            return [
                (key, place)
                for key, place in session.execute(select(artifact.artifact, artifact.place).where(of_study))
            ]

    return ledger.patiently(find)


def remove_all(ledger: LedgerStorage, artifacts: Iterable[tuple[str, str]]) -> int:
    """Remove artifacts of these keys and places; returns how many: others are left to whoever reaches their places."""
    gone, out_of_reach = [], set()
    for key, place in artifacts:
        # What was refused once would be refused, or waited for, again.
        if place not in out_of_reach:
            try:
                artifacts_at(place).remove(key)
                gone.append(key)
            except (ArtifactError, KansearchError):
                out_of_reach.add(place)

    def forget() -> None:
        with ledger.session() as session:
            session.execute(delete(ArtifactModel).where(ArtifactModel.artifact.in_(gone)))

    if gone:
        ledger.patiently(forget)
    return len(gone)
