"""The trials of a study that a process trains together, from their first epoch to their end in the storage."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from optuna.trial import TrialState

from kansearch.data.splits import Split
from kansearch.errors import UserError
from kansearch.search.pruners import Decision, Judge
from kansearch.search.suggest import SpaceSpentError, suggest, trial_spec
from kansearch.specs.trial import End, RungResult, TrialSpec
from kansearch.storage.known import Changes
from kansearch.storage.ledger import COUNTED, BudgetSpentError
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import (
    RunningTrial,
    begin_trials,
    checkpoint_write,
    complete_write,
    fail_write,
    hand_back,
    prune_write,
    resume_trial,
    rung_write,
    write,
)
from kansearch.storage.writes import TrialWrite
from kansearch.training.checkpoints import CheckpointError
from kansearch.training.device import is_out_of_memory
from kansearch.training.pack import Pack

BROKEN = (RuntimeError, ValueError, ArithmeticError, MemoryError)
"""What a trial that cannot be trained raises; the study's ceiling of failures bounds them."""


def describe(error: BaseException) -> str:
    """An error as the reason of a failed trial, in one line."""
    if is_out_of_memory(error):
        return f"{End.OUT_OF_MEMORY}: {type(error).__name__}"
    return f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"


class TrialPack(Protocol):
    """What a study asks of a pack: `Pack` says what each of these does."""

    def admit(self, spec: TrialSpec, checkpoint: bytes | None = None, /) -> int:
        """Put a trial into a free slot and return that slot."""

    def advance(self, is_over: Callable[[], bool], /) -> list[RungResult]:
        """Train until some trials reach a rung."""

    def checkpoint(self, slot: int, /) -> bytes:
        """From which a trial can go on."""

    def checkpoint_since(self, slot: int, /) -> tuple[int, bytes] | None:
        """The epochs and the checkpoint of a trial on its way to a rung."""

    def retire(self, slot: int, /) -> None:
        """Take a trial out of its slot."""


class OpenPack(Protocol):
    """Makes an empty pack for a split, as `Pack` does."""

    def __call__(self, split: Split, /, *, latency_at_rungs: bool) -> TrialPack:
        """The pack."""


class StudyPack:
    """A pack whose slots are filled with trials of a study, and whose trials are judged at their rungs.

    A trial that is pruned or finished leaves at its rung, and the next one takes its slot. Whatever a rung brings is
    written in one transaction, and so are the trials that begin.

    Args:
        study: Of the trials.
        split: Of the study's data.
        worker: Number of this worker; it decides its stream of random draws.
        size: Of the pack.
        open_pack: Makes the pack, now and after it broke.

    Attributes:
        n_ended: Trials that ended here.
        n_epochs: Epochs that were trained here.
    """

    def __init__(
        self, study: StoredStudy, split: Split, worker: int = 0, size: int = 1, open_pack: OpenPack = Pack
    ) -> None:
        self._study = study
        self._split = split
        self._worker = worker
        self._size = size
        self._open_pack = open_pack
        spec = study.spec
        self._needed = tuple(dict.fromkeys([*spec.objectives, *(constraint.metric for constraint in spec.constraints)]))
        self._pack = self._new_pack()
        self._judge = Judge(study)
        self._changes, self._states = Changes(), Counter[TrialState]()
        self._budget: int | None = None
        self._has_looked = False
        self._trials: dict[int, RunningTrial] = {}
        self._is_torn = False
        self.n_ended = self.n_epochs = 0

    @property
    def trials(self) -> tuple[RunningTrial, ...]:
        """Those that are being trained."""
        return tuple(self._trials.values())

    @property
    def budget_left(self) -> int:
        """Trials that may still begin."""
        self._look()
        return self._n_left

    def fill(self) -> None:
        """Let trials take the free slots: first those that lost their worker before, then new ones.

        Raises:
            UserError: If no network of the space keeps to the limits.
        """
        trials = self._look(again=not self._has_looked)
        self._has_looked = False
        if self._states[TrialState.WAITING]:
            while len(self._trials) < self._size and (waiting := resume_trial(self._study)) is not None:
                self._admit(waiting)
            trials = self._look()
        for new in self._begin(trials):
            self._admit(new)

    def advance(
        self,
        while_training: Callable[[], AbstractContextManager[None]] = nullcontext,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until some trials reach a rung, write what they measured, and decide who goes on.

        Args:
            while_training: Entered whenever only the networks are at work, never while the storage is.
            is_over: Asked after every epoch: whether to leave it at that.
        """
        self._is_torn = True
        with while_training():
            results = self._pack.advance(is_over)
        self._is_torn = False
        if not results:
            return
        self.n_epochs += sum(len(result.points) for result in results)
        known, now = self._look(), self._study.storage.ledger.now()
        self._has_looked = True
        rungs = [rung_write(self._study, self._trials[result.slot], result) for result in results]
        # They are judged by what others wrote and by what they measured themselves; one transaction writes it all.
        after = [known[self._trials[r.slot].number].after(rung, now) for r, rung in zip(results, rungs, strict=True)]
        for trial, result in zip(after, results, strict=True):
            self._judge.measured(trial, result)
        verdicts = [self._verdict(result, trial) for trial, result in zip(after, results, strict=True)]
        notes = [TrialWrite(trial_id, system_attrs=attrs) for trial_id, attrs in self._judge.notes.items()]
        self._judge.notes.clear()
        lost = write(self._study, [*rungs, *notes, *verdicts])
        ended = {verdict.trial_id for verdict in verdicts if verdict.state is not None}
        self.n_ended += len(ended - lost)
        for result in results:
            if self._trials[result.slot].id in lost | ended:
                self._pack.retire(result.slot)
                del self._trials[result.slot]

    def fail(self, reason: str) -> None:
        """End all trials as broken."""
        write(self._study, [fail_write(trial, reason) for trial in self.trials])
        self._pack = self._new_pack()
        self._trials.clear()

    def hand_back(self, reason: str) -> None:
        """Give all trials to whoever takes them, each with a checkpoint of where it is.

        Args:
            reason: For people.
        """
        # Whoever was interrupted in the middle of an epoch goes on from the last rung.
        if not self._is_torn:
            with contextlib.suppress(*BROKEN):
                write(self._study, [w for slot, trial in self._trials.items() if (w := self._paused(slot, trial))])
        for trial in self.trials:
            hand_back(self._study, trial.id, reason, died=False)
        self._trials.clear()

    def _paused(self, slot: int, trial: RunningTrial) -> TrialWrite | None:
        """The checkpoint of a trial on its way to a rung."""
        since = self._pack.checkpoint_since(slot)
        return None if since is None else checkpoint_write(trial, *since)

    def _look(self, *, again: bool = True) -> Sequence[StoredTrial]:
        """The trials as they are now, or as this process knows them already; those of before are not counted again."""
        trials = self._study.look() if again else self._study.known_trials()
        for before, trial in self._changes.since(trials):
            if before is not None:
                self._states[before.state] -= 1
            self._states[trial.state] += 1
        self._judge.look(trials)
        return trials

    @property
    def _n_left(self) -> int:
        """Trials that may still begin, as far as we looked."""
        n_counted = sum(self._states[state] for state in COUNTED)
        # Whoever lowers it is obeyed where trials are created, and then it is read again.
        if self._budget is None or self._budget <= n_counted:
            self._budget = self._study.budget
        return self._budget - n_counted

    def _new_pack(self) -> TrialPack:
        return self._open_pack(self._split, latency_at_rungs="latency_ms" in self._needed)

    def _begin(self, trials: Sequence[StoredTrial]) -> list[RunningTrial]:
        """New trials for the free slots; fewer, or none, where budget or space end or other workers were faster."""
        while True:
            n_new = min(self._size - len(self._trials), self._n_left)
            if n_new <= 0:
                return []
            try:
                candidates = suggest(
                    self._study, trials, self._split.inputs, self._split.n_outputs, self._worker, n_new
                )
                if begun := begin_trials(self._study, candidates, n_seen=len(trials)):
                    return begun
            except BudgetSpentError:
                self._budget = None
                return []
            except SpaceSpentError as error:
                self._study.end(str(error))
                self._budget = None
                return []
            except UserError:
                # No candidate was found, by chance perhaps; the trials in flight are worth more than saying so now.
                if self._trials:
                    return []
                raise
            trials = self._look()

    def _admit(self, trial: RunningTrial) -> None:
        spec = trial_spec(self._study.spec, trial.params, trial.seed)
        try:
            slot = self._pack.admit(spec, None if trial.checkpoint is None else trial.checkpoint.state)
        except CheckpointError as error:
            hand_back(self._study, trial.id, f"its checkpoint {error}", died=False, from_start=True)
        except BROKEN as error:
            write(self._study, [fail_write(trial, describe(error))])
        else:
            self._trials[slot] = trial

    def _verdict(self, result: RungResult, measured: StoredTrial) -> TrialWrite:
        """How a trial ends, or its checkpoint while it goes on."""
        study, trial = self._study, self._trials[result.slot]
        if result.end is End.OUT_OF_MEMORY:
            return fail_write(trial, "out of memory")
        missing = [name for name in self._needed if name not in result.metrics]
        if result.end is End.DIVERGED or missing:
            reason = f"diverged: {result.reason}" if result.reason else f"{', '.join(missing)} is no finite number"
            return prune_write(study, trial, reason, progress=0.0, end=End.DIVERGED)
        if result.end is not None:
            return complete_write(study, trial, result)
        if self._judge.decide(measured, result) is Decision.PRUNE:
            progress = result.epoch / study.spec.budget.epochs
            return prune_write(study, trial, f"pruned at epoch {result.epoch}", progress)
        return checkpoint_write(trial, result.epoch, self._pack.checkpoint(result.slot))
