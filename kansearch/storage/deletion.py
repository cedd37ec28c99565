"""Studies deleted for good, with all that belongs to them."""

from __future__ import annotations

import contextlib
import time

from kansearch.storage.artifacts import ArtifactError, Artifacts, artifacts_at, find_artifacts, remove_all
from kansearch.storage.studies import StoredStudy
from kansearch.storage.workers import WorkerRecord, read_workers

LEAVE_S = 15.0
"""So long workers are given to leave a study that is about to be deleted."""

LAID = "artifacts:"
"""Prefix of the system attributes in which Optuna notes artifacts."""

_LOOK_S = 0.2


def workers_on(study: StoredStudy) -> list[WorkerRecord]:
    """The workers that serve a study now, as far as anybody knows."""
    workers = read_workers(study.storage.ledger)
    return [worker for worker in workers if worker.study_id == study.study_id and worker.state in ("live", "late")]


def delete_study(study: StoredStudy, patience_s: float = LEAVE_S, place: Artifacts | None = None) -> int:
    """Delete a study with its trials, their checkpoints and artifacts.

    Its workers are asked to leave first. One that takes longer finds out when it looks, or when it writes: what it
    trained is lost.

    Args:
        study: To be deleted; nobody may use it afterwards.
        patience_s: How long workers may take to leave.
        place: Where people laid files beside the study and its trials, from the dashboard or from scripts; None looks
            where the study keeps its checkpoints.

    Returns:
        How many artifacts lie where this machine does not reach them; the next worker that does removes those that
        are checkpoints.

    Raises:
        UserError: If somebody else deleted it.
    """
    study.stop()
    deadline = time.monotonic() + patience_s
    while workers_on(study) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    ledger = study.storage.ledger
    artifacts = find_artifacts(ledger, study.study_id)
    laid = _laid_beside(study)
    if place is None and study.artifacts is not None:
        place = artifacts_at(study.artifacts)
    # Perhaps it is gone: somebody else deleted it too, or the answer of a first try was lost.
    with contextlib.suppress(KeyError):
        study.storage.delete_study(study.study_id)
    n_laid = sum(_is_removed(key, place) for key in laid) if place is not None else 0
    return len(artifacts) - remove_all(ledger, artifacts) + len(laid) - n_laid


def _laid_beside(study: StoredStudy) -> list[str]:
    """Keys of the files that people laid beside a study and its trials, as Optuna notes them."""
    attributes = [study.system_attrs(), *(trial.system_attrs for trial in study.trials())]
    return [key.removeprefix(LAID) for found in attributes for key in found if key.startswith(LAID)]


def _is_removed(key: str, place: Artifacts) -> bool:
    try:
        place.remove(key)
    except ArtifactError:
        return False
    return True
