"""Studies deleted for good, with all that belongs to them."""

from __future__ import annotations

import contextlib
import time

from kansearch.storage.artifacts import find_artifacts, remove_all
from kansearch.storage.studies import StoredStudy
from kansearch.storage.workers import WorkerRecord, read_workers

LEAVE_S = 15.0
"""So long workers are given to leave a study that is about to be deleted."""

_LOOK_S = 0.2


def workers_on(study: StoredStudy) -> list[WorkerRecord]:
    """The workers that serve a study now, as far as anybody knows."""
    workers = read_workers(study.storage.ledger)
    return [worker for worker in workers if worker.study_id == study.study_id and worker.state in ("live", "late")]


def delete_study(study: StoredStudy, patience_s: float = LEAVE_S) -> int:
    """Delete a study with its trials, their checkpoints and artifacts.

    Its workers are asked to leave first. One that takes longer finds out when it looks, or when it writes: what it
    trained is lost.

    Args:
        study: To be deleted; nobody may use it afterwards.
        patience_s: How long workers may take to leave.

    Returns:
        How many artifacts lie where this machine does not reach them; the next worker that does removes them.

    Raises:
        UserError: If somebody else deleted it.
    """
    study.stop()
    deadline = time.monotonic() + patience_s
    while workers_on(study) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    ledger = study.storage.ledger
    artifacts = find_artifacts(ledger, study.study_id)
    # Perhaps it is gone: somebody else deleted it too, or the answer of a first try was lost.
    with contextlib.suppress(KeyError):
        study.storage.delete_study(study.study_id)
    return len(artifacts) - remove_all(ledger, artifacts)
