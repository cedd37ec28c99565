"""Training behind a backbone: what is frozen, what learns when, and how fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.models.backbone import Backbone
from kansearch.models.build import build
from kansearch.models.network import Network
from kansearch.models.pretrained import weights
from kansearch.models.saved import SavedNetwork, save_network
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training import features
from kansearch.training.pack import Pack
from tests.backbones import write_weights

from .running import assert_company_changes_nothing, curve, results_of

EPOCHS = 5


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_split(DataSpec(name="digits_images"))


@pytest.fixture(scope="module")
def images(digits: Split) -> Split:
    """Rows for a batch of 8 and a part of one."""
    return digits.head(12)


@pytest.fixture(scope="module")
def iris() -> Split:
    return load_split(DataSpec(name="iris"))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Weights of the tests' own."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder, "mobilenet_v3_small")
    weights.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KANSEARCH_DATA", str(folder))
        yield
    weights.cache_clear()


@pytest.fixture
def of_iris(tmp_path: Path, iris: Split) -> str:
    """A network for the columns of iris, in a file."""
    spec = ModelSpec(family="kan", depth=4, width=6)
    about = SavedNetwork(
        model=spec, n_inputs=4, n_outputs=3, task="classification", feature_names=iris.feature_names,
        class_names=iris.class_names, target_mean=0.0, target_scale=1.0, encoder={}, study="s", trial=0, metrics={},
    )  # fmt: skip
    save_network(tmp_path / "iris.safetensors", build(spec, 4, 3, torch.Generator().manual_seed(1)), about)
    return str(tmp_path / "iris.safetensors")


def trial(seed: int, model: dict[str, Any], **training: Any) -> TrialSpec:
    given = {"family": "mlp", "stem": "backbone", "backbone": "mobilenet_v3_small", "depth": 1, "width": 5, **model}
    spec = TrainingSpec(**{"epochs": EPOCHS, "batch_size": 8, **training})
    return TrialSpec(model=ModelSpec(**given), training=spec, rungs=(2, EPOCHS), seed=seed)


GRADUAL = {"unfreeze": "gradual_backward", "unfreeze_start": 0.2, "unfreeze_interval": 0.2}
MIXED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"depth": 2, "dropout": 0.2}, {"learning_rate": 0.01}),
    ({"family": "kan", "depth": 2, "layer_norm": True}, {"l1": 0.001}),
    ({"tuned_stages": 2}, GRADUAL),
    ({"tuned_stages": 2, "family": "hybrid", "depth": 2}, {**GRADUAL, "learning_rate": 0.01, "weight_decay": 0.1}),
    ({"tuned_stages": 2, "family": "kan"}, {**GRADUAL, "unfreeze": "gradual_forward"}),
    ({"tuned_stages": 12}, {"stage_decay": 0.5, "shift": 1}),
    ({"family": "kan"}, {"polish": 0.4}),
]


PRECISIONS = ("float32", "float64")


def test_a_trial_behind_a_backbone_has_the_curve_that_it_has_alone(images: Split) -> None:
    """To the last bit, while stages are freed beside it; in both precisions by turns."""
    specs = [trial(seed, model, **training, dtype=PRECISIONS[seed % 2]) for seed, (model, training) in enumerate(MIXED)]
    assert_company_changes_nothing(specs, images, EPOCHS)


def test_a_trial_behind_a_network_of_ours_has_the_curve_that_it_has_alone(iris: Split, of_iris: str) -> None:
    """To the last bit; the file's base functions are its own, whatever those of the heads are."""
    models: list[dict[str, Any]] = [
        {"family": "kan", "base_function": name, "tuned_stages": n} for name in ("sin", "gaussian") for n in (0, 1, 3)
    ]
    specs = [
        trial(n, {**model, "backbone": of_iris}, **GRADUAL, dtype=dtype, batch_size=16)
        for n, model in enumerate(models)
        for dtype in PRECISIONS
    ]
    assert_company_changes_nothing(specs, iris.head(60), EPOCHS)


def test_a_trial_goes_on_from_its_checkpoint(images: Split) -> None:
    """Wherever in the schedule it was stopped: what Adam remembers of each stage is kept."""
    spec = trial(3, {"tuned_stages": 3}, **GRADUAL).model_copy(update={"rungs": (1, 2, 3, 4, EPOCHS)})
    pack = Pack(images)
    slot = pack.admit(spec)
    pack.advance()
    for epoch in range(2, EPOCHS + 1):
        other = Pack(images)
        other.admit(spec, pack.checkpoint(slot))
        assert curve(other.advance()) == curve(pack.advance()), epoch


def trained(split: Split, spec: TrialSpec, epoch: int) -> Network:
    pack = Pack(split)
    slot = pack.admit(spec.model_copy(update={"rungs": (epoch, EPOCHS)} if epoch < EPOCHS else {"rungs": (EPOCHS,)}))
    pack.advance()
    return pack.network(slot)


@torch.no_grad()
def moved(before: Network, after: Network) -> list[float]:
    """How far each stage, and the head, went."""
    groups = [[*network.stage_groups(), list(network.layers[-1].parameters())] for network in (before, after)]
    return [
        max(float((a - b).abs().max()) for a, b in zip(old, new, strict=True)) for old, new in zip(*groups, strict=True)
    ]


def test_the_head_learns_first_then_the_last_stage_backwards(images: Split) -> None:
    """Freed at epochs 1, 2 and 3 of 5; until then nothing of a stage moves, not even by decay."""
    spec = trial(0, {"tuned_stages": 3}, **GRADUAL, weight_decay=0.5)
    start = build(spec.model, images.inputs, images.n_outputs, torch.Generator().manual_seed(0))
    for epoch, n_free in ((1, 0), (2, 1), (3, 2), (4, 3)):
        *stages, head = moved(start, trained(images, spec, epoch))
        assert [distance > 0 for distance in stages] == [place >= 3 - n_free for place in range(3)]
        assert head > 0


def test_all_at_frees_all_stages_at_once_and_none_freezes_nothing(images: Split) -> None:
    """After the first epoch, and from the beginning on."""
    for schedule, epoch, expected in (("all_at", 1, False), ("all_at", 2, True), ("none", 1, True)):
        spec = trial(0, {"tuned_stages": 2}, unfreeze=schedule, unfreeze_start=0.2)
        start = build(spec.model, images.inputs, images.n_outputs, torch.Generator().manual_seed(0))
        *stages, _ = moved(start, trained(images, spec, epoch))
        assert [distance > 0 for distance in stages] == [expected] * 2


def test_each_stage_has_a_rate_of_its_own(images: Split) -> None:
    """The first step of Adam is as long as the rate: the head's, a tenth of it, and a fifth of that."""
    rates = {"learning_rate": 0.001, "backbone_rate": 0.1, "stage_decay": 0.2}
    spec = trial(0, {"tuned_stages": 2}, batch_size=12, schedule="constant", **rates)
    start = build(spec.model, images.inputs, images.n_outputs, torch.Generator().manual_seed(0))
    assert moved(start, trained(images, spec, 1)) == pytest.approx([2e-5, 1e-4, 1e-3], rel=0.02)


def test_what_a_backbone_knows_helps(tmp_path: Path) -> None:
    """With 40 pictures of digits, a network that has seen others knows them better than one that begins."""
    split = load_split(DataSpec(name="digits_images"))
    model = ModelSpec(family="mlp", stem="convolution", channels=8, depth=2, width=32)
    pretraining = TrialSpec(model=model, training=TrainingSpec(epochs=15, learning_rate=0.01), seed=1)
    pack = Pack(split)
    slot = pack.admit(pretraining)
    pack.advance()
    about = SavedNetwork(
        model=model, images=split.image_shape, n_inputs=64, n_outputs=10, task="classification", feature_names=(),
        class_names=split.class_names, target_mean=0.0, target_scale=1.0, encoder={}, study="s", trial=0, metrics={},
    )  # fmt: skip
    save_network(tmp_path / "digits.safetensors", pack.network(slot), about)
    # The same digits in another order of classes: the head has to be learned anew.
    few = split.head(40)
    few.train_y[:], few.validation_y[:] = (few.train_y + 3) % 10, (few.validation_y + 3) % 10
    of_file = {"stem": "backbone", "backbone": str(tmp_path / "digits.safetensors")}
    accuracies = [
        results_of(
            [TrialSpec(model=spec, training=TrainingSpec(epochs=30, learning_rate=0.01, batch_size=16), seed=2)], few
        )[0][-1].metrics["accuracy"]
        for spec in (model, ModelSpec(family="mlp", depth=1, **of_file))
    ]
    assert accuracies[1] > accuracies[0] + 0.1


def test_features_are_computed_once_for_all_trials(images: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of other structures see the same table, and so do the fitting of grids and the curves at the end."""
    seen: list[int] = []
    frozen = Backbone._frozen
    monkeypatch.setattr(Backbone, "_frozen", lambda self, x: (seen.append(len(x)), frozen(self, x))[1])
    fitted = {"family": "kan", "base_function": "rbf", "grid": "fitted"}
    models: list[dict[str, Any]] = [{}, {"depth": 2}, fitted, {**fitted, "depth": 2}]
    results_of([trial(seed, model, patience=5) for seed, model in enumerate(models)], images)
    # Latencies and shapes are measured with a row each.
    assert sum(count for count in seen if count > 1) < 2 * (images.n_train + images.n_validation)


def test_where_tables_are_too_many_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which was asked for longest ago."""
    kept = features.FeatureCache()
    made: list[str] = []

    def make(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        made.append(name)
        return torch.zeros(10), torch.zeros(2)

    monkeypatch.setattr(features, "MOST_NUMBERS", 30)
    for name in "aabacaab":
        kept.get(name, lambda name=name: make(name))  # type: ignore[misc]
    assert "".join(made) == "abcb"
