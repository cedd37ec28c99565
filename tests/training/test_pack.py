"""Packs: what a trial measures does not depend on who is beside it."""

from __future__ import annotations

import random as dice
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.models.build import build
from kansearch.models.stack import Stack, structure
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import End, ModelSpec, RungResult, TrainingSpec, TrialSpec
from kansearch.training.checkpoints import CheckpointError
from kansearch.training.loop import train
from kansearch.training.metrics import entropy
from kansearch.training.pack import Pack
from tests.texts import write_reviews

from .far_device import far_device
from .running import assert_company_changes_nothing, curve, results_of, trained


@pytest.fixture(scope="module")
def iris() -> Split:
    return load_split(DataSpec(name="iris"))


@pytest.fixture(scope="module")
def few(iris: Split) -> Split:
    """Rows for three whole batches of 16 and a part of one."""
    return iris.head(60)


@pytest.fixture(scope="module")
def sine() -> Split:
    return load_split(DataSpec(name="multi_sine", n_train=60, n_validation=40, n_test=8))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Split:
    table = write_reviews(tmp_path_factory.mktemp("texts"))
    return load_split(DataSpec(path=table, text="review", target="mood", task="classification", max_words=7))


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_split(DataSpec(name="digits_images"))


def trial(seed: int = 0, model: dict[str, Any] | None = None, **training: Any) -> TrialSpec:
    spec = TrainingSpec(**{"epochs": 10, "batch_size": 16, "dtype": "float64", **training})
    return TrialSpec(model=ModelSpec(**{"width": 4, **(model or {})}), training=spec, rungs=(1, 3, 10), seed=seed)


def short(seed: int, model: dict[str, Any], **training: Any) -> TrialSpec:
    """Long enough for every schedule to do something, and for a wrong bit to show in the weights."""
    spec = trial(seed, model, **{"epochs": 4, **training})
    return spec.model_copy(update={"rungs": (2, spec.training.epochs)})


PRECISIONS = ("float32", "float64")

MODELS: list[dict[str, Any]] = [
    {"family": "mlp", "width": 5, "dropout": 0.2},
    {"family": "mlp", "width": 7, "activation": "tanh"},
    {"family": "mlp", "width": 8, "activation": "gelu", "layer_norm": True},
    {"family": "mlp", "width": 6, "layer_norm": True, "dropout": 0.1},
    {"family": "kan", "base_function": "gaussian", "n_basis": 7},
    {"family": "kan", "base_function": "sin", "n_basis": 5, "width": 6, "dropout": 0.1},
    {"family": "kan", "base_function": "b_spline", "width": 3},
    {"family": "kan", "base_function": "b_spline", "width": 8},
    {"family": "kan", "base_function": "chebyshev", "n_basis": 4, "base_branch": "none"},
    {"family": "kan", "base_function": "rbf", "depth": 3, "layer_norm": True},
    {"family": "kan", "layer": "edge", "base_function": "tanh"},
    {"family": "kan", "layer": "edge", "base_function": "gaussian", "width": 6},
    {"family": "kan", "layer": "scaled", "base_function": "tanh", "n_basis": 5},
    {"family": "kan", "layer": "scaled", "base_function": "silu", "n_basis": 5, "width": 6},
    {"family": "kan", "layer": "scaled", "base_function": "relu"},
    {"family": "kan", "layer": "kaf", "base_function": "gaussian", "n_basis": 5, "width": 3},
    {"family": "kan", "layer": "kaf", "base_function": "gaussian", "n_basis": 5, "width": 6, "dropout": 0.1},
    {"family": "kan", "layer": "shared", "base_function": "silu"},
    {"family": "kan", "layer": "node", "base_function": "sin", "width": 5},
    {"family": "hybrid", "depth": 3, "pattern": "alternate"},
    {"family": "kan", "depth": 1, "base_function": "relu"},
    {"family": "kan", "base_function": "rational", "n_basis": 3},
]
"""Twenty-two kinds of networks, some of which share a group."""

TRAININGS: list[dict[str, Any]] = [
    {},
    {"learning_rate": 0.05, "weight_decay": 0.1},
    {"unfreeze": "gradual_forward", "unfreeze_start": 0.2, "unfreeze_interval": 0.3, "activation_rate": 0.5},
    {"l1": 0.01, "schedule": "warmup_cosine"},
    {"entropy": 0.01, "l1": 0.001},
    {"optimizer": "adam", "weight_decay": 0.01, "schedule": "constant"},
    {"unfreeze": "all_at", "unfreeze_start": 0.5, "weight_decay": 0.05},
]

PENALTIES = {"l1", "entropy", "unfreeze"}
"""Which plain networks have no curves for."""


def of_both_precisions() -> Iterator[TrialSpec]:
    """Every kind of network in both, trained in two ways."""
    for seed, model in enumerate(MODELS):
        allowed = [training for training in TRAININGS if model["family"] != "mlp" or not training.keys() & PENALTIES]
        for place, dtype in enumerate(PRECISIONS):
            yield short(seed, model, **allowed[(seed + place) % len(allowed)], dtype=dtype)


MIXED = list(of_both_precisions())


@pytest.mark.parametrize("data", ["few", "sine"])
def test_a_trial_has_the_curve_that_it_has_alone(data: str, request: pytest.FixtureRequest) -> None:
    """To the last bit, for trials of many kinds in one pack."""
    assert_company_changes_nothing(MIXED, request.getfixturevalue(data), 4)


def test_trials_of_texts_have_the_curve_that_they_have_alone(texts: Split) -> None:
    """To the last bit, with embeddings of different sizes."""
    specs = [
        short(seed, {"stem": "embedding", "embedding": 3 + seed, **model}, dtype=PRECISIONS[seed % 2], **training)
        for seed, (model, training) in enumerate(zip(MODELS[:7], TRAININGS, strict=True))
        if not (model["family"] == "mlp" and training.keys() & PENALTIES)
    ]
    assert_company_changes_nothing(specs, texts.head(60), 4)


@pytest.mark.parametrize("penalty", ["l1", "entropy"])
@pytest.mark.parametrize("layer", ["shared", "node", "dictionary", "edge", "scaled", "kaf"])
def test_penalties_of_mixed_base_functions_give_the_same_curve_in_a_pack(layer: str, penalty: str, few: Split) -> None:
    """Amplitudes send gradients back on another way than outputs do; float32 has the longest vectors to fill."""
    specs = [
        short(
            seed,
            {"layer": layer, "width": 8, "base_function": ("tanh", "silu", "sin")[seed % 3]},
            learning_rate=0.03, batch_size=20, dtype="float32", epochs=3, **{penalty: 0.01},
        )
        for seed in range(3)
    ]  # fmt: skip
    assert_company_changes_nothing(specs, few, 3)


@pytest.mark.parametrize("base_function", ["silu", "tanh"])
def test_few_outputs_of_nodes_give_the_same_curve_in_a_pack(base_function: str) -> None:
    """One output and batches of five: no whole vectors but by padding."""
    split = load_split(DataSpec(name="diabetes")).head(23)
    specs = [
        short(seed, {"layer": "node", "width": 8, "base_function": base_function}, batch_size=5, dtype=dtype)
        for seed, dtype in enumerate(PRECISIONS)
    ]
    assert_company_changes_nothing(specs, split, 4)


def test_a_trial_for_which_memory_does_not_suffice_leaves_its_neighbours_alone(
    iris: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it would have stood between them, too."""
    specs = [trial(seed, {"base_function": name}) for seed, name in enumerate(("tanh", "sin"))]
    pack = Pack(iris)
    for spec in specs:
        pack.admit(spec)

    def fails(*_: object) -> torch.Tensor:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("kansearch.training.rows._inserted", fails)
        with pytest.raises(MemoryError):
            pack.admit(trial(2, {"base_function": "tanh"}))
    results = pack.advance()
    assert [curve([result]) for result in results] == [curve([next(train([spec], iris))]) for spec in specs]


@pytest.mark.parametrize("basis", ["b_spline", "rbf", "chebyshev"])
def test_features_too_many_for_a_table_give_the_same_curve_in_a_pack(
    basis: str, few: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a fixed basis makes of raw inputs is then computed anew in every step."""
    monkeypatch.setattr("kansearch.training.tables.PREPARED_NUMBERS", 0)
    specs = [short(seed, {"base_function": basis, "width": 3 + seed}, dtype="float32") for seed in range(2)]
    assert_company_changes_nothing(specs, few, 4)


CONVOLUTIONAL: list[dict[str, Any]] = [
    {"family": "kan", "channels": 3, "n_basis": 5, "dropout": 0.1},
    {"family": "kan", "channels": 7, "n_basis": 7, "base_function": "sin"},
    {"family": "kan", "channels": 4, "layer": "edge", "base_function": "tanh", "layer_norm": True},
    {"family": "mlp", "channels": 5, "layer_norm": True, "dropout": 0.2, "pooling": "average"},
    {"family": "mlp", "channels": 8, "layer_norm": True, "activation": "gelu", "pooling": "average"},
    {"family": "hybrid", "channels": 3, "pattern": "stem", "base_function": "b_spline", "stride": 2},
    {"family": "hybrid", "channels": 3, "pattern": "head", "layer": "node", "base_function": "silu"},
]


def test_convolutional_trials_too_have_the_curve_that_they_have_alone(digits: Split) -> None:
    """To the last bit, learned amplitudes and unfreezing included."""
    specs = [
        short(seed, {"stem": "convolution", **model}, dtype=PRECISIONS[seed % 2], epochs=3, **training)
        for seed, (model, training) in enumerate(zip(CONVOLUTIONAL * 2, TRAININGS + TRAININGS[1:] + [{}], strict=True))
        if not (model["family"] == "mlp" and training.keys() & PENALTIES)
    ]
    assert_company_changes_nothing(specs, digits.head(36), 3)


OF_TOKENS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"family": "mlp", "feed_forward": 6}, {"weight_decay": 0.1}),
    ({"family": "kan", "feed_forward": 5, "n_basis": 3, "dropout": 0.1}, {"l1": 0.01, "entropy": 0.01}),
    ({"family": "kan", "layer": "edge", "base_function": "tanh", "layer_norm": True}, {"unfreeze": "gradual_forward"}),
    ({"family": "hybrid", "pattern": "stem", "base_function": "b_spline", "cell": "lstm"}, {"polish": 0.4}),
    ({"family": "hybrid", "pattern": "head", "layer": "node", "cell": "rnn", "pooling": "average"}, {}),
]


@pytest.mark.parametrize(
    ("place", "data", "stem"),
    [(0, "texts", "recurrent"), (1, "texts", "attention"), (0, "digits", "attention"), (1, "iris", "attention")],
)
def test_trials_of_tokens_too_have_the_curve_that_they_have_alone(
    place: int, data: str, stem: str, request: pytest.FixtureRequest
) -> None:
    """To the last bit, and resumed from a checkpoint; of words, patches and columns, in both precisions by turns."""
    split: Split = request.getfixturevalue(data).head(30)
    common = {"stem": stem, "embedding": 6, "state": 5, "heads": 2, "width": 4, "patch_size": 2, "blocks": 2}
    specs = [
        short(seed, {**common, **model}, dtype=PRECISIONS[(seed + place) % 2], epochs=3, batch_size=12, **training)
        for seed, (model, training) in enumerate(OF_TOKENS)
    ]
    together = assert_company_changes_nothing(specs, split, 3)
    for spec, of_trial in zip(specs[::2], together[::2], strict=True):
        pack, other = Pack(split), Pack(split)
        slot = pack.admit(spec)
        pack.advance()
        other.admit(spec, pack.checkpoint(slot))
        assert curve(other.advance()) == curve(of_trial.results[1:]), spec


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_neighbours_and_slot_do_not_change_a_bit(model: dict[str, Any], sine: Split) -> None:
    """In another slot of a pack with other neighbours, in float32, a trial ends with the same bits."""
    spec = short(1, model, dtype="float32", learning_rate=0.03)
    found = []
    for seed in (0, 1):
        roll = dice.Random(seed)
        width = int(structure(spec.model).width)
        others = [
            short(
                roll.randrange(1000), {**model, "width": roll.randint(max(1, width // 2 + 1), width)}, dtype="float32"
            )
            for _ in range(7)
        ]
        place = roll.randrange(8)
        found.append(trained([*others[:place], spec, *others[place:]], sine)[place])
    assert found[0].differences(found[1]) == []


def test_a_trial_goes_on_from_its_checkpoint_as_if_it_had_stayed(sine: Split) -> None:
    """In another pack, after its slot and its neighbours changed: the same curve and metrics to the last bit."""
    patient = short(99, {"dropout": 0.2}, patience=3, learning_rate=0.1)
    specs = [*(pair[number % 2] for number, pair in enumerate(zip(MIXED[::2], MIXED[1::2], strict=True))), patient]
    whole = results_of(specs, sine)
    before, after = Pack(sine), Pack(sine)
    first = {before.admit(spec): spec for spec in specs}
    states: dict[int, bytes] = {}
    while len(states) < len(first):
        for result in before.advance():
            if result.rung == 0:
                states[result.slot] = before.checkpoint(result.slot)
    moved = {after.admit(first[slot], states[slot]): slot for slot in sorted(states, reverse=True)}
    ends = {}
    while after:
        for result in after.advance():
            ends[moved[result.slot]] = result
            after.retire(result.slot)
    for slot, results in enumerate(whole):
        assert curve([ends[slot]]) == curve(results[1:])
        assert ends[slot].end is results[-1].end
        assert ends[slot].metrics["parameters"] == results[-1].metrics["parameters"]
        assert {k: v for k, v in ends[slot].metrics.items() if k in ("rmse", "r2")} == {
            k: v for k, v in results[-1].metrics.items() if k in ("rmse", "r2")
        }


def test_another_device_gives_the_same_curves(sine: Split, few: Split) -> None:
    """Nothing that lies on it meets what lies on the CPU: checkpoints, and trials that take turns, included."""
    changes = {"epochs": 2, "batch_size": 128, "patience": 1}
    precise = [
        spec.model_copy(update={"training": spec.training.model_copy(update=changes), "rungs": (1, 2)})
        for spec in MIXED
        if spec.training.dtype == "float64"
    ]
    for split, specs in ((sine, precise[::2]), (few, precise[1::2])):
        with far_device() as device:
            before, after = Pack(split, device=device), Pack(split, device=device)
            slots = [before.admit(spec) for spec in specs]
            points: dict[int, list[RungResult]] = {slot: [] for slot in slots}
            states: dict[int, bytes] = {}
            while len(states) < len(slots):
                for result in before.advance():
                    points[result.slot].append(result)
                    states[result.slot] = before.checkpoint(result.slot)
                    before.retire(result.slot)
            assert [after.admit(spec, states[slot]) for spec, slot in zip(specs, slots, strict=True)] == slots
            for group in after._homes.values():
                group._at_once = 1
                assert group._rows.weights.device == device
            while after:
                for result in after.advance():
                    points[result.slot].append(result)
                    if result.end is not None:
                        after.retire(result.slot)
        for slot, expected in zip(slots, results_of(specs, split), strict=True):
            torch.testing.assert_close(curve(points[slot]), curve(expected), rtol=1e-9, atol=1e-12)
            assert points[slot][-1].end is expected[-1].end


def test_bytes_that_are_no_checkpoint_of_the_trial_are_refused(sine: Split) -> None:
    """Torn bytes, another trial's and another network's; the pack stays as it was."""
    pack = Pack(sine)
    slot = pack.admit(trial(1))
    pack.advance()
    state = pack.checkpoint(slot)
    for spec, stored in (
        (trial(1), state[: len(state) // 2]),
        (trial(1), b""),
        (trial(2), state),
        (trial(1, {"width": 6}), state),
        (trial(1, dtype="float32"), state),
    ):
        with pytest.raises(CheckpointError):
            pack.admit(spec, stored)
    assert len(pack) == 1
    assert pack.admit(trial(1), state) == 1


def test_a_freed_slot_is_filled_again(iris: Split) -> None:
    """A trial that leaves at its rung makes room for another, and the others go on undisturbed."""
    pack = Pack(iris)
    first, second = pack.admit(trial(1)), pack.admit(trial(2))
    pack.advance()
    pack.retire(first)
    assert pack.admit(trial(3)) == first
    later: dict[int, list[RungResult]] = {first: [], second: []}
    while not all(later.values()):
        for result in pack.advance():
            later[result.slot].append(result)
    assert (later[first][0].rung, later[second][0].rung) == (0, 1)
    alone = curve(list(train([trial(2)], iris)))
    assert curve(later[second][:1]) == alone[1:3]


def test_nobody_waits_for_anybody(iris: Split) -> None:
    """Trials at different epochs of one group reach their rungs when they reach them."""
    pack = Pack(iris)
    old = pack.admit(trial(1))
    pack.advance()  # epoch 1
    young = pack.admit(trial(2))
    seen = [[(r.slot, r.epoch) for r in pack.advance()] for _ in range(3)]
    assert seen == [[(young, 1)], [(old, 3)], [(young, 3)]]


def test_with_too_little_memory_trials_take_turns(sine: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory suffices for two trials at once, four of a group still have the curves they have together."""
    specs = [trial(seed, {"dropout": 0.1}, l1=0.01) for seed in range(4)]
    expected = [curve(results) for results in results_of(specs, sine)]
    attach = Stack.attach
    crowds = []

    def small(self: Stack, weights: torch.Tensor, specs: Sequence[ModelSpec]) -> Any:
        crowds.append(len(weights))
        if len(weights) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return attach(self, weights, specs)

    monkeypatch.setattr(Stack, "attach", small)
    assert [curve(results) for results in results_of(specs, sine)] == expected
    assert max(crowds) == 4


def test_a_trial_too_large_for_memory_is_over_and_the_others_go_on(
    sine: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even alone does it fit: that is its result, and its neighbours' curves are what they would be."""
    specs = [trial(seed, {"width": width}) for seed, width in enumerate((5, 6, 7))]
    expected = [curve(results) for results in results_of(specs, sine)]
    mix = Stack.mix

    def tight(self: Stack, prepared: torch.Tensor) -> torch.Tensor:
        if bool((self.real_edges[0].sum((1, 2)) == 6).any()):
            raise MemoryError
        return mix(self, prepared)

    monkeypatch.setattr(Stack, "mix", tight)
    results = results_of(specs, sine)
    assert [r.end for r in results[1]] == [End.OUT_OF_MEMORY]
    assert [curve(results[0]), curve(results[2])] == [expected[0], expected[2]]


def test_a_neighbour_that_diverges_does_no_harm(sine: Split) -> None:
    """One trial's numbers overflow; the other's are as if it were alone."""
    wild = trial(1, {"family": "mlp"}, learning_rate=10.0, optimizer="adam", dtype="float32", schedule="constant")
    tame = wild.model_copy(update={"training": wild.training.model_copy(update={"learning_rate": 0.01}), "seed": 2})
    huge = _scaled(sine, 1e25)
    together = results_of([wild, tame], huge)
    assert together[0][-1].end is End.DIVERGED or together[0][-1].end is End.COMPLETED
    assert curve(together[1]) == curve(list(train([tame], huge)))


def _scaled(split: Split, factor: float) -> Split:
    import dataclasses

    return dataclasses.replace(split, train_y=split.train_y * factor)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_update_is_pytorchs(optimizer: str, iris: Split) -> None:
    """A pack of one ends with the weights that a plain loop with torch.optim's Adam gives."""
    spec = trial(3, {"family": "mlp", "width": 5}, optimizer=optimizer, weight_decay=0.1, schedule="constant")
    pack = Pack(iris)
    slot = pack.admit(spec)
    for _ in spec.rungs:
        pack.advance()
    ours = pack._trainees[slot].network

    random = torch.Generator().manual_seed(spec.seed)
    network = build(spec.model, iris.n_inputs, iris.n_outputs, random, torch.float64)
    kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam
    weights = network.decayed_parameters()
    others = [p for p in network.parameters() if not any(p is w for w in weights)]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    plain = kind(groups, lr=spec.training.learning_rate)
    x, y = iris.train_x.double(), iris.train_y
    for _ in range(spec.training.epochs):
        for rows in torch.randperm(len(x), generator=random).split(spec.training.batch_size):
            plain.zero_grad()
            torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            plain.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-9, atol=1e-11)


def test_frozen_parameters_do_not_move_until_they_are_freed(iris: Split) -> None:
    """Activation parameters keep their values, without decay; once freed they learn as if nothing had been."""
    spec = trial(0, {"base_function": "b_spline"}, unfreeze="all_at", unfreeze_start=0.3, weight_decay=0.5)
    pack = Pack(iris)
    slot = pack.admit(spec)
    network = pack._trainees[slot].network
    before = [p.detach().clone() for group in network.activation_groups() for p in group]
    group = next(iter(pack._homes.values()))

    def now() -> list[torch.Tensor]:
        group._stack.extract(group._rows.weights[0], network)
        return [p.detach() for of_layer in network.activation_groups() for p in of_layer]

    pack.advance()
    pack.advance()  # epoch 3: freed at the start of epoch index 3
    assert all(torch.equal(p, b) for p, b in zip(now(), before, strict=True))
    assert group._rows.adam.ages[0, 1:].tolist() == [0, 0]
    pack.advance()
    assert all(not torch.equal(p, b) for p, b in zip(now(), before, strict=True))
    assert group._rows.adam.ages[0, 1:].tolist() == [7 * group._batches.n_steps] * 2


def test_activation_parameters_have_a_rate_of_their_own(iris: Split) -> None:
    """With a rate that is almost none they hardly move, while everything else learns."""

    def moved(rate: float) -> tuple[float, float]:
        pack = Pack(iris)
        network = pack._trainees[pack.admit(trial(0, activation_rate=rate))].network
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        for _ in range(3):
            pack.advance()
        shifts = {name: float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters()}
        return shifts["layers.0.basis.beta"], shifts["layers.0.V"]

    slow, fast = moved(1e-6), moved(1.0)
    assert slow[0] < 1e-5
    assert min(fast[0], slow[1]) > 1e-2


def test_entropy_regularization_concentrates_the_curves(iris: Split) -> None:
    """The same trial with a strong entropy penalty spreads its amplitude over fewer curves."""

    def concentration(weight: float) -> float:
        pack = Pack(iris)
        spec = trial(0, entropy=weight, epochs=30, learning_rate=0.02).model_copy(update={"rungs": (30,)})
        network = pack._trainees[pack.admit(spec)].network
        pack.advance()
        with torch.no_grad():
            _, amplitudes = network.forward_with_amplitudes(iris.train_x.double())
        return sum(float(entropy(a)) for a in amplitudes)

    assert concentration(0.3) < 0.9 * concentration(0.0)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_stack_computes_what_its_networks_compute(model: dict[str, Any]) -> None:
    """Outputs and amplitudes of networks of different widths in one stack are those of each alone."""
    shared = structure(ModelSpec(**{"width": 4, **model}))
    specs = [ModelSpec(**{**model, "width": width}) for width in (5, 8, 6)]
    stack = Stack(shared, 3, 2, torch.float64)
    networks = [build(spec, 3, 2, torch.Generator().manual_seed(i), torch.float64) for i, spec in enumerate(specs)]
    stack.attach(torch.stack([stack.embed(network) for network in networks]), specs)
    x = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    stack.eval()
    outputs, amplitudes = stack.forward_with_amplitudes(x)
    amplitudes = [a.detach() for a in amplitudes]
    for index, network in enumerate(networks):
        network.eval()
        y, of_layers = network.forward_with_amplitudes(x[index])
        torch.testing.assert_close(outputs[index], y, rtol=0, atol=1e-12)
        for ours, theirs in zip(amplitudes, of_layers, strict=True):
            torch.testing.assert_close(ours[index, : theirs.shape[0], : theirs.shape[1]], theirs, rtol=0, atol=1e-12)
            assert float(ours[index].sum()) == pytest.approx(float(theirs.detach().sum()))
