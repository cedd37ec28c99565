"""Where studies and their large checkpoints are kept: what a flag, the environment or a study file says."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from kansearch.specs.study import StudySpec
from kansearch.storage import artifacts, url


@dataclass(frozen=True)
class Places:
    """Of one study.

    Attributes:
        storage: URL of its database.
        artifacts: Of its large checkpoints, as `parse_place` names it; None where nobody says it.
        hint: What other commands need on their command line to find the study; empty where they find it so.
    """

    storage: str
    artifacts: str | None
    hint: str


def storage_url(given: str | None, filed: str | None = None) -> str:
    """The storage of a command.

    Args:
        given: With the flag.
        filed: In the study file, where the command has one.
    """
    return given or os.environ.get(url.ENVIRONMENT) or filed or url.DEFAULT_URL


def artifacts_place(given: str | None) -> str | None:
    """The place of artifacts that a flag or the environment names, as `parse_place` has it; None where neither does.

    Raises:
        UserError: If it cannot be one.
    """
    here = given or os.environ.get(artifacts.ENVIRONMENT)
    return artifacts.parse_place(here, Path()) if here else None


def find_places(spec: StudySpec, study_file: Path, storage: str | None, place: str | None) -> Places:
    """Where a study is kept.

    Args:
        spec: What its file says.
        study_file: From whose folder relative paths in it count.
        storage: With the flag.
        place: With the flag, of artifacts.

    Raises:
        UserError: If the place cannot be one for artifacts.
    """
    filed = spec.storage and url.from_folder(spec.storage, study_file.parent)
    found = storage_url(storage, filed)
    return Places(
        found,
        artifacts_place(place)
        or (artifacts.parse_place(spec.artifacts, study_file.parent) if spec.artifacts else None),
        "" if found == storage_url(None) else f" {shlex.join(['--storage', url.shown(found)])}",
    )
