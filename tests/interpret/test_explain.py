"""What trained networks have learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kansearch.data.splits import Split, load_split
from kansearch.errors import UserError
from kansearch.interpret.explain import explain, train_again
from kansearch.interpret.importance import flows, ranked
from kansearch.models.build import build
from kansearch.models.convolution import CurveConvolution
from kansearch.models.layer import CurveLayer
from kansearch.models.pretrained import weights
from kansearch.models.shapes import Maps, Window
from kansearch.specs.data import DataSpec, ImageShape, TextShape
from kansearch.specs.explanation import Explanation
from kansearch.specs.trial import End, ModelSpec, RungResult, TrainingSpec, TrialRecord, TrialSpec
from kansearch.training.loop import train
from tests.backbones import write_weights
from tests.models.zoo import CONVOLUTIONAL_SPECS, FORMS, SPECS, TOKEN_SPECS, make_layer, normal, stir
from tests.shapes import checked_shapes
from tests.texts import write_reviews

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def sine() -> Split:
    return load_split(DataSpec(name="multi_sine", n_train=200, n_validation=64, n_test=8))


def curves_of(layer: CurveLayer, x: Tensor) -> Tensor:
    """(B, T, S): every curve, one by one."""
    seen = layer.curve_inputs(x)
    shape = layer.curve_moments(x)[0].shape
    return torch.stack(
        [
            torch.stack([layer.curve(seen[:, layer.curve_column(s, t)], s, t) for s in range(shape[1])], -1)
            for t in range(shape[0])
        ],
        1,
    )


def layers_of(form: str, name: str) -> list[CurveLayer]:
    window = CurveConvolution([make_layer(form, name, 4, 2), make_layer(form, name, 4, 1)], Maps(2, 3, 3), Window(2))
    return [make_layer(form, name), window]


@checked_shapes()
@pytest.mark.parametrize(("form", "name"), FORMS)
def test_moments_are_those_of_the_curves(form: str, name: str) -> None:
    """Mean and standard deviation of each, of layers and of convolutions in two groups."""
    for layer in layers_of(form, name):
        stir(layer)
        x = normal(7, layer.n_inputs)
        curves = curves_of(layer, x)
        means, deviations = layer.curve_moments(x)
        assert torch.allclose(means, curves.mean(0))
        assert torch.allclose(deviations, curves.std(0, correction=0), atol=1e-7)


@checked_shapes()
@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_dropped_curve_is_its_mean(form: str, name: str) -> None:
    """The output loses what the curve did beyond its mean, and nothing else."""
    for layer in layers_of(form, name):
        stir(layer)
        x = normal(7, layer.n_inputs)
        curves, before = curves_of(layer, x), layer(x)
        means, _ = layer.curve_moments(x)
        chosen = torch.zeros_like(means, dtype=torch.bool)
        chosen[-1, -1] = True
        lost = (curves - means)[:, -1, -1]
        layer.drop(chosen, means)
        n_places = before.shape[1] // means.shape[0]
        change = (before - layer(x)).view(7, means.shape[0], n_places)
        assert torch.allclose(change[:, -1], lost.view(7, n_places))
        assert torch.allclose(change[:, :-1], torch.zeros(()).double())


@checked_shapes()
@pytest.mark.parametrize("spec", [*SPECS[::7], *CONVOLUTIONAL_SPECS], ids=str)
def test_importances_add_up(spec: ModelSpec) -> None:
    """Those of each layer's edges, and those of the inputs, to 1; and every curve has a rank."""
    inputs: Any = ImageShape(2, 7, 6) if spec.stem == "convolution" else 3
    network = build(spec, inputs, 2, torch.Generator().manual_seed(0), torch.float64).eval()
    stir(network)
    found, of_inputs = flows(network, normal(20, 84 if spec.stem == "convolution" else 3))
    for flow in found:
        assert flow.importance.sum() == pytest.approx(1)
    assert (of_inputs is None) == (spec.stem == "convolution")
    if of_inputs is not None:
        assert of_inputs.sum() == pytest.approx(1)
    n_curves = sum(flow.deviations.numel() for flow in found)
    assert len(set(ranked(found))) == n_curves
    assert (n_curves == 0) == (spec.family == "mlp")


@checked_shapes()
@pytest.mark.parametrize("spec", TOKEN_SPECS, ids=str)
def test_importances_of_networks_of_tokens(spec: ModelSpec) -> None:
    """Part of it goes past the layers of a block; all of it comes from the inputs."""
    given: list[tuple[Any, torch.Tensor]] = [(TextShape(5, 9), torch.arange(30).reshape(6, 5).double() % 9)]
    given += [(4, normal(20, 4)), (ImageShape(1, 4, 4), normal(20, 16))] if spec.stem == "attention" else []
    for inputs, x in given:
        network = build(spec, inputs, 2, torch.Generator().manual_seed(0), torch.float64).eval()
        stir(network)
        found, of_inputs = flows(network, x)
        of_layers = [float(flow.importance.sum()) for flow in found]
        assert all(0 < of_layer <= 1 + 1e-9 for of_layer in of_layers)
        assert of_layers[0] == pytest.approx(1)
        assert of_layers[-1] == pytest.approx(1)
        assert (of_inputs is None) == (inputs != 4)
        if of_inputs is not None:
            assert of_inputs.sum() == pytest.approx(1)
        n_curves = sum(flow.deviations.numel() for flow in found)
        assert len(set(ranked(found))) == n_curves
        assert (n_curves == 0) == (spec.family == "mlp")


def test_an_input_that_does_nothing_has_no_importance() -> None:
    """And one that does all has all."""
    network = build(ModelSpec(depth=1), 3, 1, torch.Generator().manual_seed(0), torch.float64)
    stir(network)
    layer = network.layers[0]
    with torch.no_grad():
        layer.W[:, [0, 2]] = 0
        layer.V[:, [0, 2]] = 0
    _, of_inputs = flows(network, normal(20, 3))
    assert torch.allclose(of_inputs, torch.tensor([0.0, 1.0, 0.0]).double())


def explained(model: dict[str, Any], split: Split, **training: Any) -> tuple[Explanation, RungResult]:
    spec = TrialSpec(model=ModelSpec(**model), training=TrainingSpec(epochs=8, **training), rungs=(2, 8), seed=5)
    *_, last = train([spec], split)
    record = TrialRecord(
        number=3, state="complete", family=spec.model.family, params={}, values={}, metrics=last.metrics, points=(),
        epochs=last.epoch, seconds=1.0, feasible=True, reason=None, seed=5, worker=None,
    )  # fmt: skip
    network, again = train_again(spec, split, last.epoch)
    what = explain(
        network, split, record, study="s", architecture="a", quality_name="rmse", measured=again.metrics, n_edges=5
    )
    return what, last


@pytest.mark.parametrize(
    "model",
    [
        {"family": "kan", "width": 3},
        {"family": "kan", "width": 3, "layer": "node", "base_function": "sin"},
        {"family": "hybrid", "width": 4, "layer": "edge", "base_function": "tanh"},
    ],
    ids=str,
)
def test_training_again_gives_the_network_that_was(model: dict[str, Any], sine: Split) -> None:
    """Its metrics are the recorded ones, and all of its curves together are the network itself."""
    what, last = explained(model, sine, dtype="float64")
    assert what.is_the_same
    assert what.sparser[0].metrics["rmse"] == pytest.approx(last.metrics["rmse"], rel=1e-9)
    assert [step.n_curves for step in what.sparser] == sorted({s.n_curves for s in what.sparser}, reverse=True)
    assert sum(what.inputs.values()) == pytest.approx(1)
    importances = [edge.importance for edge in what.edges]
    assert importances == sorted(importances, reverse=True)
    assert all(len(edge.x) == len(edge.y) == len(edge.density) for edge in what.edges)
    assert all(max(edge.density) == 1 for edge in what.edges)


def test_a_trial_that_stopped_early_is_explained_at_its_best(sine: Split) -> None:
    """The weights are those that were judged, not the last ones; and a pruned one's are those of its last rung."""
    what, last = explained({"family": "kan", "width": 3}, sine, patience=1, learning_rate=2.0)
    assert last.end is End.STOPPED_EARLY
    assert what.is_the_same
    spec = TrialSpec(model=ModelSpec(width=3), training=TrainingSpec(epochs=8), rungs=(2, 8), seed=5)
    at_rung = next(train([spec], sine))
    _, again = train_again(spec, sine, 2)
    assert at_rung.epoch == 2
    assert again.metrics["rmse"] == at_rung.metrics["rmse"]


def test_networks_of_images_and_texts_are_explained_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their inputs have no importance of their own, for windows, sums and backbones see many of them."""
    write_weights(tmp_path, "resnet18")
    monkeypatch.setenv("KANSEARCH_DATA", str(tmp_path))
    weights.cache_clear()
    table = write_reviews(tmp_path)
    texts = load_split(DataSpec(path=table, text="review", target="mood", task="classification"))
    images = load_split(DataSpec(name="digits_images")).head(24)
    for split, model in (
        (texts, {"stem": "embedding", "width": 3}),
        (images, {"stem": "convolution", "channels": 2, "depth": 1}),
        (texts, {"stem": "recurrent", "state": 3, "depth": 1, "layer": "node"}),
        (texts, {"stem": "attention", "embedding": 4, "feed_forward": 3, "depth": 1}),
        (images, {"stem": "attention", "embedding": 4, "feed_forward": 3, "depth": 1}),
        (images, {"stem": "backbone", "backbone": "resnet18", "depth": 1}),
    ):
        what, _ = explained({"family": "kan", **model}, split)
        assert what.is_the_same
        assert what.inputs is None
        assert model["stem"] in what.layers[0].kind or "tokens" in what.layers[0].kind
        assert sum(layer.n_curves for layer in what.layers) == what.sparser[0].n_curves


def test_a_network_that_learned_a_constant_is_refused(sine: Split) -> None:
    """Rather than shown by its rounding errors."""
    flat = dataclasses.replace(
        sine, train_x=torch.zeros_like(sine.train_x), validation_x=torch.zeros_like(sine.validation_x)
    )
    with pytest.raises(UserError, match="trial 3 has learned a constant"):
        explained({"family": "kan", "width": 3}, flat)


def test_a_lost_metric_is_no_sign_of_the_same_network(sine: Split) -> None:
    what, _ = explained({"family": "kan", "width": 3}, sine)
    assert what.is_the_same
    assert not what.model_copy(update={"measured": {}}).is_the_same


def test_a_plain_network_has_nothing_to_explain(sine: Split) -> None:
    with pytest.raises(UserError, match="trial 3 is a plain network: it has no learned curves to explain"):
        explained({"family": "mlp"}, sine)
