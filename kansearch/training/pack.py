"""Packs: trials that are trained together, each as if it were alone.

Where compiled code knows its network, a trial is trained by itself, which is fastest; trials of other networks form
groups of one structure, each computed as one. Whoever holds a pack decides at every rung who goes
on: `advance` trains until some trials reach a rung, `retire` frees the slot of one that is over, `admit` fills it, and
nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kansearch.data.splits import Split
from kansearch.models.network import Network
from kansearch.models.stack import structure
from kansearch.specs.trial import End, RungResult, TrialSpec
from kansearch.training.checkpoints import Checkpoint
from kansearch.training.device import is_out_of_memory
from kansearch.training.features import FeatureCache
from kansearch.training.group import Group, Kind
from kansearch.training.single import Alone, Columns, Single, is_known
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
        use_compiled: Train trials by compiled code where it can, and not all of them by torch.
    """

    def __init__(
        self, split: Split, *, latency_at_rungs: bool = True, device: torch.device = CPU, use_compiled: bool = True
    ) -> None:
        self._split = split
        self._device = device
        self._latency_at_rungs = latency_at_rungs
        self._use_compiled = use_compiled and device == CPU
        self._homes: dict[Kind | Alone, Group | Single] = {}
        self._trainees: dict[int, Trainee] = {}
        self._kinds: dict[int, Kind | Alone] = {}
        self._features = FeatureCache()
        self._columns: dict[str, Columns] = {}
        self._broke: Exception | None = None

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
        kind = self._kind_of(trainee)

        def enter(home: Group | Single) -> None:
            home.add(trainee)
            if stored is not None:
                home.restore(trainee, stored)

        self._enter(kind, trainee, enter)
        self._trainees[slot] = trainee
        self._kinds[slot] = kind
        return slot

    def _kind_of(self, trainee: Trainee) -> Kind | Alone:
        """Where a trial belongs as it goes on now."""
        if self._use_compiled and not trainee.is_polishing and is_known(trainee.spec, self._split):
            return Alone(trainee.slot, trainee.model)
        return Kind.of(trainee, self._split)

    def _home(self, kind: Kind | Alone) -> Group | Single:
        if isinstance(kind, Kind):
            return Group(kind, self._split, self._device, self._features)
        return Single(self._split, self._columns)

    def _enter(self, kind: Kind | Alone, trainee: Trainee, enter: Callable[[Group | Single], None]) -> None:
        """Let a trial enter the home of its kind, or leave all as it was."""
        if kind not in self._homes:
            self._homes[kind] = self._home(kind)
        try:
            enter(self._homes[kind])
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
        """Fit the grids of a trial if they are due, and bring it to the home of its kind, if that has changed."""
        old_kind = self._kinds[slot]
        old = self._homes[old_kind]
        model = trainee.model
        if trainee.is_due:
            old.fit_grids(trainee)
        kind = self._kind_of(trainee)
        if old_kind == kind:
            return
        is_same = structure(trainee.model) == structure(model)

        def enter(home: Group | Single) -> None:
            if isinstance(old, Group) and isinstance(home, Group):
                home.add(trainee, old.row_of(trainee) if is_same else None)
            else:
                so_far = old.checkpoint(trainee) if is_same else None
                home.add(trainee)
                if so_far is not None:
                    home.restore(trainee, so_far)
            self._leave(old_kind, trainee)

        self._enter(kind, trainee, enter)
        self._kinds[slot] = kind

    def advance(self, is_over: Callable[[], bool] = lambda: False) -> list[RungResult]:
        """Train the home whose turn it is until some of its trials reach a rung, or their end: their results.

        Trials that compiled code trains take their turn together: each goes on to its next rung. Where one of them
        breaks, the results of those before it come first, and what broke is raised when more is asked for.

        Args:
            is_over: Asked after every epoch, or every fraction of a second: whether to leave it at that.
        """
        if (error := self._broke) is not None:
            self._broke = None
            raise error
        while True:
            if ended := self._regroup():
                return ended
            first = next(iter(self._homes))
            turn = [first] if isinstance(first, Kind) else [kind for kind in self._homes if isinstance(kind, Alone)]
            results = []
            for kind in turn:
                home = self._homes.pop(kind)
                self._homes[kind] = home
                try:
                    results += home.advance(is_over)
                except Exception as error:
                    if not results:
                        raise
                    self._broke = error
                    return results
                if is_over():
                    return results
            if results:
                return results

    def checkpoint(self, slot: int) -> bytes:
        """From which a trial can go on in another pack as if it had stayed in this one."""
        return self._homes[self._kinds[slot]].checkpoint(self._trainees[slot]).to_bytes()

    def checkpoint_since(self, slot: int) -> tuple[int, bytes] | None:
        """The epochs and the checkpoint of a trial on its way to a rung; None where the last rung's is as good."""
        trainee, kind = self._trainees[slot], self._kinds[slot]
        # Polishers remember their steps, and no checkpoint does; nor that grids were fitted for an epoch to come.
        is_polishing = isinstance(kind, Kind) and kind.phase.is_polishing
        if trainee.is_at_rung or not trainee.epoch or is_polishing or trainee.fitted_at == trainee.epoch:
            return None
        return trainee.epoch, self.checkpoint(slot)

    def network(self, slot: int) -> Network:
        """A trial's network as it stands; after its last result the one that was judged."""
        trainee = self._trainees[slot]
        self._homes[self._kinds[slot]].bring_back(trainee)
        return trainee.network

    def retire(self, slot: int) -> None:
        """Take a trial out of its slot."""
        self._leave(self._kinds.pop(slot), self._trainees.pop(slot))

    def _leave(self, kind: Kind | Alone, trainee: Trainee) -> None:
        """Take a trial out of its home, if it came so far; a home that is empty goes too."""
        home = self._homes[kind]
        if trainee in home.trainees:
            home.remove(trainee)
        if not home.trainees:
            del self._homes[kind]
