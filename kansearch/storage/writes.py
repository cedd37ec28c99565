"""What is to be written of trials: many of them in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState


@dataclass(frozen=True)
class StoredCheckpoint:
    """Of a trial, after so many epochs.

    Attributes:
        epoch: How many.
        state: Its bytes; empty where they lie in an artifact.
        artifact: Key of the artifact that holds them.
    """

    epoch: int
    state: bytes
    artifact: str | None = None


@dataclass(frozen=True)
class TrialWrite:
    """What is to be written of a running trial.

    Attributes:
        trial_id: Of the trial.
        user_attrs: By key.
        system_attrs: By key.
        intermediate_values: By step.
        state: In which the trial ends; None while it goes on.
        values: Of the objectives, with a complete trial.
        checkpoint: From which another trial may go on in its place; that of a trial that ends is deleted.
    """

    trial_id: int
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    intermediate_values: Mapping[int, float] = field(default_factory=dict)
    state: TrialState | None = None
    values: Sequence[float] = ()
    checkpoint: StoredCheckpoint | None = None
