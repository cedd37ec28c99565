"""A standing worker: it serves all open studies of a storage, wherever it is needed most."""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import torch

from kansearch.errors import KansearchError
from kansearch.storage.artifacts import sweep
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import StoredStudy, open_studies
from kansearch.storage.workers import Presence, read_workers, worker_name
from kansearch.training.pack import CPU
from kansearch.training.speed import what_trains
from kansearch.worker.loop import serve
from kansearch.worker.signals import StopSignals

_logger = logging.getLogger(__name__)

IDLE_S = 2.0
"""Between two looks for a study that is open."""

SHIFT_S = 60.0
"""After so long a worker leaves its study for one that nobody serves."""


RETRY_S = 300.0
"""After so long a worker tries a study again that it could not serve."""


def work_on_all(
    storage: Storage,
    stop: StopSignals,
    size: int | None = None,
    device: torch.device = CPU,
    idle_s: float | None = None,
    data: Path | None = None,
) -> None:
    """Train trials of all open studies until somebody asks us to stop.

    Args:
        storage: Of the studies.
        stop: Who may ask.
        size: Trials that are trained together; None lets each study decide.
        device: On which they are trained.
        idle_s: Seconds without a study after which it leaves; None for however long it takes.
        data: Where those of a study lie, if elsewhere than it says.
    """
    busy_at = time.monotonic()
    number = zlib.crc32(worker_name().encode())
    with Presence(storage.ledger, what_trains(device)) as presence:
        rota = _Rota(storage)
        while not stop.requested:
            study = rota.neediest()
            if study is None:
                if idle_s is not None and time.monotonic() - busy_at >= idle_s:
                    return
                sweep(storage.ledger)
                stop.sleep(IDLE_S)
                continue
            rota.begin(study)
            try:
                is_over = partial(rota.is_needed_elsewhere, study)
                serve(study, number, stop, presence, size, device, is_over, idle_s=idle_s, data=data)
                busy_at = time.monotonic()
            except KansearchError as error:
                # Others may be able to serve it, and whoever submitted it looks at its status.
                _logger.error("%s: %s", study.spec.name, error)  # noqa: TRY400 - a person can mend it
                rota.cannot_serve(study)


class _Rota:
    """Which study a worker should serve."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._left_at: dict[int, float] = {}
        self._refused_at: dict[int, float] = {}
        self._begun = 0.0

    def neediest(self) -> StoredStudy | None:
        """The open study with the fewest workers; of those the one that we left longest ago."""
        studies = self._open_to_us()
        workers = self._workers()
        order = {study.study_id: (workers[study.study_id], self._left_at.get(study.study_id, 0.0)) for study in studies}
        return min(studies, key=lambda study: order[study.study_id], default=None)

    def begin(self, study: StoredStudy) -> None:
        """Note that we serve a study from now on."""
        self._begun = self._left_at[study.study_id] = time.monotonic()

    def cannot_serve(self, study: StoredStudy) -> None:
        """Leave a study to others for a while."""
        self._refused_at[study.study_id] = time.monotonic()

    def is_needed_elsewhere(self, study: StoredStudy) -> bool:
        """Whether an open study has so few workers that we should leave ours."""
        self._left_at[study.study_id] = time.monotonic()
        workers = self._workers()
        others = [workers[other.study_id] for other in self._open_to_us() if other.study_id != study.study_id]
        if not others:
            return False
        time_is_up = time.monotonic() - self._begun > SHIFT_S
        # Ours counts us.
        return workers[study.study_id] > min(others) + 1 or (time_is_up and min(others) == 0)

    def _open_to_us(self) -> list[StoredStudy]:
        now = time.monotonic()
        return [
            study
            for study in open_studies(self._storage)
            if now - self._refused_at.get(study.study_id, -math.inf) > RETRY_S
        ]

    def _workers(self) -> Counter[int | None]:
        return Counter(worker.study_id for worker in read_workers(self._storage.ledger) if worker.state == "live")
