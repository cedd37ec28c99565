"""A trial that compiled code trains by itself, some epochs in one call.

Nobody else is in its arrays, so what it measures depends on its spec, its data and the processor's kind alone.

Letters: E epochs of a call, T steps of an epoch, B rows of a batch, W nodes of a hidden row, G groups of parameters,
N numbers of the trial's row.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kansearch.compiled import trainer
from kansearch.compiled.trainer import pointer, zeros
from kansearch.data.splits import Split
from kansearch.models.shapes import widest
from kansearch.models.stack import structure
from kansearch.specs.trial import End, ModelSpec, RungResult, TrialSpec
from kansearch.training.batches import Padding, steps_at_once, uniforms_of_trial
from kansearch.training.checkpoints import Checkpoint
from kansearch.training.device import is_out_of_memory
from kansearch.training.metrics import quality
from kansearch.training.optimizers import free_in_epochs, learning_rates
from kansearch.training.program import Program
from kansearch.training.tables import CURVE_ROWS, GRID_ROWS, rows_to_look_at
from kansearch.training.trainee import Trainee

CALL_S = 0.2
"""A call takes about so long at most: between two of them a worker that is told to leave at once does so, and between
two epochs whoever wants to stop it is asked."""

SLOWEST = 1e8
"""Operations of a network that any machine computes in a second, at least: who has trained no epoch is judged by it."""

CALL_NUMBERS = 2**21
"""Random numbers that are drawn for a call; an epoch that needs more takes several calls."""


@dataclass(frozen=True)
class Alone:
    """The place in a pack of a trial that is trained by itself, as long as its network stays what it is.

    Attributes:
        slot: Of the trial.
        model: Its network.
    """

    slot: int
    model: ModelSpec


def is_known(spec: TrialSpec, split: Split) -> bool:
    """Whether compiled code can train a trial, but for the steps of a polisher."""
    training = spec.training
    moves = split.image_shape and (training.shift or training.flip)
    return trainer.level(training.dtype) is not None and spec.model.stem in ("none", "embedding") and not moves


class Columns:
    """The rows of a split as compiled code reads them: inputs column by column.

    Args:
        split: With numbers of the kind of the network's.
        dtype: That kind.
    """

    def __init__(self, split: Split, dtype: str) -> None:
        self.pointers = trainer.DataPointers()
        self._kept: list[NDArray[Any]] = []
        for part in ("train", "validation"):
            x, y = (getattr(split, f"{part}_{what}").numpy() for what in "xy")
            targets = "numbers" if y.dtype.kind == "f" else "classes"
            self._note(f"{part}_x", x.T.astype(dtype))
            self._note(f"{part}_{targets}", y.ravel().astype(dtype if targets == "numbers" else np.int64))
            if (weights := getattr(split, f"{part}_weights")) is not None:
                self._note(f"{part}_weights", weights.numpy().astype(dtype))
        self.pointers.n_train, self.pointers.n_validation = split.n_train, split.n_validation

    def _note(self, name: str, values: NDArray[Any]) -> None:
        array = zeros(values.size, values.dtype)
        array[:] = values.ravel()
        self._kept.append(array)
        setattr(self.pointers, name, pointer(array))


class Single:
    """One trial on its way, with Group's methods.

    Args:
        split: Of its data.
        columns: The same rows as compiled code reads them, by kind of numbers; shared by all trials of a pack.
    """

    def __init__(self, split: Split, columns: dict[str, Columns]) -> None:
        self.trainees: list[Trainee] = []
        self._split, self._all_columns = split, columns

    def add(self, trainee: Trainee) -> None:
        """Take in the trial; its network holds the weights with which it begins."""
        training, split = trainee.spec.training, self._split
        if training.dtype not in self._all_columns:
            self._all_columns[training.dtype] = Columns(split, training.dtype)
        self._columns = self._all_columns[training.dtype]
        self._batch_size = min(training.batch_size, split.n_train)
        self._n_steps = -(-split.n_train // self._batch_size)
        self._n_rows = Padding.of(structure(trainee.model), split, split.n_inputs).whole(self._batch_size)
        self._program = Program(trainee.network, self._batch_size, _kind(trainee))
        n, dtype = self._program.n_numbers, self._program.dtype
        rows = zeros(5 * n, dtype).reshape(5, n)
        self._row, _, self._first, self._second, self._best = rows
        self._ages = zeros(self._program.n_groups, np.int64)
        self._outputs = zeros(split.n_outputs * split.n_validation, dtype)
        first = rows.ctypes.data
        of_rows = range(first, first + rows.nbytes, rows.strides[0])
        self._state = trainer.StatePointers(*of_rows, pointer(self._ages), None, pointer(self._outputs))
        self._program.write(trainee.network, self._row)
        # Until it is known; a step back takes about twice as long as one forward.
        self._epoch_s = 3 * trainee.costs["flops"] * split.n_train / SLOWEST
        self.trainees.append(trainee)

    @property
    def _trainee(self) -> Trainee:
        return self.trainees[0]

    def advance(self, is_over: Callable[[], bool]) -> list[RungResult]:
        """Train until the trial reaches a rung, and give its result; none where it must go on elsewhere."""
        try:
            return self._advance(is_over)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._trainee.end = End.OUT_OF_MEMORY
            return [self._trainee.result({}, ())]

    def _advance(self, is_over: Callable[[], bool]) -> list[RungResult]:
        trainee = self._trainee
        while True:
            self._train(min(trainee.n_unbroken, max(1, int(CALL_S / self._epoch_s))))
            if trainee.is_at_rung:
                return [self._result()]
            if is_over() or trainee.is_due or trainee.is_polishing:
                return []

    def _train(self, n_epochs: int) -> None:
        """Train so many epochs, or fewer where memory is short or the trial ends."""
        begin, trainee = time.perf_counter(), self._trainee
        training, n_steps = trainee.spec.training, self._n_steps
        n_at_once = n_steps  # of an epoch
        if self._drops:
            n_drawn = self._n_rows * sum(trainee.hidden_rows)
            n_epochs = min(n_epochs, max(1, CALL_NUMBERS // (n_steps * n_drawn)))
            if n_steps * n_drawn > CALL_NUMBERS:
                n_at_once = steps_at_once(self._n_rows, trainee.padded_hidden_rows)
        order = torch.stack([torch.randperm(self._split.n_train, generator=trainee.random) for _ in range(n_epochs)])
        rates = learning_rates(training, trainee.epoch, n_steps, trainee.groups, n_epochs)
        free = free_in_epochs(training, trainee.epoch, trainee.groups, n_epochs)
        losses = np.zeros((n_epochs, 2))
        self._state.losses, self._state.best_loss = pointer(losses), trainee.best_loss
        self._state.n_since_best = trainee.epoch - trainee.best_epoch
        n_trained = 0
        n_each = max(1, int(n_steps * min(1.0, CALL_S / self._epoch_s)))  # of an epoch, in a call
        for first in range(0, n_steps, n_at_once):
            n_here = min(n_at_once, n_steps - first)
            drawn = self._draw(n_epochs, n_here)
            for begin_step in range(0, n_here, n_each):
                step = first + begin_step
                plan = trainer.PlanPointers(order.data_ptr(), pointer(rates[step:]), pointer(free))
                plan.n_epochs, plan.first_step, plan.n_steps = n_epochs, step, min(n_each, n_here - begin_step)
                n_trained = self._call(plan, [of_row[begin_step:] for of_row in drawn])
        best = torch.from_numpy(self._best)
        for train_loss, validation_loss in losses[:n_trained].tolist():
            trainee.learn(train_loss, validation_loss, best)
        self._epoch_s = (time.perf_counter() - begin) / n_trained
        trainee.seconds += time.perf_counter() - begin

    @property
    def _drops(self) -> bool:
        return self._trainee.spec.model.dropout > 0 and bool(self._trainee.hidden_rows)

    def _draw(self, n_epochs: int, n_steps: int) -> list[Float[Tensor, "T _ W"]]:
        """What dropout draws for so many steps of each epoch: a number for each node of each hidden row, or nothing."""
        if not self._drops:
            return []
        of_epochs = [uniforms_of_trial(self._trainee, n_steps, self._n_rows) for _ in range(n_epochs)]
        return of_epochs[0] if n_epochs == 1 else [torch.cat(row) for row in zip(*of_epochs, strict=True)]

    def _call(self, plan: trainer.PlanPointers, drawn: list[Tensor]) -> int:
        """Train what is planned, with what dropout drew; returns how many epochs came to an end."""
        trainee, training = self._trainee, self._trainee.spec.training
        if drawn:
            of_rows = (ctypes.c_void_p * len(drawn))(*(of_row.data_ptr() for of_row in drawn))
            plan.uniforms, plan.n_drawn = ctypes.cast(of_rows, ctypes.c_void_p), self._n_rows
        plan.patience, plan.decoupled = training.patience, training.optimizer == "adamw"
        plan.keep, plan.decay = 1 - trainee.spec.model.dropout, training.weight_decay
        plan.l1, plan.entropy = training.l1, training.entropy
        n_trained: int = trainer.code(self._program.dtype).trainer_train(
            ctypes.byref(self._program.pointers),
            self._program.memory,
            ctypes.byref(self._columns.pointers),
            ctypes.byref(plan),
            ctypes.byref(self._state),
            ctypes.c_int64(self._program.n_numbers),
        )
        return n_trained

    # --- what a group does too ---------------------------------------------------------------------------

    def restore(self, trainee: Trainee, checkpoint: Checkpoint) -> None:
        """Let the trial, which has not begun, go on from its checkpoint.

        Raises:
            CheckpointError: If it is not this trial's.
        """
        program = self._program
        trainee.check(checkpoint, program.n_own)
        for numbers, row in (
            (checkpoint.weights, self._row),
            (checkpoint.first, self._first),
            (checkpoint.second, self._second),
        ):
            program.set_numbers(numbers, row)
        self._ages[:] = checkpoint.ages.numpy()
        for row in (self._first, self._second):
            program.forget_frozen(self._ages, row)
        best = None
        if checkpoint.best_weights is not None:
            program.set_numbers(checkpoint.best_weights, self._best)
            best = torch.from_numpy(self._best).clone()
        trainee.restore(checkpoint, best)
        program.read(self._row, trainee.network)
        program.fix(trainee.network)

    def checkpoint(self, trainee: Trainee) -> Checkpoint:
        """The trial as it stands."""
        program, best = self._program, trainee.best_weights
        return trainee.checkpoint(
            weights=program.numbers(self._row),
            first=program.numbers(self._first),
            second=program.numbers(self._second),
            ages=torch.from_numpy(self._ages.copy()),
            best_weights=None if best is None else program.numbers(best.numpy()),
        )

    def bring_back(self, trainee: Trainee) -> None:
        """Give the trial's network its weights."""
        self._program.read(self._judged(), trainee.network)
        trainee.network.eval()

    def fit_grids(self, trainee: Trainee) -> None:
        """Fit the grids of the trial; what it remembers of its training it keeps, unless its network becomes finer."""
        begin, model = time.perf_counter(), trainee.model
        self.bring_back(trainee)
        trainee.fit_grids(self._some_rows(GRID_ROWS))
        if trainee.model == model:
            self._program.write(trainee.network, self._row)
            self._program.fix(trainee.network)
        trainee.seconds += time.perf_counter() - begin

    def remove(self, trainee: Trainee) -> None:
        """Take the trial away."""
        self.trainees.remove(trainee)

    # --- results -----------------------------------------------------------------------------------------

    def _judged(self) -> NDArray[Any]:
        """The row that is judged: where a trial with patience ended, its best one."""
        trainee = self._trainee
        if trainee.best_weights is not None and trainee.end in (End.COMPLETED, End.STOPPED_EARLY):
            return trainee.best_weights.numpy()
        return self._row

    def _result(self) -> RungResult:
        trainee, split = self._trainee, self._split
        if trainee.end not in (End.COMPLETED, End.STOPPED_EARLY):
            return trainee.result(quality(self._last_outputs(), split) if trainee.end is None else {}, ())
        outputs = self._last_outputs() if trainee.best_weights is None else self._look()
        self.bring_back(trainee)
        trainee.measure_latency(split.n_inputs)
        curves = trainee.network.curves(self._some_rows(CURVE_ROWS))
        return trainee.result(quality(outputs, split), curves)

    def _some_rows(self, n_rows: int) -> Float[Tensor, "B _"]:
        """At most so many training rows, in the network's kind of numbers."""
        trainee, split = self._trainee, self._split
        n_most = rows_to_look_at(n_rows, widest(structure(trainee.model), split.inputs, split.n_outputs))
        return split.train_x[:n_most].to(trainee.dtype)

    def _last_outputs(self) -> Float[Tensor, "V O"]:
        return torch.from_numpy(self._outputs.reshape(self._split.n_outputs, -1)).T.contiguous()

    def _look(self) -> Float[Tensor, "V O"]:
        """The outputs for the validation rows of the network that is judged."""
        self._row[:] = self._judged()
        trainer.code(self._program.dtype).trainer_look(
            ctypes.byref(self._program.pointers),
            self._program.memory,
            ctypes.byref(self._columns.pointers),
            ctypes.byref(self._state),
        )
        return self._last_outputs()


def _kind(trainee: Trainee) -> Hashable:
    """What networks have in common that lie alike in memory and have the same grids."""
    model = trainee.model
    if model.grid == "fitted":
        return None
    with_dropout = model.model_copy(update={"dropout": float(model.dropout > 0)})
    return with_dropout, trainee.inputs, trainee.n_outputs, trainee.dtype
