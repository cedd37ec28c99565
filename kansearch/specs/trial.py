"""One trial: the network and training that are declared, and the results that are measured.

The fields of `ModelSpec` and `TrainingSpec` are the hyperparameters: a study may search or fix each of
them under its name. `Only(...)` on a field says for which values of other fields it means anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from kansearch.specs.base import Spec


@dataclass(frozen=True)
class Only:
    """A hyperparameter means something only when another one has one of these values.

    Attributes:
        name: Of the other one.
        values: Likewise.
        above: So are all numbers above this one.
        otherwise: What also suffices.
    """

    name: str
    values: tuple[Any, ...] = ()
    above: float | None = None
    otherwise: Only | None = None

    def __str__(self) -> str:
        found = [str(value) for value in self.values] + ([] if self.above is None else [f"above {self.above:g}"])
        return f"{self.name} is {' or '.join(found)}"

    def allows(self, value: Any) -> bool:
        """Whether the other one may have a value."""
        return value in self.values or (self.above is not None and value > self.above)

    def alternatives(self) -> tuple[Only, ...]:
        """This condition and those that also suffice."""
        return (self, *(self.otherwise.alternatives() if self.otherwise else ()))


Family = Literal["mlp", "kan", "hybrid"]
Layer = Literal["dictionary", "edge", "scaled", "shared", "node", "kaf"]
BaseFunction = Literal[
    "gaussian", "mexican_hat", "relu_bump", "tanh", "sigmoid", "relu", "silu", "gelu", "sin",
    "b_spline", "rbf", "chebyshev", "fourier", "rational",
]  # fmt: skip
Activation = Literal["relu", "silu", "gelu", "tanh"]
Pattern = Literal["first", "last", "alternate", "middle", "stem", "head"]
Unfreeze = Literal["none", "all_at", "gradual_forward", "gradual_backward"]

Pretrained = Literal[
    "resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny",
]  # fmt: skip

NETWORK_SUFFIX = ".safetensors"
"""Of the file of a network that kansearch trained."""

EXPANSIONS: tuple[BaseFunction, ...] = ("b_spline", "rbf", "chebyshev", "fourier", "rational")
"""Base functions that are whole expansions: only the dictionary layer has them."""

FIXED_BASES: tuple[BaseFunction, ...] = ("b_spline", "rbf", "chebyshev", "fourier")
"""Those of them that have no parameters of their own."""

_KAN = Only("family", ("kan", "hybrid"))
_DICTIONARY = Only("layer", ("dictionary",))
_FIXED_BASIS = Only("base_function", FIXED_BASES)
_CONVOLUTION = Only("stem", ("convolution",))
_RECURRENT = Only("stem", ("recurrent",))
_ATTENTION = Only("stem", ("attention",))
_NETWORK_FILE = Field(pattern=r"\.safetensors$", description="a file that ends in .safetensors")
_BACKBONE = Only("stem", ("backbone",))
_TUNED = Only("tuned_stages", above=0)
_THAWS = Only("family", _KAN.values, otherwise=_TUNED)


class ModelSpec(Spec):
    """The architecture of a network between its inputs and its outputs.

    Attributes:
        family: `mlp` ordinary layers, `kan` KAN layers, `hybrid` both.
        depth: Number of layers behind the stem, so depth - 1 hidden rows of nodes.
        width: Nodes of each hidden row.
        stem: What stands before them: nothing; convolutions, which need images; an embedding or a recurrent network,
            which need texts; or blocks of attention, over words, patches of images or columns of tables. Their layers
            are of the family too: a `kan` has KAN convolutions, KAN cells or KAN feed-forward layers, a `mlp`
            ordinary ones, a hybrid both kinds or one. Or a `backbone`: a network that was trained on other data,
            without its last layer; behind it every row of its features is normalised.
        convolutions: How many. Each after the first halves height and width, and doubles the channels.
        channels: Of the first convolution.
        kernel_size: Height and width of what a node of a convolution sees.
        stride: Of the first convolution.
        embedding: Learned numbers of each word (or patch, or column). Behind the stem `embedding` stands their sum over
            the words of a text, over the root of how many these are.
        cell: Of a recurrent network.
        state: Numbers of its state.
        blocks: Of attention and two feed-forward layers.
        heads: Of attention; they divide `embedding`.
        feed_forward: Nodes between the two feed-forward layers of a block.
        patch_size: Height and width of the squares of an image that attention sees as tokens; divides those of the
            image.
        backbone: Which: one of torchvision's for images, trained on ImageNet, or the file of a network that `kansearch
            export` wrote.
        tuned_stages: How many of the backbone's last stages learn too (torchvision's have 4, others one a layer; more
            than there are means all); the others stay as they are, and so do the statistics of all batch norms.
        enlarge: Images are made so many times as high and wide before a backbone of torchvision's sees them.
        pooling: What is passed on: of the last maps `none` passes all nodes, `average` the mean of each map; of a
            recurrent network `none` passes the last state, `average` the mean of its states.
        layer: Form of the KAN layers.
        base_function: Curve family on the edges of the KAN layers.
        n_basis: K, the functions that a dictionary layer mixes for each input and a kaf layer for each node, or the
            scales between which a scaled layer interpolates.
        base_branch: The fixed curve beside the dictionary.
        grid_range: The K functions are spread over [-grid_range, grid_range]; inputs have unit variance.
        grid: Of dictionaries of a basis without parameters: `fixed`, or `fitted` to what each input shows, before the
            first epoch and as often as `grid_updates` says.
        initialisation: Of dictionary layers: `default` lets the base branch carry the signal and begins with curves
            of 0; `glorot` and `power` begin with random curves.
        activation: Between two ordinary layers.
        pattern: Which layers of a hybrid are KAN layers: the first, the last, every second one
            beginning with the first, all between the first and the last, those of the stem (`stem`) or
            all others (`head`).
        layer_norm: Normalise every hidden row (never the raw inputs); blocks of attention are normalised anyway.
        dropout: Share of the hidden nodes silenced while training; none within the stem.
    """

    family: Family = "kan"
    depth: Annotated[int, Field(ge=1, le=12)] = 2
    width: Annotated[int, Field(ge=1, le=4096)] = 16
    stem: Literal["none", "convolution", "embedding", "recurrent", "attention", "backbone"] = "none"
    convolutions: Annotated[int, Field(ge=1, le=6), _CONVOLUTION] = 2
    channels: Annotated[int, Field(ge=1, le=1024), _CONVOLUTION] = 8
    kernel_size: Annotated[Literal[1, 3, 5, 7], _CONVOLUTION] = 3
    stride: Annotated[Literal[1, 2], _CONVOLUTION] = 1
    pooling: Annotated[Literal["none", "average"], Only("stem", ("convolution", "recurrent"))] = "none"
    embedding: Annotated[int, Field(ge=1, le=1024), Only("stem", ("embedding", "recurrent", "attention"))] = 16
    cell: Annotated[Literal["rnn", "gru", "lstm"], _RECURRENT] = "gru"
    state: Annotated[int, Field(ge=1, le=1024), _RECURRENT] = 16
    blocks: Annotated[int, Field(ge=1, le=12), _ATTENTION] = 1
    heads: Annotated[int, Field(ge=1, le=64), _ATTENTION] = 4
    feed_forward: Annotated[int, Field(ge=1, le=4096), _ATTENTION] = 32
    patch_size: Annotated[int, Field(ge=1, le=64), _ATTENTION] = 4
    backbone: Annotated[Pretrained | Annotated[str, _NETWORK_FILE], _BACKBONE] = "resnet18"
    tuned_stages: Annotated[int, Field(ge=0, le=12), _BACKBONE] = 0
    enlarge: Annotated[int, Field(ge=1, le=16), _BACKBONE, Only("backbone", get_args(Pretrained))] = 1
    layer: Annotated[Layer, _KAN] = "dictionary"
    base_function: Annotated[BaseFunction, _KAN] = "gaussian"
    n_basis: Annotated[int, Field(ge=1, le=64), _KAN, Only("layer", ("dictionary", "scaled", "kaf"))] = 8
    base_branch: Annotated[Literal["silu", "identity", "none"], _KAN, _DICTIONARY] = "silu"
    grid_range: Annotated[float, Field(gt=0, le=100), _KAN, Only("layer", ("dictionary", "kaf"))] = 2.0
    grid: Annotated[Literal["fixed", "fitted"], _KAN, _DICTIONARY, _FIXED_BASIS] = "fixed"
    initialisation: Annotated[Literal["default", "glorot", "power"], _KAN, _DICTIONARY] = "default"
    activation: Annotated[Activation, Only("family", ("mlp", "hybrid"))] = "relu"
    pattern: Annotated[Pattern, Only("family", ("hybrid",))] = "last"
    layer_norm: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainingSpec(Spec):
    """How a network is trained.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Rows of one optimizer step; the last step of an epoch may have fewer.
        learning_rate: At its highest, in the schedule.
        schedule: Of the learning rate: `constant`; `cosine` down to 0; `warmup_cosine`, the same after
            a linear rise over the first tenth of the steps.
        activation_rate: Learning rate of the activation parameters, as a multiple of `learning_rate`.
        weight_decay: Decoupled (AdamW) or L2 (Adam), on weights only.
        l1: Weight of the summed amplitudes of the learned curves in the loss.
        entropy: Weight of the entropy of those amplitudes, layer by layer.
        backbone_rate: Learning rate of the last tuned stage of a backbone, as a multiple of `learning_rate`.
        stage_decay: Learning rate of each tuned stage, as a multiple of that of the stage behind it.
        unfreeze: When activation parameters and tuned stages of a backbone, frozen at first, begin to learn: `none`
            freezes nothing, `all_at` frees all layers at once, `gradual_forward` from the first layer on and
            `gradual_backward` from the last. Stages come after all layers, the last first.
        unfreeze_start: When the first are freed, as a share of the epochs.
        unfreeze_interval: From one layer (or stage) to the next, as a share of the epochs.
        grid_updates: How often grids are fitted again, evenly spread over the first half of the epochs; curves are kept
            as well as the new grid can.
        refinements: How often grids become finer, after equal parts of the epochs: `n_basis` is what they end with, and
            about half of it what stood before each time. Curves are kept as well as the finer grid can.
        polish: Share of the epochs, the last ones, that take one step of a polisher on all training rows instead of the
            optimizer's on batches; without dropout, decay, shift and flip. A step looks at all rows once or some times.
        polisher: What these steps are: of L-BFGS; or of `levenberg_marquardt`, which brings the errors of smooth
            functions down fastest. It serves regressions without l1 and entropy, and networks of up to 1,500 parameters
            (as many as their padded rows have); others take L-BFGS.
        patience: Stop after so many epochs without a better validation loss; 0 never does.
        shift: Of images: move each, every time it is seen, by up to so many pixels in both directions; what comes in
            repeats the edge.
        flip: Of images: mirror each, left to right, every second time it is seen.
        dtype: Of all numbers of the network.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 27
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.005
    schedule: Literal["constant", "cosine", "warmup_cosine"] = "cosine"
    activation_rate: Annotated[float, Field(gt=0, le=100), _KAN] = 1.0
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    l1: Annotated[float, Field(ge=0, le=10), _KAN] = 0.0
    entropy: Annotated[float, Field(ge=0, le=10), _KAN] = 0.0
    backbone_rate: Annotated[float, Field(gt=0, le=100), _TUNED] = 0.1
    stage_decay: Annotated[float, Field(gt=0, le=1), _TUNED] = 1.0
    unfreeze: Annotated[Unfreeze, _THAWS] = "none"
    unfreeze_start: Annotated[
        float, Field(ge=0, le=1), _THAWS, Only("unfreeze", ("all_at", "gradual_forward", "gradual_backward"))
    ] = 0.2
    unfreeze_interval: Annotated[
        float, Field(ge=0, le=1), _THAWS, Only("unfreeze", ("gradual_forward", "gradual_backward"))
    ] = 0.1
    grid_updates: Annotated[int, Field(ge=0, le=50), _KAN, _DICTIONARY, Only("grid", ("fitted",))] = 5
    refinements: Annotated[int, Field(ge=0, le=5), _KAN, _DICTIONARY, _FIXED_BASIS] = 0
    polish: Annotated[float, Field(ge=0, le=1)] = 0.0
    polisher: Annotated[Literal["lbfgs", "levenberg_marquardt"], Only("polish", above=0)] = "lbfgs"
    patience: Annotated[int, Field(ge=0, le=100_000)] = 0
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    dtype: Literal["float32", "float64"] = "float32"

    @property
    def n_in_batches(self) -> int:
        """Epochs that are passes in batches; those behind them are steps of a polisher."""
        return self.epochs - round(self.polish * self.epochs)


class TrialSpec(Spec):
    """Everything that decides the result of a trial, but for the data.

    Attributes:
        rungs: Epochs at which the trial is judged, rising; the last is `training.epochs`.
        seed: Of initialisation, batch order and dropout.
    """

    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()
    rungs: tuple[int, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class End(StrEnum):
    """Why a trial's training is over."""

    COMPLETED = "completed"
    STOPPED_EARLY = "stopped early"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"


class EpochPoint(Spec):
    """One point of a learning curve; losses that are no finite number end the curve."""

    epoch: int
    train_loss: float
    validation_loss: float


class Curve(Spec):
    """A learned activation: the curve of one edge (or node) of a trained network.

    Attributes:
        layer: Of the network, from 0.
        source: Index of the input node; None where the curve belongs to the target alone (node form).
        target: Index of the output node.
        amplitude: Root mean square of the curve over the training data.
        x: Sample points, from the 1st to the 99th percentile of what the edge saw.
        y: The curve at these points.
    """

    layer: int
    source: int | None
    target: int
    amplitude: float
    x: tuple[float, ...]
    y: tuple[float, ...]


class RungResult(Spec):
    """What a trial of a pack measured when it reached a rung.

    Attributes:
        slot: Which trial of the pack.
        rung: Index of the rung, from 0.
        epoch: Epochs trained so far.
        metrics: Metric name to value, those of the validation split among them.
        points: The learning curve since the last rung.
        end: Why this is the trial's last result; None while it can go on.
        reason: Of a divergence, for people.
        curves: The strongest learned activations; only with the last result of a KAN or hybrid.
    """

    slot: int
    rung: int
    epoch: int
    metrics: dict[str, float]
    points: tuple[EpochPoint, ...]
    end: End | None = None
    reason: str | None = None
    curves: tuple[Curve, ...] = ()


class TrialRecord(Spec):
    """A trial as read back from the storage.

    Attributes:
        state: Optuna's state, in small letters: running, waiting, complete, pruned or fail.
        family: Of its network.
        params: Suggested hyperparameters by name.
        values: Objective values by name; only of complete trials.
        metrics: All that the last rung measured, by name.
        points: The learning curve up to the last rung.
        epochs: Of its training up to the last rung.
        resumed_at: The epoch at which it took over from a trial that lost its worker; 0 where it began itself.
        handed_back: It failed with its worker, and another trial took its place.
        seconds: From its start to its end; None while it has not ended.
        feasible: It meets every constraint of the study.
        reason: Why it ended before its last epoch.
        end: Why its training was over by itself; None where it was not.
    """

    number: int
    state: Literal["running", "waiting", "complete", "pruned", "fail"]
    family: Family | None
    params: dict[str, Any]
    values: dict[str, float]
    metrics: dict[str, float]
    points: tuple[EpochPoint, ...]
    epochs: int
    seconds: float | None
    feasible: bool
    reason: str | None
    seed: int | None
    worker: str | None
    end: End | None = None
    curves: tuple[Curve, ...] = ()
    resumed_at: int = 0
    handed_back: bool = False

    @property
    def epochs_spent(self) -> int:
        """Epochs that were trained here, and not by the trial whose place it took."""
        return self.epochs - self.resumed_at
