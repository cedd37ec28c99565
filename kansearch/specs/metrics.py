"""What can be measured of a trial: the names that objectives and constraints may use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    """What a network is asked to predict."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Direction(StrEnum):
    """Which way an objective gets better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True)
class Metric:
    """One measurable quantity of a trial.

    Attributes:
        name: As written in study files and reports.
        direction: Which way it gets better.
        tasks: The tasks for which it exists.
        label: For people, with its unit.
        is_cost: A cost of the network, not a quality on the validation split.
        is_share: From 0 to 1, and 1 is perfect.
        known_before_training: It follows from the architecture alone, by a closed formula.
        repeatable: The same trial always measures the same value; times are not so.
    """

    name: str
    direction: Direction
    label: str
    tasks: tuple[Task, ...] = (Task.CLASSIFICATION, Task.REGRESSION)
    is_cost: bool = False
    is_share: bool = False
    known_before_training: bool = False
    repeatable: bool = True


def _share(name: str, label: str) -> Metric:
    return Metric(name, Direction.MAXIMIZE, label, (Task.CLASSIFICATION,), is_share=True)


METRICS = {
    metric.name: metric
    for metric in (
        _share("accuracy", "accuracy"),
        Metric("cross_entropy", Direction.MINIMIZE, "cross entropy (nats)", (Task.CLASSIFICATION,)),
        _share("balanced_accuracy", "balanced accuracy"),
        _share("f1", "macro F1"),
        _share("roc_auc", "area under the ROC curve"),
        _share("average_precision", "average precision"),
        Metric("rmse", Direction.MINIMIZE, "root mean squared error", (Task.REGRESSION,)),
        Metric("mae", Direction.MINIMIZE, "mean absolute error", (Task.REGRESSION,)),
        Metric("r2", Direction.MAXIMIZE, "coefficient of determination", (Task.REGRESSION,)),
        Metric("parameters", Direction.MINIMIZE, "trainable parameters", is_cost=True, known_before_training=True),
        Metric("flops", Direction.MINIMIZE, "FLOPs for one input", is_cost=True, known_before_training=True),
        Metric("latency_ms", Direction.MINIMIZE, "latency of one input (ms)", is_cost=True, repeatable=False),
        Metric("train_seconds", Direction.MINIMIZE, "training time (s)", is_cost=True, repeatable=False),
    )
}

DEFAULT_QUALITY = {Task.CLASSIFICATION: "accuracy", Task.REGRESSION: "rmse"}
