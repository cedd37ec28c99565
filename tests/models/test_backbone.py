"""Backbones: networks that were trained on other data."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kansearch.errors import DataError, UserError
from kansearch.models.build import build, saved_network, why_unbuildable
from kansearch.models.cost import cost, cost_of_learning
from kansearch.models.network import Network
from kansearch.models.pretrained import NAMES, sizes, weights
from kansearch.models.saved import SavedNetwork, save_network
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import ModelSpec
from kansearch.vision import import_torchvision
from tests.backbones import write_weights

from .zoo import stir

IMAGES = ImageShape(3, 40, 40)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weights of the test's own."""
    monkeypatch.setenv("KANSEARCH_DATA", str(tmp_path))
    weights.cache_clear()
    yield tmp_path
    weights.cache_clear()


def backbone(**fields: Any) -> ModelSpec:
    return ModelSpec(**{"family": "mlp", "stem": "backbone", "backbone": "mobilenet_v3_small", "depth": 1, **fields})


def features_of(name: str, folder: Path, x: Tensor) -> Tensor:
    """What the network itself hands to its classifier."""
    network = getattr(import_torchvision().models, name)(weights=None)
    network.load_state_dict(torch.load(folder / "backbones" / f"{name}.pth", weights_only=True))
    for classifier in ("fc", "classifier"):
        if hasattr(network, classifier):
            setattr(network, classifier, nn.Flatten())
    features: Tensor = network.eval()(x)
    return features


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_the_network_itself(name: str, cache: Path) -> None:
    """However many of its stages learn, and however often it was trained or judged before."""
    write_weights(cache, name)
    x = torch.randn(3, *IMAGES)
    features = features_of(name, cache, x).flatten(1)
    for n_tuned in (0, 2, 4):
        network = build(backbone(backbone=name, tuned_stages=n_tuned), IMAGES, 2, torch.Generator())
        expected = nn.functional.layer_norm(features, (network.layers[0].n_outputs,))
        for mode in (True, False):
            network.train(mode)
            (_, seen) = network.rows(x.flatten(1))
            torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-4)


def test_stages_that_learn_have_parameters_and_others_have_none(cache: Path) -> None:
    """The fewer learn, the fewer numbers a row of a pack has; cost counts them all."""
    write_weights(cache, "resnet18")
    counts = []
    for n_tuned in (0, 1, 4, 12):
        spec = backbone(backbone="resnet18", tuned_stages=n_tuned)
        network = build(spec, IMAGES, 2)
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
        assert cost(spec, IMAGES, 2).parameters == 11_176_512 + 512 * 2 + 2
        assert len(network.stage_groups()) == min(n_tuned, 4)
    assert counts == [512 * 2 + 2, 8_393_728 + 512 * 2 + 2, 11_176_512 + 512 * 2 + 2, 11_176_512 + 512 * 2 + 2]
    assert cost_of_learning(backbone(backbone="resnet18"), IMAGES, 2).parameters == 512 * 2 + 2


def test_flops_are_those_of_convolutions() -> None:
    """ResNet-18 of 224 x 224 pixels: 1.81 billion multiplications and as many additions, as torchvision says."""
    found = sizes("resnet18", 224, 224)
    given = import_torchvision().models.ResNet18_Weights.DEFAULT.meta["_ops"]
    assert found.cost.flops / 2e9 == pytest.approx(given, rel=0.002)


def test_images_are_enlarged_and_grey_ones_have_three_channels(cache: Path) -> None:
    """As bilinear interpolation and repetition have it."""
    write_weights(cache, "mobilenet_v3_small")
    network = build(backbone(enlarge=3), ImageShape(1, 12, 12), 2)
    x = torch.randn(2, 1, 12, 12)
    large = nn.functional.interpolate(x, size=(36, 36), mode="bilinear").repeat(1, 3, 1, 1)
    (_, seen) = network.rows(x.flatten(1))
    expected = features_of("mobilenet_v3_small", cache, large).flatten(1)
    torch.testing.assert_close(seen, nn.functional.layer_norm(expected, expected.shape[1:]), rtol=1e-3, atol=1e-4)


def test_images_too_small_for_a_network_are_refused() -> None:
    """Where nothing would be left of them; the message says what is enough."""
    small = ImageShape(1, 8, 9)
    assert why_unbuildable(backbone(backbone="convnext_tiny", enlarge=4), small) is None
    assert why_unbuildable(backbone(backbone="convnext_tiny", enlarge=3), small) == (
        "backbone convnext_tiny needs images of 32 x 32 or more, and these are 8 x 9, enlarged 3 times; allowed: "
        "enlarge 4 or more"
    )
    for name in NAMES:
        if name != "convnext_tiny":
            assert cost(backbone(backbone=name), ImageShape(1, 4, 4), 2).flops > 0


# --- weights that are no weights -------------------------------------------------------------------


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_a_file_of_weights_runs_nothing(cache: Path) -> None:
    """A pickle bomb is refused, and does not run."""
    (cache / "backbones").mkdir()
    file = cache / "backbones" / "resnet18.pth"
    for bomb in (pickle.dumps(Bomb(cache / "ran")), None):
        if bomb is None:
            torch.save({"conv1.weight": Bomb(cache / "ran")}, file)
        else:
            file.write_bytes(bomb)
        with pytest.raises(DataError, match="no file of weights, or a broken one"):
            build(backbone(backbone="resnet18"), IMAGES, 2)
    assert not (cache / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no file of weights, or a broken one"),
        ("half", "no file of weights, or a broken one"),
        ([1, 2], "holds no weights by name"),
        (
            {"conv1.weight": torch.zeros(64, 3, 5, 5)},
            "does not hold the weights of a resnet18: size mismatch for conv1",
        ),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "does not hold the weights of a resnet18: bn1.weight is missing"),
    ],
)
def test_broken_weights_are_refused(content: Any, message: str, cache: Path) -> None:
    """Truncated, of another network, or none at all: the message names the file."""
    write_weights(cache, "resnet18")
    file = cache / "backbones" / "resnet18.pth"
    if content == "half":
        content = file.read_bytes()[:20_000_000]
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(DataError, match=message) as refused:
        build(backbone(backbone="resnet18"), IMAGES, 2)
    assert str(file) in str(refused.value)


def test_weights_that_are_nowhere_are_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Where nothing can be downloaded the message says which file is expected where, and none is left behind."""

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(DataError, match=r"resnet18 are not in .*backbones .*resnet18-f37072fd\.pth there, or"):
        build(backbone(backbone="resnet18"), IMAGES, 2)
    assert not list((cache / "backbones").iterdir())


def test_torchvisions_own_file_serves(cache: Path) -> None:
    """Under the name that torchvision gives it."""
    write_weights(cache, "mobilenet_v3_small")
    own = cache / "backbones" / "mobilenet_v3_small.pth"
    own.rename(own.with_name("mobilenet_v3_small-047dcff4.pth"))
    build(backbone(), IMAGES, 2)


def test_files_without_counters_of_batches_serve(cache: Path) -> None:
    """The oldest ones of torchvision have none."""
    write_weights(cache, "resnet18")
    file = cache / "backbones" / "resnet18.pth"
    state = torch.load(file, weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, file)
    network = build(backbone(backbone="resnet18", tuned_stages=1), IMAGES, 2)
    assert network(torch.randn(2, 3 * 40 * 40)).isfinite().all()
    assert not any(tensor.is_meta for tensor in network.state_dict().values())


# --- networks of kansearch -------------------------------------------------------------------------

PRETRAINED: list[tuple[ModelSpec, Inputs]] = [
    (ModelSpec(family="mlp", depth=3, width=5, layer_norm=True, activation="tanh"), 4),
    (ModelSpec(family="kan", depth=2, width=5, layer="edge", base_function="tanh"), 4),
    (ModelSpec(family="kan", stem="convolution", channels=3, pooling="average", width=6), ImageShape(2, 6, 6)),
    (ModelSpec(family="mlp", stem="convolution", channels=3, width=6, layer_norm=True), ImageShape(2, 6, 6)),
    (ModelSpec(family="hybrid", stem="attention", embedding=8, heads=2, blocks=2, width=6), 5),
    (
        ModelSpec(family="kan", stem="attention", embedding=8, heads=2, width=6, depth=1, layer_norm=True),
        TextShape(7, 30),
    ),
    (ModelSpec(family="kan", stem="recurrent", embedding=4, state=6, width=6), TextShape(7, 30)),
    (ModelSpec(family="mlp", stem="embedding", embedding=8, width=6), TextShape(7, 30)),
]
IDS = [f"{spec.family}-{spec.stem}" for spec, _ in PRETRAINED]


def rows_of(inputs: Inputs, n: int = 5) -> Tensor:
    if isinstance(inputs, TextShape):
        return torch.randint(0, inputs.vocabulary, (n, inputs.length)).float()
    return torch.randn(n, inputs if isinstance(inputs, int) else inputs.channels * inputs.height * inputs.width)


def saved(path: Path, spec: ModelSpec, inputs: Inputs, n_outputs: int = 3) -> Network:
    """A network, stirred and written into a file."""
    network = build(spec, inputs, n_outputs)
    stir(network)
    about = SavedNetwork(
        model=spec,
        images=inputs if isinstance(inputs, ImageShape) else None,
        texts=inputs if isinstance(inputs, TextShape) else None,
        n_inputs=rows_of(inputs).shape[1],
        n_outputs=n_outputs,
        task="classification",
        feature_names=(),
        class_names=("a", "b", "c"),
        target_mean=0.0,
        target_scale=1.0,
        encoder={},
        study="s",
        trial=0,
        metrics={},
    )
    save_network(path, network, about)
    return network


@pytest.mark.parametrize(("spec", "inputs"), PRETRAINED, ids=IDS)
def test_a_saved_network_is_what_it_was(spec: ModelSpec, inputs: Inputs, tmp_path: Path) -> None:
    """To the bit."""
    path = tmp_path / "network.safetensors"
    network = saved(path, spec, inputs)
    again, about = saved_network(str(path))
    x = rows_of(inputs)
    assert torch.equal(again(x), network(x))
    assert (about.model, about.inputs) == (spec, inputs)


@pytest.mark.parametrize(("spec", "inputs"), PRETRAINED, ids=IDS)
@pytest.mark.parametrize("n_tuned", [0, 1, 12])
def test_a_saved_network_gives_what_its_last_layer_saw(
    spec: ModelSpec, inputs: Inputs, n_tuned: int, tmp_path: Path
) -> None:
    """All layers but the last, with norms, activations, skips and means of maps."""
    path = tmp_path / "network.safetensors"
    network = saved(path, spec, inputs).eval()
    with_head = build(backbone(backbone=str(path), tuned_stages=n_tuned), inputs, 2)
    x = rows_of(inputs)
    last = network.rows(x)[-1]
    torch.testing.assert_close(with_head.rows(x)[-1], nn.functional.layer_norm(last, last.shape[1:]))
    whole = cost(spec, inputs, 3).parameters
    behind = sum(parameter.numel() for parameter in network.layers[-1].parameters())
    head = sum(parameter.numel() for parameter in with_head.layers[-1].parameters())
    assert cost(backbone(backbone=str(path)), inputs, 2).parameters == whole - behind + head


def test_weights_of_a_backbone_decay_as_its_layers_have_it(tmp_path: Path) -> None:
    """Scales and shifts of curves do not, in a stage as in a network of its own."""
    path = tmp_path / "network.safetensors"
    saved(path, ModelSpec(family="kan", layer="edge", base_function="tanh", depth=2, width=5), 4)
    network = build(backbone(backbone=str(path), tuned_stages=1), 4, 2)
    decayed = [tuple(parameter.shape) for parameter in network.decayed_parameters()]
    assert sorted(decayed) == [(2, 5), (5, 4)]


@pytest.mark.parametrize("given", [5, ImageShape(1, 2, 2), TextShape(4, 9)])
def test_data_of_another_shape_are_refused(given: Inputs, tmp_path: Path) -> None:
    """The message names both shapes."""
    path = tmp_path / "network.safetensors"
    saved(path, ModelSpec(family="mlp"), 4)
    with pytest.raises(UserError, match="was trained on rows of 4 numbers, and these data are"):
        build(backbone(backbone=str(path)), given, 2)


def test_a_network_that_begins_with_itself_is_refused(tmp_path: Path) -> None:
    """At once or by way of another file; no endless search for its beginning."""
    one, two = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    saved(Path(one), ModelSpec(family="mlp"), 4)
    saved(Path(two), backbone(backbone=one), 4)
    content = Path(two).read_bytes()
    for path, other in ((one, two), (two, two)):
        # The header names another file; both names are as long.
        Path(path).write_bytes(content.replace(one.encode(), other.encode()))
        with pytest.raises(DataError, match="has itself as its backbone"):
            build(backbone(backbone=two), 4, 2)
        Path(two).write_bytes(content)


def test_a_network_of_one_layer_is_no_backbone(tmp_path: Path) -> None:
    """Nothing would be left of it."""
    path = tmp_path / "network.safetensors"
    saved(path, ModelSpec(family="mlp", depth=1), 4)
    with pytest.raises(UserError, match="has one layer"):
        build(backbone(backbone=str(path)), 4, 2)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (lambda path: path.write_bytes(b""), "is no whole .safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is no whole .safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"kansearch", b"somewhere")), "holds no network of"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'depth\\":2', b'depth\\":3')),
            "another network than",
        ),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'depth\\":2', b'depth\\":0')), "model.depth"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'format\\":1', b'format\\":9')),
            "cannot read: format: Input should be 1",
        ),
    ],
)
def test_broken_files_are_refused(break_it: Any, message: str, tmp_path: Path) -> None:
    """Missing, truncated, somebody else's, or not what it says: the message names the file."""
    path = tmp_path / "network.safetensors"
    saved(path, ModelSpec(family="mlp", depth=2), 4)
    break_it(path)
    with pytest.raises(DataError, match=message) as refused:
        saved_network(str(path))
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("n_tuned", [0, 1, 12])
def test_a_saved_network_that_begins_with_torchvisions_is_a_backbone_too(
    name: str, n_tuned: int, cache: Path, tmp_path: Path
) -> None:
    """Batch norms of frozen stages have buffers that its file does not hold."""
    write_weights(cache, name)
    images = ImageShape(1, 16, 16)
    first = tmp_path / "first.safetensors"
    network = saved(first, backbone(backbone=name, depth=2, width=4, tuned_stages=n_tuned), images)
    again, _ = saved_network(str(first))
    x = rows_of(images)
    assert torch.equal(again(x), network(x))
    second = build(ModelSpec(family="mlp", stem="backbone", backbone=str(first), depth=1), images, 3)
    assert second(x).shape == (5, 3)


def test_a_file_for_other_classes_serves(cache: Path) -> None:
    """Whoever trained a network further has a classifier of his own, which nobody needs here."""
    (cache / "backbones").mkdir()
    network = import_torchvision().models.mobilenet_v3_small(num_classes=7)
    torch.save(network.state_dict(), cache / "backbones" / "mobilenet_v3_small.pth")
    weights.cache_clear()
    built = build(backbone(backbone="mobilenet_v3_small"), ImageShape(3, 8, 8), 2)
    assert built(torch.zeros(1, 192)).shape == (1, 2)


def test_what_is_no_file_or_no_network_is_said(tmp_path: Path) -> None:
    """A folder; and a header that names a network that cannot be built."""
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        saved_network(str(tmp_path / "folder.safetensors"))
    path = tmp_path / "net.safetensors"
    saved(path, ModelSpec(family="mlp", depth=2, stem="attention", embedding=6, heads=3), 4)
    text = path.read_bytes().replace(b'\\"heads\\":3', b'\\"heads\\":5')
    path.write_bytes(text)
    spec = ModelSpec(family="mlp", stem="backbone", backbone=str(path), depth=1)
    assert f"the network in {path} cannot be built: heads must divide" in str(why_unbuildable(spec, 4))
