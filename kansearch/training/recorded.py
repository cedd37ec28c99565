"""Packs that train nothing: what their trials measure was recorded before, or is computed.

Whoever studies a search (its pruner, its storage, its sampler) needs thousands of trials and none of their networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kansearch.data.splits import Split
from kansearch.models.build import build
from kansearch.models.network import Network
from kansearch.specs.trial import End, RungResult, TrialSpec
from kansearch.training.checkpoints import CheckpointError

Replay = Callable[[TrialSpec, int], RungResult]
"""What a trial measures after so many epochs, those of a rung; its slot, its rung and a regular end are put right."""


@dataclass
class _Replayed:
    """A trial on its way.

    Attributes:
        spec: Of the trial.
        epoch: How many it has had.
    """

    spec: TrialSpec
    epoch: int = 0

    @property
    def rungs(self) -> tuple[int, ...]:
        return self.spec.rungs or (self.spec.training.epochs,)

    @property
    def to_go(self) -> int:
        """Epochs to its next rung."""
        return next(rung for rung in self.rungs if rung > self.epoch) - self.epoch


class RecordedPack:
    """Stands for a `Pack`, and replays what its trials measure; the epochs of all pass together.

    Args:
        split: What the trials would learn from.
        replay: What they measure.
        latency_at_rungs: As for a `Pack`; what is measured is for `replay` to say.
        device: Likewise.
    """

    def __init__(
        self,
        split: Split,
        replay: Replay,
        *,
        latency_at_rungs: bool = True,
        device: torch.device | None = None,
    ) -> None:
        del latency_at_rungs, device
        self._split = split
        self._replay = replay
        self._trials: dict[int, _Replayed] = {}

    def __len__(self) -> int:
        return len(self._trials)

    def admit(self, spec: TrialSpec, checkpoint: bytes | None = None) -> int:
        """Put a trial into the lowest free slot and return that slot.

        Args:
            spec: Of the trial.
            checkpoint: From which it goes on.

        Raises:
            CheckpointError: If the bytes are no checkpoint of this trial.
        """
        slot = next(slot for slot in range(len(self._trials) + 1) if slot not in self._trials)
        trial = _Replayed(spec)
        if checkpoint is not None:
            try:
                seed, trial.epoch = json.loads(checkpoint)
            except (ValueError, TypeError) as error:
                raise CheckpointError(f"is no checkpoint: {type(error).__name__}") from error
            if seed != spec.seed:
                raise CheckpointError("is that of another trial")
        self._trials[slot] = trial
        return slot

    def advance(self, is_over: Callable[[], bool] = lambda: False) -> list[RungResult]:
        """Let epochs pass until some trials reach a rung: their results.

        Args:
            is_over: Asked after every epoch: whether to leave it at that, with no results.
        """
        for _ in range(min(trial.to_go for trial in self._trials.values())):
            for trial in self._trials.values():
                trial.epoch += 1
            if is_over():
                break
        return [self._result(slot, t) for slot, t in self._trials.items() if t.epoch in t.rungs]

    def _result(self, slot: int, trial: _Replayed) -> RungResult:
        rung = trial.rungs.index(trial.epoch)
        result = self._replay(trial.spec, trial.epoch)
        end = result.end or (End.COMPLETED if trial.epoch == trial.rungs[-1] else None)
        return result.model_copy(update={"slot": slot, "rung": rung, "epoch": trial.epoch, "end": end})

    def checkpoint(self, slot: int) -> bytes:
        """From which a trial can go on in another pack."""
        trial = self._trials[slot]
        return json.dumps([trial.spec.seed, trial.epoch]).encode()

    def checkpoint_since(self, slot: int) -> tuple[int, bytes] | None:
        """The epochs and the checkpoint of a trial on its way to a rung; None where the last rung's is as good."""
        trial = self._trials[slot]
        return None if trial.epoch in (0, *trial.rungs) else (trial.epoch, self.checkpoint(slot))

    def network(self, slot: int) -> Network:
        """A trial's network as its training would begin."""
        spec = self._trials[slot].spec
        generator = torch.Generator().manual_seed(spec.seed)
        dtype: torch.dtype = getattr(torch, spec.training.dtype)
        return build(spec.model, self._split.inputs, self._split.n_outputs, generator=generator, dtype=dtype)

    def retire(self, slot: int) -> None:
        """Take a trial out of its slot."""
        del self._trials[slot]
