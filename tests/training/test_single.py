"""Trials that compiled code trains: the same curves as torch's, and the same bits however they are trained."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kansearch.compiled import trainer
from kansearch.data.splits import Split, load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import End, ModelSpec, RungResult, TrainingSpec, TrialSpec
from kansearch.training.pack import Pack
from kansearch.training.single import Alone, Single
from tests.models import zoo

from .running import Trained, curve, trained

pytestmark = pytest.mark.skipif(trainer.level() is None, reason="no C compiler: nothing was compiled")

TRAININGS: list[dict[str, Any]] = [
    {},
    {"l1": 1e-3, "weight_decay": 1e-2, "unfreeze": "gradual_forward", "schedule": "warmup_cosine"},
    {"l1": 1e-3, "entropy": 1e-3, "optimizer": "adam", "weight_decay": 1e-3, "unfreeze": "all_at", "batch_size": 32},
    {"activation_rate": 3.0, "schedule": "constant", "patience": 3},
]
OF_PLAIN = {"weight_decay", "optimizer", "schedule", "patience", "batch_size"}
"""What of them plain networks have a use for."""

SPECIAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"base_function": "b_spline", "grid": "fitted"}, {"refinements": 2}),
    ({"base_function": "rbf", "grid": "fitted", "dropout": 0.2}, {"unfreeze": "gradual_backward"}),
    ({"base_function": "chebyshev", "grid": "fitted"}, {"patience": 2}),
    ({"depth": 3}, {"polish": 0.5, "patience": 4}),
    ({"family": "mlp", "depth": 4, "width": 33, "dropout": 0.3}, {"learning_rate": 0.05}),
    ({"family": "mlp", "depth": 1}, {"batch_size": 7}),
]


def _spec(place: int, model: ModelSpec, training: dict[str, Any]) -> TrialSpec:
    if model.family == "mlp":
        training = {name: value for name, value in training.items() if name in OF_PLAIN}
    spec = TrainingSpec(**{"epochs": 8, "batch_size": 50, **training})
    return TrialSpec(model=model, training=spec, rungs=(3, 8), seed=place)


SPECS = [
    _spec(place, model.model_copy(update={"dropout": 0.1 * (place % 2)}), TRAININGS[place % len(TRAININGS)])
    for place, model in enumerate(zoo.SPECS)
]
"""Every layer with every base function, trained in four ways."""

SOME = [*SPECS[::9], *(_spec(place, ModelSpec(**model), how) for place, (model, how) in enumerate(SPECIAL))]


@pytest.fixture(scope="module")
def sine() -> Split:
    return load_split(DataSpec(name="multi_sine", n_train=110, n_validation=60))


@pytest.fixture(scope="module")
def iris() -> Split:
    return load_split(DataSpec(name="iris"))


def losses(specs: list[TrialSpec], split: Split, *, use_compiled: bool) -> list[NDArray[np.float64]]:
    return [np.array(curve(one.results)) for one in trained(specs, split, use_compiled=use_compiled)]


@pytest.mark.parametrize("data", ["iris", "sine"])
def test_curves_are_those_of_torch(data: str, request: pytest.FixtureRequest) -> None:
    """To 1e-4 in loss over eight epochs; where rounding alone moves torch's own curve further, no further than that."""
    split = request.getfixturevalue(data)
    specs = SPECS[("iris", "sine").index(data) :: 2] + SOME[-len(SPECIAL) :]
    ours, theirs = (losses(specs, split, use_compiled=use_compiled) for use_compiled in (True, False))
    apart = [
        place
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True))
        if one.shape != other.shape or np.abs(one - other).max() > 1e-4
    ]
    assert len(apart) < len(specs) / 20
    rounded = dataclasses.replace(split, train_x=split.train_x * (1 + 1e-7))
    for place, moved in zip(apart, losses([specs[p] for p in apart], rounded, use_compiled=False), strict=True):
        n = min(len(ours[place]), len(theirs[place]), len(moved))
        difference, by_rounding = (np.abs(theirs[place][:n] - other[:n]).max() for other in (ours[place], moved))
        assert difference < 10 * by_rounding, specs[place]


@pytest.mark.parametrize("data", ["iris", "sine"])
def test_a_trial_has_the_same_bits_however_it_is_trained(
    data: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In company, alone, and a step at a time, also with the masks that torch draws then; and in other arrays."""
    split = request.getfixturevalue(data)
    together = trained(SOME, split, use_compiled=True)
    kept = [np.zeros(n) for n in range(1, 400, 7)]  # so that others lie elsewhere
    for spec, in_company in zip(SOME, together, strict=True):
        (alone,) = trained([spec], split, use_compiled=True)
        _assert_equal(in_company, alone, spec)
    monkeypatch.setattr("kansearch.training.single.CALL_S", 0.0)
    for spec, in_company in zip(SOME, together, strict=True):
        (step_by_step,) = trained([spec], split, use_compiled=True)
        _assert_equal(in_company, step_by_step, spec)
    monkeypatch.setattr("kansearch.training.batches.MASK_NUMBERS", 1)
    by_torch = losses(SOME, split, use_compiled=False)
    monkeypatch.setattr("kansearch.training.single.CALL_NUMBERS", 1)
    for spec, expected in zip(SOME, by_torch, strict=True):
        (step_by_step,) = trained([spec], split, use_compiled=True)
        n = min(2, len(expected))  # later epochs of some are sensitive to rounding
        np.testing.assert_allclose(curve(step_by_step.results)[:n], expected[:n], rtol=1e-4, atol=1e-4)
    assert kept


@pytest.mark.parametrize("data", ["iris", "sine"])
def test_a_trial_goes_on_from_its_checkpoint_to_the_bit(data: str, request: pytest.FixtureRequest) -> None:
    """In another pack, with all that it remembered."""
    split = request.getfixturevalue(data)
    for spec, whole in zip(SOME, trained(SOME, split, use_compiled=True), strict=True):
        before = Pack(split, latency_at_rungs=False)
        slot = before.admit(spec)
        (first,) = before.advance()
        if first.end is not None:
            continue
        after = Pack(split, latency_at_rungs=False)
        slot = after.admit(spec, before.checkpoint(slot))
        results: list[RungResult] = [first]
        while results[-1].end is None:
            results += after.advance()
        assert curve(results) == curve(whole.results), spec
        assert after.network(slot).state_dict().keys()
        assert {k: v for k, v in results[-1].metrics.items() if k in ("rmse", "accuracy")} == {
            k: v for k, v in whole.results[-1].metrics.items() if k in ("rmse", "accuracy")
        }


def _assert_equal(one: Trained, other: Trained, spec: TrialSpec) -> None:
    assert curve(one.results) == curve(other.results), spec
    streams = () if one.results[-1].end is End.STOPPED_EARLY else ("random", "dropout")  # epochs are drawn beforehand
    for name in ("weights", "first", "second", "ages", "best_weights", *streams):
        ours, theirs = getattr(one.end, name), getattr(other.end, name)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), (name, spec)


def test_every_level_gives_the_same_curves_but_for_rounding(sine: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines with other vectors differ in last bits only."""
    specs = SPECS[::6]
    highest = losses(specs, sine, use_compiled=True)
    for level in trainer.LEVELS:
        library = trainer._library(level, "float32")
        if library is None:
            continue
        monkeypatch.setattr(trainer, "code", lambda _dtype="float32", code=library: code)
        apart = [
            np.abs(one - other).max()
            for one, other in zip(highest, losses(specs, sine, use_compiled=True), strict=True)
        ]
        assert np.quantile(apart, 0.9) < 1e-4


def test_a_network_is_what_its_checkpoint_says_on_either_path(iris: Split) -> None:
    """A trial that compiled code began goes on by torch, where a worker has no compiler, and the other way round."""
    spec = _spec(0, ModelSpec(base_function="b_spline", dropout=0.1), TRAININGS[1])
    (whole,) = trained([spec], iris, use_compiled=True)
    for use_compiled in (False, True):
        before = Pack(iris, latency_at_rungs=False, use_compiled=use_compiled)
        slot = before.admit(spec)
        (first,) = before.advance()
        after = Pack(iris, latency_at_rungs=False, use_compiled=not use_compiled)
        after.admit(spec, before.checkpoint(slot))
        (last,) = after.advance()
        np.testing.assert_allclose(curve([first, last]), curve(whole.results), atol=1e-4)


def test_results_are_those_of_the_network_that_is_given_back(iris: Split) -> None:
    """Also where patience goes back to the best epoch."""
    for training in ({}, {"patience": 2, "learning_rate": 0.1, "schedule": "constant"}):
        spec = TrialSpec(training=TrainingSpec(epochs=30, **training), seed=1)
        pack = Pack(iris, latency_at_rungs=False)
        slot = pack.admit(spec)
        (result,) = pack.advance()
        assert (result.end is End.STOPPED_EARLY) == bool(training)
        outputs = pack.network(slot)(iris.validation_x)
        loss = torch.nn.functional.cross_entropy(outputs, iris.validation_y)
        assert result.metrics["cross_entropy"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e30])
def test_data_that_are_no_numbers_end_a_trial_in_words(broken: float, sine: Split) -> None:
    """As torch has it: the trial diverged, at its first epoch."""
    y = sine.train_y.clone()
    y[3] = broken
    split = dataclasses.replace(sine, train_y=y)
    for use_compiled in (True, False):
        pack = Pack(split, latency_at_rungs=False, use_compiled=use_compiled)
        pack.admit(TrialSpec(training=TrainingSpec(epochs=3)))
        (result,) = pack.advance()
        assert result.end is End.DIVERGED
        assert result.reason in ("loss is nan after epoch 1", "loss is inf after epoch 1")


def test_a_trial_for_which_memory_does_not_suffice_leaves_the_others_alone(
    iris: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is short while it is trained or when its curves are drawn: the trial is over, and says why."""
    specs = [TrialSpec(training=TrainingSpec(epochs=3), seed=seed) for seed in range(3)]
    expected = losses(specs, iris, use_compiled=True)
    for name in ("_train", "_some_rows"):
        method = getattr(Single, name)

        def short(self: Single, *args: Any, method: Any = method) -> Any:
            if self.trainees[0].spec.seed == 1:
                raise MemoryError
            return method(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Single, name, short)
            found = trained(specs, iris, use_compiled=True)
        assert [one.results[-1].end for one in found] == [End.COMPLETED, End.OUT_OF_MEMORY, End.COMPLETED]
        for place in (0, 2):
            assert np.array_equal(curve(found[place].results), expected[place])


def test_a_trial_that_breaks_does_not_take_the_results_of_others_along(
    iris: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What those before it measured comes first; then it is said what broke."""
    pack = Pack(iris, latency_at_rungs=False)
    for seed in range(3):
        pack.admit(TrialSpec(training=TrainingSpec(epochs=3), seed=seed))
    whole = Single.advance

    def breaks(self: Single, is_over: Any) -> list[RungResult]:
        if self.trainees[0].spec.seed == 1:
            raise RuntimeError("broken")
        return whole(self, is_over)

    monkeypatch.setattr(Single, "advance", breaks)
    (first,) = pack.advance()
    assert (first.slot, first.end) == (0, End.COMPLETED)
    with pytest.raises(RuntimeError, match="broken"):
        pack.advance()


def test_a_trial_that_was_just_refined_is_given_up_without_a_checkpoint(sine: Split) -> None:
    """Its network is finer already, and its last epoch was a coarser one's: it goes on from its last rung."""
    model = ModelSpec(base_function="b_spline", n_basis=11)
    spec = TrialSpec(model=model, training=TrainingSpec(epochs=9, refinements=2))
    pack = Pack(sine, latency_at_rungs=False)
    slots = [pack.admit(spec.model_copy(update={"seed": seed})) for seed in range(2)]
    while not (first := pack._trainees[slots[0]]).fitted_at == first.epoch > 0:  # then it is the second trial's turn
        pack.advance(lambda: True)
    found = [pack.checkpoint_since(slot) for slot in slots]
    assert found[0] is None
    assert found[1] is not None
    other = Pack(sine, latency_at_rungs=False)
    other.admit(spec.model_copy(update={"seed": 1}), found[1][1])
    (result,) = other.advance()
    assert result.end is End.COMPLETED


def test_compiled_code_trains_what_it_knows_and_torch_the_rest(iris: Split) -> None:
    """Plain, KAN and hybrid networks over numbers in float32; not in double, and nothing where it is not wanted."""

    def is_alone(use_compiled: bool = True, **changes: Any) -> bool:
        pack = Pack(iris, use_compiled=use_compiled)
        model = {name: value for name, value in changes.items() if name in ModelSpec.model_fields}
        training = {name: value for name, value in changes.items() if name not in model}
        pack.admit(TrialSpec(model=ModelSpec(**model), training=TrainingSpec(**training)))
        return all(isinstance(kind, Alone) for kind in pack._homes)

    assert all(is_alone(family=family, depth=3) for family in ("mlp", "kan", "hybrid"))
    assert not is_alone(dtype="float64")
    assert not is_alone(stem="attention", embedding=4, heads=2)
    assert not is_alone(polish=1.0)
    assert not is_alone(use_compiled=False)
