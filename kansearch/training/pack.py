"""Packs: trials that are trained together, each as if it were alone.

Trials whose networks and batches have one structure form a group. Whoever holds a pack decides at every rung who goes
on: `advance` trains until some trials reach a rung, `retire` frees the slot of one that is over, `admit` fills it, and
nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kansearch.data.splits import Split
from kansearch.models.network import Network
from kansearch.specs.trial import End, RungResult, TrialSpec
from kansearch.training.checkpoints import Checkpoint
from kansearch.training.device import is_out_of_memory
from kansearch.training.features import FeatureCache
from kansearch.training.group import Group, Kind
from kansearch.training.trainee import Trainee

CPU = torch.device("cpu")


class Pack:
    """Trials that are trained together, each in a slot of its own.

    Results do not depend on who else is in the pack, with one thread (`torch.set_num_threads(1)`, as workers have it):
    several share out sums by the size of the whole. A pack is true while it holds a trial.

    Args:
        split: What the trials learn from and are judged by.
        latency_at_rungs: Measure the latency of every network before it is trained; otherwise of those alone that
            are trained to their end. It takes as long as training a small network for an epoch.
        device: On which they are trained. Whatever is drawn at random, and every latency, is the CPU's all the same.
    """

    def __init__(self, split: Split, *, latency_at_rungs: bool = True, device: torch.device = CPU) -> None:
        self._split = split
        self._device = device
        self._latency_at_rungs = latency_at_rungs
        self._groups: dict[Kind, Group] = {}
        self._trainees: dict[int, Trainee] = {}
        self._kinds: dict[int, Kind] = {}
        self._features = FeatureCache()

    def __len__(self) -> int:
        return len(self._trainees)

    def admit(self, spec: TrialSpec, checkpoint: bytes | None = None) -> int:
        """Put a trial into the lowest free slot and return that slot.

        Args:
            spec: Of the trial.
            checkpoint: From which it goes on.

        Raises:
            CheckpointError: If the bytes are no checkpoint of this trial.
            UserError: If the network cannot be built.
        """
        slot = next(slot for slot in range(len(self._trainees) + 1) if slot not in self._trainees)
        trainee = Trainee(slot, spec, self._split)
        stored = None if checkpoint is None else Checkpoint.from_bytes(checkpoint)
        if stored is not None:
            trainee.resume(stored.epoch)
        if self._latency_at_rungs:
            trainee.measure_latency(self._split.n_inputs)
        kind = Kind.of(trainee, self._split)

        def enter(group: Group) -> None:
            group.add(trainee)
            if stored is not None:
                group.restore(trainee, stored)

        self._enter(kind, trainee, enter)
        self._trainees[slot] = trainee
        self._kinds[slot] = kind
        return slot

    def _enter(self, kind: Kind, trainee: Trainee, enter: Callable[[Group], None]) -> None:
        """Let a trial enter the group of its kind, or leave all as it was."""
        if kind not in self._groups:
            self._groups[kind] = Group(kind, self._split, self._device, self._features)
        try:
            enter(self._groups[kind])
        except BaseException:
            self._leave(kind, trainee)
            raise

    def _regroup(self) -> list[RungResult]:
        """Let all trials go on where they belong now; results of those for which memory did not suffice."""
        ended = []
        for slot, trainee in self._trainees.items():
            if trainee.end is not None:
                continue
            try:
                self._go_on(slot, trainee)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                trainee.end = End.OUT_OF_MEMORY
                ended.append(trainee.result({}, ()))
        return ended

    def _go_on(self, slot: int, trainee: Trainee) -> None:
        """Fit the grids of a trial if they are due, and put it into the group of its kind, if that has changed."""
        old = self._kinds[slot]
        if trainee.is_due:
            self._groups[old].fit_grids(trainee)
        new = Kind.of(trainee, self._split)
        if old != new:
            row = self._groups[old].row_of(trainee) if new.structure == old.structure else None

            def enter(group: Group) -> None:
                group.add(trainee, row)
                self._leave(old, trainee)

            self._enter(new, trainee, enter)
            self._kinds[slot] = new

    def advance(self, is_over: Callable[[], bool] = lambda: False) -> list[RungResult]:
        """Train the group whose turn it is until some of its trials reach a rung, or their end: their results.

        Args:
            is_over: Asked after every epoch: whether to leave it at that, with no results.
        """
        while True:
            if ended := self._regroup():
                return ended
            kind = next(iter(self._groups))
            group = self._groups.pop(kind)
            self._groups[kind] = group
            if (results := group.advance(is_over)) or is_over():
                return results

    def checkpoint(self, slot: int) -> bytes:
        """From which a trial can go on in another pack as if it had stayed in this one."""
        return self._groups[self._kinds[slot]].checkpoint(self._trainees[slot]).to_bytes()

    def checkpoint_since(self, slot: int) -> tuple[int, bytes] | None:
        """The epochs and the checkpoint of a trial on its way to a rung; None where the last rung's is as good."""
        trainee, kind = self._trainees[slot], self._kinds[slot]
        # Polishers remember their steps, and no checkpoint does.
        if trainee.is_at_rung or not trainee.epoch or kind.phase.is_polishing:
            return None
        return trainee.epoch, self.checkpoint(slot)

    def network(self, slot: int) -> Network:
        """A trial's network as it stands; after its last result the one that was judged."""
        trainee = self._trainees[slot]
        self._groups[self._kinds[slot]].bring_back(trainee)
        return trainee.network

    def retire(self, slot: int) -> None:
        """Take a trial out of its slot."""
        self._leave(self._kinds.pop(slot), self._trainees.pop(slot))

    def _leave(self, kind: Kind, trainee: Trainee) -> None:
        """Take a trial out of its group, if it came so far; a group that is empty goes too."""
        group = self._groups[kind]
        if trainee in group.trainees:
            group.remove(trainee)
        if not group.trainees:
            del self._groups[kind]
