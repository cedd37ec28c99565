"""A place of artifacts as Optuna's dashboard understands one."""

from __future__ import annotations

import io
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from kansearch.storage.artifacts import Artifacts


class ArtifactStore:
    """What people lay beside a study or a trial, in the place that also keeps large checkpoints.

    It follows optuna.artifacts._protocol.ArtifactStore. Ids are the dashboard's; a checkpoint's key is none.
    """

    def __init__(self, place: Artifacts) -> None:
        self._place = place

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of an artifact.

        Raises:
            ArtifactNotFound: If there is none.
        """
        content = self._place.read(artifact_id)
        if not content:
            raise ArtifactNotFound(f"there is no artifact {artifact_id}")
        return io.BytesIO(content)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep the content of an artifact."""
        self._place.write(artifact_id, content_body.read())

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, if it is there."""
        self._place.remove(artifact_id)
