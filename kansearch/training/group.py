"""Groups: trials whose networks and batches have one structure, computed together, each as if it were alone.

Their parameters lie in one buffer, a row for each trial, and every layer, loss and update is computed for all of them
at once. Every trial draws from random streams of its own and is padded by a rule that looks at the trial alone, so its
results depend on its spec and on the data, never on its neighbours.

Letters: P trials of a group, N numbers of a trial's row, B rows of a batch, T steps of an epoch, V validation rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch.data.splits import Split
from kansearch.models.layer import even_shares
from kansearch.models.shapes import widest
from kansearch.models.stack import Stack, structure
from kansearch.specs.metrics import Task
from kansearch.specs.trial import End, ModelSpec, RungResult
from kansearch.training.augmentation import moved
from kansearch.training.batches import VECTOR_NUMBERS, Batch, Batches, Padding
from kansearch.training.checkpoints import Checkpoint
from kansearch.training.device import is_out_of_memory
from kansearch.training.features import FeatureCache
from kansearch.training.gauss_newton import LARGEST, NormalEquations, gauss_newton
from kansearch.training.metrics import entropy, losses, quality
from kansearch.training.optimizers import AdamState, PackAdam, free_numbers
from kansearch.training.polish import polish
from kansearch.training.rows import TrialRows
from kansearch.training.tables import CURVE_ROWS, GRID_ROWS, Tables, rows_to_look_at
from kansearch.training.trainee import Phase, Trainee
from kansearch.training.unfreeze import ParameterGroups

EVALUATION_NUMBERS = 2**19
"""Numbers of the widest row of nodes of a trial in one forward pass without gradients: bounds its memory."""


@dataclass(frozen=True)
class Kind:
    """What trials must share to be computed together."""

    structure: ModelSpec
    batch_size: int
    optimizer: str
    dtype: torch.dtype
    has_penalty: bool
    has_entropy: bool
    has_moves: bool
    phase: Phase
    polisher: Literal["none", "lbfgs", "levenberg_marquardt"]
    """The steps that its epochs are; none where they are passes in batches."""

    @staticmethod
    def of(trainee: Trainee, split: Split) -> Kind:
        """Of a trial as it goes on now."""
        training = trainee.spec.training
        has_penalty = bool(training.l1 or training.entropy)
        is_least_squares = split.task is Task.REGRESSION and not has_penalty
        phase = trainee.phase
        return Kind(
            structure=structure(trainee.model),
            phase=phase,
            polisher="none" if not phase.is_polishing else training.polisher if is_least_squares else "lbfgs",
            batch_size=min(training.batch_size, split.n_train),
            optimizer=training.optimizer,
            dtype=getattr(torch, training.dtype),
            has_penalty=has_penalty,
            has_entropy=bool(training.entropy),
            has_moves=bool(split.image_shape and (training.shift or training.flip)),
        )


class Group:
    """Trials of one kind, a row each; trials that are evaluated alike stand side by side."""

    def __init__(self, kind: Kind, split: Split, device: torch.device, features: FeatureCache) -> None:
        self.trainees: list[Trainee] = []
        self._kind = kind
        self._split = split.to(kind.dtype)
        self._stack = _stack(kind, split, device)
        self._parameter_groups = ParameterGroups(len(self._stack.activation_groups()), len(self._stack.stage_groups()))
        self._rows = TrialRows(
            self._stack, self._parameter_groups.total, kind.dtype, device, is_polished=kind.phase.is_polishing
        )
        backbone = self._stack.backbone
        padding = Padding.of(kind.structure, split, backbone.n_outputs if backbone else split.n_inputs)
        self._batches = Batches(
            split.n_train,
            kind.batch_size,
            padding,
            self._stack.hidden_rows,
            has_moves=kind.has_moves,
            like=self._rows.weights,
        )
        self._tables = Tables(
            self._split, self._stack, kind.structure, padding, device, features, has_moves=kind.has_moves
        )
        self._equations: NormalEquations | None = None
        if kind.polisher == "levenberg_marquardt" and self._stack.n_numbers <= LARGEST:
            self._equations = NormalEquations(_stack(kind, split, device), VECTOR_NUMBERS)
        self._widest = widest(kind.structure, split.inputs, split.n_outputs)
        # Whatever the number of trials is: the rows that are computed together decide the last bit.
        self._n_evaluated = padding.whole(max(1, EVALUATION_NUMBERS // self._widest))
        self._at_once = sys.maxsize

    # --- members ----------------------------------------------------------------------------------------

    def row_of(self, trainee: Trainee) -> tuple[Float[Tensor, "1 N"], AdamState]:
        """A trial's weights, and what Adam remembers of it."""
        return self._rows.copy(self.trainees.index(trainee))

    def add(self, trainee: Trainee, so_far: tuple[Float[Tensor, "1 N"], AdamState] | None = None) -> None:
        """Give a trial a row; of one that comes from another group it is known."""
        kin = [other.kin for other in self.trainees]
        place = len(kin) - kin[::-1].index(trainee.kin) if trainee.kin in kin else len(kin)
        trainee.network.freeze_stages(self._kind.phase.n_frozen)
        self._rows.insert(place, trainee.network, so_far)
        self.trainees.insert(place, trainee)
        self._seat()

    def remove(self, trainee: Trainee) -> None:
        """Take a trial's row away."""
        place = self.trainees.index(trainee)
        self._rows.remove(place)
        del self.trainees[place]
        if self.trainees:
            self._seat()

    def fit_grids(self, trainee: Trainee) -> None:
        """Fit the grids of a trial; what it remembers of its training it keeps, unless its network becomes finer."""
        begin = time.perf_counter()
        self.bring_back(trainee)
        trainee.fit_grids(self._some_rows(GRID_ROWS), prepared=self._tables.are_features)
        if structure(trainee.model) == self._kind.structure:
            self._rows.replace(self.trainees.index(trainee), trainee.network)
        trainee.seconds += time.perf_counter() - begin

    def bring_back(self, trainee: Trainee) -> None:
        """Give a trial's network its weights."""
        if trainee.best_weights is not None and trainee.end in (End.COMPLETED, End.STOPPED_EARLY):
            self._stack.extract(trainee.best_weights, trainee.network)
        else:
            self._stack.extract(self._rows.weights[self.trainees.index(trainee)], trainee.network)
        trainee.network.eval()

    def checkpoint(self, trainee: Trainee) -> Checkpoint:
        """A trial as it stands."""
        return self._rows.checkpoint(self.trainees.index(trainee), trainee)

    def restore(self, trainee: Trainee, checkpoint: Checkpoint) -> None:
        """Let a trial that just came go on from its checkpoint.

        Raises:
            CheckpointError: If it is not this trial's.
        """
        self._rows.restore(self.trainees.index(trainee), trainee, checkpoint)

    def _seat(self) -> None:
        """Make everything that depends on who is in the group."""
        weights, trainings = self._rows.weights, [trainee.spec.training for trainee in self.trainees]
        self._adam = PackAdam(self._stack.segments, self._rows.real, trainings, self._rows.adam, self._parameter_groups)
        self._seated: slice | None = None
        self._gradients = torch.empty_like(weights)
        self._l1, self._entropy = (
            torch.tensor([getattr(training, name) for training in trainings], dtype=weights.dtype).to(weights.device)
            for name in ("l1", "entropy")
        )

    # --- training ---------------------------------------------------------------------------------------

    def advance(self, is_over: Callable[[], bool]) -> list[RungResult]:
        """Train until trials reach a rung, and give their results; none where trials must go on in another group."""
        while True:
            outputs = self._train_epoch()
            if is_over() or any(t.is_at_rung or t.phase != self._kind.phase or t.is_due for t in self.trainees):
                return [
                    self._result_or_end(trainee, outputs[row])
                    for row, trainee in enumerate(self.trainees)
                    if trainee.is_at_rung
                ]

    def _train_epoch(self) -> Float[Tensor, "P V O"]:
        """One pass over the training data and one over the validation data; returns the outputs of the latter."""
        begin = time.perf_counter()
        trainees, tables = self.trainees, self._tables
        train_losses = self._polish_epoch() if self._kind.phase.is_polishing else self._batches_of_epoch()
        outputs = self._all_outputs(tables.validation_x, self._split.n_validation)
        validation_losses = self._data_losses(outputs, tables.validation_y, tables.validation_weights)
        of_training, of_validation = train_losses.cpu().tolist(), validation_losses.cpu().tolist()
        seconds = (time.perf_counter() - begin) / len(trainees)
        for row, trainee in enumerate(trainees):
            trainee.seconds += seconds
            trainee.learn(of_training[row], of_validation[row], self._rows.weights[row])
            if trainee.is_at_rung:
                # Whoever goes on from a checkpoint has no memory of steps, so nobody has after a rung.
                self._rows.forget_steps(row)
        return outputs

    def _batches_of_epoch(self) -> Float[Tensor, " P"]:
        """One pass over the training data in batches; returns the mean losses of these."""
        self._stack.train()
        self._adam.begin_epoch([trainee.epoch for trainee in self.trainees], self._batches.n_steps)
        totals = self._rows.weights.new_zeros(len(self.trainees))
        for step, batch in enumerate(self._batches.of_epoch(self.trainees)):
            totals += self._in_turns(partial(self._learn, batch), 2)[:, 0] * batch.n_real
            self._adam.step(self._rows.weights, self._gradients, step)
        return totals / self._split.n_train

    def _learn(self, batch: Batch, turn: slice) -> Float[Tensor, "P 2"]:
        """Write the gradients of a step of some trials; returns their losses on the data, and with all penalties."""
        self._stack.silence([of_row[turn] for of_row in batch.masks])
        rows, task, tables = batch.order[turn], self._split.task, self._tables
        x = tables.train_x.index_select(0, rows.flatten()).view(*rows.shape, -1)
        if batch.moves is not None:
            assert self._split.image_shape is not None
            x = moved(x, batch.moves[turn], self._split.image_shape)
        y = tables.train_y.index_select(0, rows.flatten()).view(*rows.shape, *tables.train_y.shape[1:])
        shares = batch.shares if tables.train_weights is None else batch.shares * tables.train_weights[rows]
        prepared = x if tables.are_prepared else self._stack.prepare(x)
        if self._kind.has_penalty:
            outputs, amplitudes = self._stack.mix_with_amplitudes(prepared, batch.shares)
            of_trials = objectives = losses(outputs, y, task, shares)
            for a, real in zip(amplitudes, self._stack.real_edges, strict=True):
                objectives = objectives + self._l1[turn] * a.sum((-2, -1))
                if self._kind.has_entropy:
                    objectives = objectives + self._entropy[turn] * entropy(a, real)
        else:
            of_trials = objectives = losses(self._stack.mix(prepared), y, task, shares)
        # Frozen stages of a backbone are no part of what was computed.
        gradients = torch.autograd.grad(objectives.sum(), self._parameters, materialize_grads=True)
        self._gradients[turn] = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
        return torch.stack([of_trials.detach(), objectives.detach()], dim=-1)

    # --- polishing --------------------------------------------------------------------------------------

    def _polish_epoch(self) -> Float[Tensor, " P"]:
        """One step of the polisher; returns the mean losses on the training data."""
        weights, state = self._rows.weights, self._rows.polish
        assert state is not None
        self._stack.eval()
        free = free_numbers(
            self._stack.segments,
            self._rows.real,
            [trainee.spec.training for trainee in self.trainees],
            [trainee.epoch for trainee in self.trainees],
            self._parameter_groups,
        ).to(weights)
        if self._equations is not None:
            return gauss_newton(weights, free, state.damping, self._normal_equations, self._squared_errors)
        data_losses = weights.new_zeros(len(self.trainees))

        def evaluate() -> tuple[Float[Tensor, " P"], Float[Tensor, "P N"]]:
            with torch.enable_grad():
                losses_of, gradients = self._evaluate()
            data_losses.copy_(losses_of[:, 0])
            return losses_of[:, 1], gradients

        polish(weights, free, state, evaluate)
        evaluate()
        return data_losses

    def _evaluate(self) -> tuple[Float[Tensor, "P 2"], Float[Tensor, "P N"]]:
        """Loss on the data and objective of each trial on all training rows, and gradients of the latter."""
        n_trials, n_train = len(self.trainees), self._split.n_train
        both, gradients = self._rows.weights.new_zeros(n_trials, 2), torch.zeros_like(self._gradients)
        for batch in self._batches.in_order(n_trials, self._n_evaluated):
            both += self._in_turns(partial(self._learn, batch), 2) * (batch.n_real / n_train)
            gradients += self._gradients * (batch.n_real / n_train)
        return both, gradients

    def _normal_equations(self) -> Float[Tensor, "P N1 N1"]:
        """The normal equations of all trials; zeros where memory does not suffice."""
        assert self._equations is not None
        equations, n = self._equations, self._stack.n_numbers + 1
        tables = self._tables

        def work(turn: slice) -> Tensor:
            specs = [trainee.model for trainee in self.trainees[turn]]
            weights = self._rows.weights[turn]
            x, y = tables.train_x, tables.train_y
            return equations.of(weights, specs, x, y, tables.train_weights, prepared=tables.are_prepared)

        return self._in_turns(work, n, n)

    def _squared_errors(self) -> Float[Tensor, " P"]:
        """Mean squared errors on all training rows."""
        outputs = self._all_outputs(self._tables.whole_train_x, self._split.n_train)
        return self._data_losses(outputs, self._tables.train_y, self._tables.train_weights)

    # --- outputs ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _all_outputs(self, x: Float[Tensor, "B _"], n_real: int) -> Float[Tensor, "P R O"]:
        """Outputs of all trials for the rows of a table that do not only fill up."""
        self._stack.eval()
        return self._in_turns(partial(self._outputs, x), len(x), self._split.n_outputs)[:, :n_real]

    def _outputs(self, x: Float[Tensor, "B _"], turn: slice) -> Float[Tensor, "P B O"]:
        """Outputs of some trials for the rows of a table."""
        self._stack.silence(())
        n_trials = turn.stop - turn.start
        outputs = []
        for part in torch.split(x, self._n_evaluated):
            prepared = part if self._tables.are_prepared else self._stack.prepare(part)
            outputs.append(self._stack.mix(prepared.expand(n_trials, *prepared.shape)))
        return torch.cat(outputs, dim=1)

    @torch.no_grad()
    def _data_losses(
        self, outputs: Float[Tensor, "P B O"], y: Tensor, weights: Float[Tensor, " B"] | None
    ) -> Float[Tensor, " P"]:
        """Mean losses of all trials on the data."""
        shares = even_shares(outputs) if weights is None else even_shares(outputs) * weights
        return losses(outputs, y.expand(len(self.trainees), *y.shape), self._split.task, shares)

    # --- turns ------------------------------------------------------------------------------------------

    def _in_turns(self, work: Callable[[slice], Tensor], *shape: int) -> Tensor:
        """What some work gives for each trial; where memory does not suffice for all at once, they take turns.

        Args:
            work: Done for neighbouring trials.
            shape: Of what it gives for one.
        """
        while True:
            try:
                turns = range(0, len(self.trainees), self._at_once)
                return torch.cat([self._take_turn(work, begin, shape) for begin in turns])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self._at_once == 1:
                    raise
                self._at_once = (min(self._at_once, len(self.trainees)) + 1) // 2

    def _take_turn(self, work: Callable[[slice], Tensor], begin: int, shape: Sequence[int]) -> Tensor:
        turn = slice(begin, min(begin + self._at_once, len(self.trainees)))
        if turn != self._seated:
            specs = [trainee.model for trainee in self.trainees[turn]]
            self._parameters = self._stack.attach(self._rows.weights[turn], specs)
            self._seated = turn
        first = self.trainees[begin]
        alone = turn.stop - begin == 1
        try:
            if not (alone and first.end is End.OUT_OF_MEMORY):
                return work(turn)
        except (MemoryError, RuntimeError) as error:
            if not (alone and is_out_of_memory(error)):
                raise
            # Not even alone: this trial is over, and the others go on.
            first.end = End.OUT_OF_MEMORY
        self._gradients[turn] = 0
        return self._rows.weights.new_full((1, *shape), torch.nan)

    # --- results ----------------------------------------------------------------------------------------

    def _result_or_end(self, trainee: Trainee, outputs: Float[Tensor, "V O"]) -> RungResult:
        """The result of a trial, whose last may need more memory than its training."""
        try:
            return self._result(trainee, outputs.cpu())
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            trainee.end = End.OUT_OF_MEMORY
            return trainee.result({}, ())

    def _result(self, trainee: Trainee, outputs: Float[Tensor, "V O"]) -> RungResult:
        if trainee.end not in (End.COMPLETED, End.STOPPED_EARLY):
            return trainee.result(quality(outputs, self._split) if trainee.end is None else {}, ())
        network, tables = trainee.network, self._tables
        self.bring_back(trainee)
        trainee.measure_latency(self._split.n_inputs)
        if trainee.best_weights is not None:
            n_at_once = EVALUATION_NUMBERS // self._widest
            outputs = network.outputs(tables.validation_rows(), n_at_once, prepared=tables.are_features)
        curves = network.curves(self._some_rows(CURVE_ROWS), prepared=tables.are_features)
        return trainee.result(quality(outputs, self._split), curves)

    def _some_rows(self, n_rows: int) -> Float[Tensor, "B _"]:
        """At most so many training rows for a trial's own network; fewer where they are wide."""
        return self._tables.first_rows(rows_to_look_at(n_rows, self._widest))


def _stack(kind: Kind, split: Split, device: torch.device) -> Stack:
    stack = Stack(kind.structure, split.inputs, split.n_outputs, kind.dtype).to(device)
    stack.freeze_stages(kind.phase.n_frozen)
    return stack
