"""A place of artifacts as Optuna's dashboard understands one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from http import HTTPStatus
from typing import BinaryIO

from bottle import HTTPError

from kansearch.storage.artifacts import ArtifactError, Artifacts


class ArtifactStore:
    """What people lay beside a study or a trial, in the place that also keeps large checkpoints.

    It follows optuna.artifacts._protocol.ArtifactStore. Ids are the dashboard's; a checkpoint's key is none.
    """

    def __init__(self, place: Artifacts) -> None:
        self._place = place

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of an artifact.

        Raises:
            HTTPError: If there is none (404), or its place cannot be reached (503); likewise below.
        """
        with self._refusals():
            content = self._place.read(artifact_id)
        if not content:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"there is nothing in artifact {artifact_id}")
        return io.BytesIO(content)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep the content of an artifact."""
        with self._refusals():
            self._place.write(artifact_id, content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, if it is there."""
        with self._refusals():
            self._place.remove(artifact_id)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ArtifactError as error:
            raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, f"artifacts {self._place.place}: {error}") from None
