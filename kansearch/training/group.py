"""Groups: trials whose networks and batches have one structure, computed together, each as if it were alone.

Their parameters lie in one buffer, a row for each trial, and every layer, loss and update is computed for all of them
at once. Every trial draws from random streams of its own and is padded by a rule that looks at the trial alone, so its
results depend on its spec and on the data, never on its neighbours.

Letters: P trials of a group, N numbers of a trial's row, B rows of a batch, T steps of an epoch, V validation rows.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from kansearch.data.splits import Split
from kansearch.models.layer import even_shares
from kansearch.models.shapes import widest
from kansearch.models.stack import NARROWEST, Stack, structure
from kansearch.specs.metrics import Task
from kansearch.specs.trial import End, EpochPoint, ModelSpec, RungResult
from kansearch.training.augmentation import draw_moves, moved
from kansearch.training.checkpoints import Checkpoint, CheckpointError
from kansearch.training.device import is_out_of_memory
from kansearch.training.features import FeatureCache
from kansearch.training.gauss_newton import FIRST_DAMPING, LARGEST, NormalEquations, gauss_newton
from kansearch.training.metrics import entropy, losses, quality
from kansearch.training.optimizers import AdamState, PackAdam, free_numbers
from kansearch.training.polish import PolishState, polish
from kansearch.training.trainee import Phase, Trainee
from kansearch.training.unfreeze import ParameterGroups

EVALUATION_NUMBERS = 2**19
"""Numbers of the widest row of nodes of a trial in one forward pass without gradients: bounds its memory."""

PREPARED_NUMBERS = 2**26
"""Largest table of the features of raw inputs that is kept, in numbers."""

MASK_NUMBERS = 2**20
"""Numbers of a trial's dropout masks that are drawn at once."""

CURVE_ROWS, GRID_ROWS = 2048, 4096
CURVE_NUMBERS = 2**24
"""Training rows from which the learned activations are drawn, and to which grids are fitted; as many as give so many
numbers where rows are wide."""

VECTOR_NUMBERS = 32
"""Batches are padded such that each trial has a multiple of so many numbers in every row of nodes: torch works on two
vectors of up to 16 at once, and on what is left of a whole stack one by one, where functions have other last bits."""


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
        self._device = device
        self._split = split.to(kind.dtype)
        self._stack = Stack(kind.structure, split.inputs, split.n_outputs, kind.dtype).to(device)
        self._weights = torch.empty(0, self._stack.n_numbers, dtype=kind.dtype, device=device)
        self._real = torch.empty(0, self._stack.n_numbers, dtype=torch.bool)
        self._stack.freeze_stages(kind.phase.n_frozen)
        self._groups = ParameterGroups(len(self._stack.activation_groups()), len(self._stack.stage_groups()))
        self._fresh = AdamState.fresh(self._stack.n_numbers, self._groups.total, kind.dtype, device)
        self._state = AdamState(*(t[:0] for t in (self._fresh.first, self._fresh.second, self._fresh.ages)))
        self._is_polishing = kind.phase.is_polishing
        self._fresh_polish = (
            PolishState.fresh(self._stack.n_numbers, kind.dtype, device) if self._is_polishing else None
        )
        self._polish = None if self._fresh_polish is None else PolishState(*(t[:0] for t in _rows(self._fresh_polish)))
        self._n_steps = math.ceil(split.n_train / kind.batch_size)
        # Where windows show an odd count of numbers only the rows can make vectors whole.
        has_windows = kind.structure.stem in ("convolution", "recurrent", "attention")
        n_seen = self._stack.backbone.n_outputs if self._stack.backbone else split.n_inputs
        narrow = [n_seen, *([split.n_outputs] if kind.structure.layer == "node" else [])]
        self._row_multiple = VECTOR_NUMBERS // (1 if has_windows else math.gcd(NARROWEST, *narrow))
        self._n_rows = self._whole(kind.batch_size)
        self._train_x, self._validation_x = self._prepared(features)
        self._train_y, self._validation_y = self._split.train_y.to(device), self._split.validation_y.to(device)
        n_last = split.n_train - (self._n_steps - 1) * kind.batch_size
        self._shares = {n_real: self._share(n_real) for n_real in (kind.batch_size, n_last)}
        self._equations = self._make_equations(split)
        # Of a backbone the tables are also what networks of trials can go on from.
        self._has_features = self._is_prepared and self._stack.backbone is not None
        if self._equations is not None:
            n_filling = self._whole(split.n_train) - split.n_train
            self._whole_train_x = functional.pad(self._train_x, (0, 0, 0, n_filling))
        self._at_once = sys.maxsize
        self._widest = widest(kind.structure, split.inputs, split.n_outputs)

    def _prepared(self, features: FeatureCache) -> tuple[Tensor, Tensor]:
        """The inputs, or what the first layer makes of them whatever its parameters are, if that is not too much."""
        x, validation_x = self._split.train_x.to(self._device), self._split.validation_x.to(self._device)
        n_validation = len(validation_x)
        validation_x = functional.pad(validation_x, (0, 0, 0, self._whole(n_validation) - n_validation))
        with torch.no_grad():
            width = self._stack.prepare(x[:1]).shape[-1]
            backbone = self._stack.backbone
            self._is_prepared = (
                (backbone.does_work if backbone else width != x.shape[-1])
                and not self._kind.has_moves
                and (len(x) + len(validation_x)) * width <= PREPARED_NUMBERS
            )
            if not self._is_prepared:
                return x, validation_x
            # Rows are looked up: each in one piece of memory.
            if backbone is None:
                return self._stack.prepare(x).contiguous(), self._stack.prepare(validation_x).contiguous()
            shared, n_frozen = self._kind.structure, backbone.n_fixed + backbone.n_frozen
            key = shared.backbone, shared.enlarge, n_frozen, self._kind.dtype, len(validation_x)
            return features.get(key, lambda: (self._stack.prepare(x), self._stack.prepare(validation_x)))

    def _make_equations(self, split: Split) -> NormalEquations | None:
        """What Levenberg-Marquardt solves, where it is done."""
        if self._kind.polisher != "levenberg_marquardt" or self._stack.n_numbers > LARGEST:
            return None
        stack = Stack(self._kind.structure, split.inputs, split.n_outputs, self._kind.dtype).to(self._device)
        stack.freeze_stages(self._kind.phase.n_frozen)
        return NormalEquations(stack, VECTOR_NUMBERS)

    def _whole(self, n_rows: int) -> int:
        """So many rows, and those that fill them up."""
        return self._row_multiple * math.ceil(n_rows / self._row_multiple)

    def _share(self, n_real: int) -> Float[Tensor, " B"]:
        """Weights of the rows of a batch: the rows that fill it up have none."""
        shares = torch.zeros(self._n_rows, dtype=self._kind.dtype)
        shares[:n_real] = 1 / n_real
        return shares.to(self._device)

    # --- members ----------------------------------------------------------------------------------------

    def row_of(self, trainee: Trainee) -> tuple[Float[Tensor, "1 N"], AdamState]:
        """A trial's weights, and what Adam remembers of it."""
        row = self.trainees.index(trainee)
        own = slice(row, row + 1)
        state = self._state
        return self._weights[own].clone(), AdamState(*(t[own].clone() for t in (state.first, state.second, state.ages)))

    def add(self, trainee: Trainee, so_far: tuple[Float[Tensor, "1 N"], AdamState] | None = None) -> None:
        """Give a trial a row; of one that comes from another group it is known."""
        kin = [other.kin for other in self.trainees]
        place = len(kin) - kin[::-1].index(trainee.kin) if trainee.kin in kin else len(kin)
        row, fresh = so_far or (self._stack.embed(trainee.network).to(self._device).unsqueeze(0), self._fresh)
        state = self._state
        trainee.network.freeze_stages(self._kind.phase.n_frozen)
        # All or nothing: memory may not suffice for one of them.
        weights = _inserted(self._weights, place, row)
        real = _inserted(self._real, place, self._stack.real_numbers(trainee.network).unsqueeze(0))
        state = AdamState(
            _inserted(state.first, place, fresh.first),
            _inserted(state.second, place, fresh.second),
            _inserted(state.ages, place, fresh.ages),
        )
        if self._polish is not None and self._fresh_polish is not None:
            pairs = zip(_rows(self._polish), _rows(self._fresh_polish), strict=True)
            self._polish = PolishState(*(_inserted(rows, place, fresh_row) for rows, fresh_row in pairs))
        self.trainees.insert(place, trainee)
        self._weights, self._real, self._state = weights, real, state
        self._seat()

    def remove(self, trainee: Trainee) -> None:
        """Take a trial's row away."""
        place = self.trainees.index(trainee)
        state = self._state
        weights, real = _without(self._weights, place), _without(self._real, place)
        state = AdamState(*(_without(rows, place) for rows in (state.first, state.second, state.ages)))
        if self._polish is not None:
            self._polish = PolishState(*(_without(rows, place) for rows in _rows(self._polish)))
        del self.trainees[place]
        self._weights, self._real, self._state = weights, real, state
        if self.trainees:
            self._seat()

    def fit_grids(self, trainee: Trainee) -> None:
        """Fit the grids of a trial; what it remembers of its training it keeps, unless its network becomes finer."""
        begin, row = time.perf_counter(), self.trainees.index(trainee)
        self.bring_back(trainee)
        trainee.fit_grids(self._some_rows(GRID_ROWS), prepared=self._has_features)
        if structure(trainee.model) == self._kind.structure:
            self._weights[row] = self._stack.embed(trainee.network).to(self._device)
            self._forget_steps(row)
        trainee.seconds += time.perf_counter() - begin

    def _forget_steps(self, row: int) -> None:
        """Let a polisher begin anew."""
        if self._polish is not None:
            self._polish.counts[row], self._polish.damping[row] = 0, FIRST_DAMPING

    def bring_back(self, trainee: Trainee) -> None:
        """Give a trial's network its weights."""
        if trainee.best_weights is not None and trainee.end in (End.COMPLETED, End.STOPPED_EARLY):
            self._stack.extract(trainee.best_weights, trainee.network)
        else:
            self._stack.extract(self._weights[self.trainees.index(trainee)], trainee.network)
        trainee.network.eval()

    def checkpoint(self, trainee: Trainee) -> Checkpoint:
        """A trial as it stands, without what pads it."""
        row, state = self.trainees.index(trainee), self._state
        real = self._real[row]
        best = trainee.best_weights
        return Checkpoint(
            seed=trainee.spec.seed,
            epoch=trainee.epoch,
            seconds=trainee.seconds,
            points=torch.tensor(
                [(p.epoch, p.train_loss, p.validation_loss) for p in trainee.points], dtype=torch.float64
            ).view(-1, 3),
            weights=self._weights[row].cpu()[real],
            first=state.first[row].cpu()[real],
            second=state.second[row].cpu()[real],
            ages=state.ages[row],
            random=trainee.random.get_state(),
            dropout=trainee.network.generator.get_state(),
            best_loss=trainee.best_loss,
            best_epoch=trainee.best_epoch,
            best_weights=None if best is None else best.cpu()[real],
        )

    def restore(self, trainee: Trainee, checkpoint: Checkpoint) -> None:
        """Let a trial that just came go on from its checkpoint.

        Raises:
            CheckpointError: If it is not this trial's.
        """
        row, state = self.trainees.index(trainee), self._state
        real = self._real[row]
        if checkpoint.seed != trainee.spec.seed or checkpoint.epoch >= trainee.rungs[-1]:
            raise CheckpointError("is another trial's")
        if checkpoint.weights.shape != (int(real.sum()),) or checkpoint.weights.dtype != trainee.dtype:
            raise CheckpointError("is another network's")
        self._weights[row] = self._padded(checkpoint.weights, real)
        state.first[row] = self._padded(checkpoint.first, real)
        state.second[row] = self._padded(checkpoint.second, real)
        state.ages[row] = checkpoint.ages
        trainee.random.set_state(checkpoint.random)
        trainee.network.generator.set_state(checkpoint.dropout)
        trainee.seconds = checkpoint.seconds
        trainee.points = [
            EpochPoint(epoch=int(epoch), train_loss=train_loss, validation_loss=validation_loss)
            for epoch, train_loss, validation_loss in checkpoint.points.tolist()
        ]
        trainee.best_loss, trainee.best_epoch = checkpoint.best_loss, checkpoint.best_epoch
        if checkpoint.best_weights is not None:
            trainee.best_weights = self._padded(checkpoint.best_weights, real)

    def _padded(self, numbers: Float[Tensor, " R"], real: Bool[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The row of a trial, from the numbers that it really has."""
        return torch.zeros(len(real), dtype=self._kind.dtype).masked_scatter_(real, numbers).to(self._device)

    def _seat(self) -> None:
        """Make everything that depends on who is in the group."""
        trainings = [trainee.spec.training for trainee in self.trainees]
        self._adam = PackAdam(self._stack.segments, self._real, trainings, self._state, self._groups)
        self._seated: slice | None = None
        self._gradients = torch.empty_like(self._weights)
        self._l1 = self._column([training.l1 for training in trainings])
        self._entropy = self._column([training.entropy for training in trainings])

    def _column(self, values: Sequence[float]) -> Float[Tensor, " P"]:
        return torch.tensor(values, dtype=self._kind.dtype).to(self._device)

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
        trainees, split = self.trainees, self._split
        train_losses = self._polish_epoch() if self._is_polishing else self._batches_of_epoch()
        self._stack.eval()
        with torch.no_grad():
            predict = partial(self._outputs, self._validation_x)
            outputs = self._in_turns(predict, len(self._validation_x), split.n_outputs)[:, : split.n_validation]
        targets = self._validation_y.expand(len(trainees), *split.validation_y.shape)
        validation_losses = losses(outputs, targets, split.task, even_shares(outputs)).cpu().tolist()
        of_training = train_losses.cpu().tolist()
        seconds = (time.perf_counter() - begin) / len(trainees)
        for row, trainee in enumerate(trainees):
            trainee.seconds += seconds
            trainee.learn(of_training[row], validation_losses[row], self._weights[row])
            if trainee.is_at_rung:
                # Whoever goes on from a checkpoint has no memory of steps, so nobody has after a rung.
                self._forget_steps(row)
        return outputs

    def _polish_epoch(self) -> Float[Tensor, " P"]:
        """One step of the polisher; returns the mean losses on the training data."""
        assert self._polish is not None
        self._stack.eval()
        free = free_numbers(
            self._stack.segments,
            self._real,
            [trainee.spec.training for trainee in self.trainees],
            [trainee.epoch for trainee in self.trainees],
            self._groups,
        ).to(self._weights)
        if self._equations is not None:
            damping = self._polish.damping
            return gauss_newton(self._weights, free, damping, self._normal_equations, self._squared_errors)
        data_losses = torch.zeros(len(self.trainees), dtype=self._kind.dtype, device=self._device)

        def evaluate() -> tuple[Float[Tensor, " P"], Float[Tensor, "P N"]]:
            with torch.enable_grad():
                losses_of, gradients = self._evaluate()
            data_losses.copy_(losses_of[:, 0])
            return losses_of[:, 1], gradients

        polish(self._weights, free, self._polish, evaluate)
        evaluate()
        return data_losses

    def _normal_equations(self) -> Float[Tensor, "P N1 N1"]:
        """The normal equations of all trials; zeros where memory does not suffice."""
        assert self._equations is not None
        equations, n = self._equations, self._stack.n_numbers + 1
        x, y = self._train_x, self._train_y

        def work(turn: slice) -> Tensor:
            specs = [trainee.model for trainee in self.trainees[turn]]
            return equations.of(self._weights[turn], specs, x, y, prepared=self._is_prepared)

        return self._in_turns(work, n, n)

    def _squared_errors(self) -> Float[Tensor, " P"]:
        """Mean squared errors on all training rows."""
        n_train = self._split.n_train
        x = self._whole_train_x
        outputs = self._in_turns(partial(self._outputs, x), len(x), 1)[:, :n_train]
        targets = self._train_y.expand(len(self.trainees), *self._train_y.shape)
        return losses(outputs, targets, self._split.task, even_shares(outputs))

    def _evaluate(self) -> tuple[Float[Tensor, "P 2"], Float[Tensor, "P N"]]:
        """Loss on the data and objective of each trial on all training rows, and gradients of the latter."""
        n_train = self._split.n_train
        n_rows = min(self._whole(n_train), self._whole(max(1, EVALUATION_NUMBERS // self._widest)))
        both = torch.zeros(len(self.trainees), 2, dtype=self._kind.dtype, device=self._device)
        gradients = torch.zeros_like(self._gradients)
        for begin in range(0, n_train, n_rows):
            n_real = min(n_rows, n_train - begin)
            order = torch.zeros(len(self.trainees), n_rows, dtype=torch.int64, device=self._device)
            order[:, :n_real] = torch.arange(begin, begin + n_real, device=self._device)
            shares = torch.zeros(n_rows, dtype=self._kind.dtype, device=self._device)
            shares[:n_real] = 1 / n_real
            both += self._in_turns(partial(self._learn, order, None, shares, ()), 2) * (n_real / n_train)
            gradients += self._gradients * (n_real / n_train)
        return both, gradients

    def _batches_of_epoch(self) -> Float[Tensor, " P"]:
        """One pass over the training data in batches; returns the mean losses of these."""
        trainees, split = self.trainees, self._split
        self._stack.train()
        self._adam.begin_epoch([trainee.epoch for trainee in trainees], self._n_steps)
        order = self._draw_order()
        moves = self._draw_moves()
        totals = torch.zeros(len(trainees), dtype=self._kind.dtype, device=self._device)
        for step in range(self._n_steps):
            masks = self._masks_of(step)
            n_real = min(self._kind.batch_size, split.n_train - step * self._kind.batch_size)
            of_step = None if moves is None else moves[:, step]
            learn = partial(self._learn, order[:, step], of_step, self._shares[n_real], masks)
            totals += self._in_turns(learn, 2)[:, 0] * n_real
            self._adam.step(self._weights, self._gradients, step)
        return totals / split.n_train

    def _learn(
        self,
        order: Int64[Tensor, "P B"],
        moves: Int64[Tensor, "P B 3"] | None,
        shares: Float[Tensor, " B"],
        masks: Sequence[Tensor],
        turn: slice,
    ) -> Float[Tensor, "P 2"]:
        """Write the gradients of a step of some trials; returns their losses on the data, and with all penalties."""
        self._stack.silence([of_row[turn] for of_row in masks])
        rows = order[turn]
        n_trials = len(rows)
        x = self._train_x.index_select(0, rows.flatten()).view(n_trials, rows.shape[1], -1)
        if moves is not None:
            assert self._split.image_shape is not None
            x = moved(x, moves[turn], self._split.image_shape)
        y = self._train_y.index_select(0, rows.flatten()).view(*rows.shape, *self._train_y.shape[1:])
        prepared = x if self._is_prepared else self._stack.prepare(x)
        if self._kind.has_penalty:
            outputs, amplitudes = self._stack.mix_with_amplitudes(prepared, shares)
            of_trials = losses(outputs, y, self._split.task, shares)
            objectives = of_trials
            for a, real in zip(amplitudes, self._stack.real_edges, strict=True):
                objectives = objectives + self._l1[turn] * a.sum((-2, -1))
                if self._kind.has_entropy:
                    objectives = objectives + self._entropy[turn] * entropy(a, real)
        else:
            of_trials = objectives = losses(self._stack.mix(prepared), y, self._split.task, shares)
        # Frozen stages of a backbone are no part of what was computed.
        gradients = torch.autograd.grad(objectives.sum(), self._parameters, materialize_grads=True)
        self._gradients[turn] = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
        return torch.stack([of_trials.detach(), objectives.detach()], dim=-1)

    @torch.no_grad()
    def _outputs(self, x: Float[Tensor, "B F"], turn: slice) -> Float[Tensor, "P B O"]:
        """Outputs for some rows, which may be prepared."""
        self._stack.silence(())
        n_trials = turn.stop - turn.start
        # Whatever the number of trials is: the rows that are computed together decide the last bit.
        n_rows = self._whole(max(1, EVALUATION_NUMBERS // self._widest))
        outputs = []
        for part in torch.split(x, n_rows):
            prepared = part if self._is_prepared else self._stack.prepare(part)
            outputs.append(self._stack.mix(prepared.expand(n_trials, *prepared.shape)))
        return torch.cat(outputs, dim=1)

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
            self._parameters = self._stack.attach(self._weights[turn], specs)
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
        return torch.full((1, *shape), torch.nan, dtype=self._kind.dtype, device=self._device)

    def _draw_order(self) -> Int64[Tensor, "P T B"]:
        """The rows of each batch of an epoch; rows that only fill up are the first row of the data."""
        n_train, size = self._split.n_train, self._kind.batch_size
        order = torch.zeros(len(self.trainees), self._n_steps, self._n_rows, dtype=torch.int64)
        padded = torch.zeros(self._n_steps * size, dtype=torch.int64)
        for row, trainee in enumerate(self.trainees):
            padded[:n_train] = torch.randperm(n_train, generator=trainee.random)
            order[row, :, :size] = padded.view(self._n_steps, size)
        return order.to(self._device)

    def _draw_moves(self) -> Int64[Tensor, "P T B 3"] | None:
        """How each image of each batch of an epoch is moved."""
        if not self._kind.has_moves:
            return None
        sizes = self._n_steps, self._n_rows
        return torch.stack([draw_moves(t.spec.training, *sizes, t.random) for t in self.trainees]).to(self._device)

    def _masks_of(self, step: int) -> list[Float[Tensor, "P B W"]]:
        """The dropout masks of a step, one a hidden row; they are drawn for many steps at once."""
        rows = self._stack.hidden_rows
        if not rows or not any(trainee.spec.model.dropout for trainee in self.trainees):
            return []
        n_drawn = max(1, MASK_NUMBERS // (self._n_rows * max(rows)))
        if step % n_drawn == 0:
            n_steps = min(n_drawn, self._n_steps - step)
            shape = (n_steps, len(self.trainees), self._n_rows)
            drawn = [torch.ones(*shape, n_nodes, dtype=self._kind.dtype) for n_nodes in rows]
            for row, trainee in enumerate(self.trainees):
                if trainee.spec.model.dropout:
                    for masks, own in zip(drawn, trainee.draw_masks(n_steps, self._n_rows), strict=True):
                        masks[:, row, :, : own.shape[-1]] = own
            self._masks = [masks.to(self._device) for masks in drawn]
        return [masks[step % n_drawn] for masks in self._masks]

    def _some_rows(self, n_rows: int) -> Float[Tensor, "B _"]:
        """At most so many rows that networks of trials can learn from; fewer where they are wide."""
        x = self._train_x if self._has_features else self._split.train_x
        return x[: max(1, min(n_rows, CURVE_NUMBERS // self._widest))].cpu()

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
        network = trainee.network
        self.bring_back(trainee)
        trainee.measure_latency(self._split.n_inputs)
        if trainee.best_weights is not None:
            x = self._validation_x[: self._split.n_validation].cpu() if self._has_features else self._split.validation_x
            outputs = network.outputs(x, EVALUATION_NUMBERS // self._widest, prepared=self._has_features)
        curves = network.curves(self._some_rows(CURVE_ROWS), prepared=self._has_features)
        return trainee.result(quality(outputs, self._split), curves)


def _rows(state: PolishState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return state.steps, state.changes, state.counts, state.damping


def _inserted(rows: Tensor, place: int, row: Tensor) -> Tensor:
    return torch.cat([rows[:place], row, rows[place:]])


def _without(rows: Tensor, place: int) -> Tensor:
    return torch.cat([rows[:place], rows[place + 1 :]])
