"""What a trained network has learned, for people: inputs, edges, formulas, and how many edges it needs."""

from __future__ import annotations

from kansearch.specs.base import Spec


class Formula(Spec):
    """A known function that follows a learned curve: y = c f(a x + b) + d.

    Attributes:
        name: Of f, written with x: "sin(x)".
        text: The whole formula, numbers rounded to three digits.
        r2: Share of the curve's variance, over the data that the edge saw, that it explains.
    """

    name: str
    text: str
    a: float
    b: float
    c: float
    d: float
    r2: float


class LearnedEdge(Spec):
    """One curve of a trained network.

    Attributes:
        layer: Of the network, from 0.
        source: Index of the input node; None where the curve belongs to the target alone (node form).
        target: Index of the output node.
        deviation: Standard deviation of the curve's values over the training rows.
        importance: Share of the network's output, going back through its layers, that goes through this curve.
        x: Sample points, from the 1st to the 99th percentile of what the curve saw.
        y: The curve at these points.
        density: How much of what the curve saw lies around each point; the largest is 1.
        formula: The simplest known function that follows it closely.
        others: The next best ones, best first.
    """

    layer: int
    source: int | None
    target: int
    deviation: float
    importance: float
    x: tuple[float, ...]
    y: tuple[float, ...]
    density: tuple[float, ...]
    formula: Formula | None
    others: tuple[Formula, ...] = ()


class LearnedLayer(Spec):
    """A layer of a trained network.

    Attributes:
        index: From 0.
        kind: For people: "KAN, 64 to 12".
        n_curves: Learned curves; 0 of an ordinary layer.
        n_silent: Curves whose values vary less than a thousandth of the strongest curve's of the layer.
    """

    index: int
    kind: str
    n_curves: int
    n_silent: int


class Sparser(Spec):
    """The network when only its most important curves are left; each other one is replaced by its mean.

    Attributes:
        n_curves: So many are left.
        metrics: Measured again on the validation rows, without training.
    """

    n_curves: int
    metrics: dict[str, float]


class Explanation(Spec):
    """What a trial's network has learned.

    Attributes:
        study: Name of the study.
        trial: Number of the trial.
        family: Of its network.
        architecture: For people.
        quality: Name of the study's quality.
        recorded: Metrics that the trial recorded.
        measured: The same of the network that was trained again from the trial's seed.
        inputs: Importance of each input by name, largest first; they add up to 1. None where windows of a
            convolution look at many places.
        layers: First to last.
        edges: The most important curves, most important first.
        sparser: From all curves to few.
    """

    study: str
    trial: int
    family: str
    architecture: str
    quality: str
    recorded: dict[str, float]
    measured: dict[str, float]
    inputs: dict[str, float] | None
    layers: tuple[LearnedLayer, ...]
    edges: tuple[LearnedEdge, ...]
    sparser: tuple[Sparser, ...]

    @property
    def qualities(self) -> tuple[str, ...]:
        """Names of what the sparser networks were judged by, the study's quality first."""
        return tuple(sorted(self.sparser[0].metrics, key=lambda name: name != self.quality))

    @property
    def is_the_same(self) -> bool:
        """Whether training again gave the recorded network, as far as its metrics tell."""
        return all(
            name in self.measured and abs(value - self.measured[name]) <= 1e-6 * max(1.0, abs(value))
            for name, value in self.recorded.items()
            if name not in ("latency_ms", "train_seconds")
        )
