"""The Pareto pruner's promises, each as a property."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from kansearch.search.pruners import Decision, Judge, Rung
from kansearch.specs.trial import RungResult, TrialSpec
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records
from kansearch.training.recorded import RecordedPack
from tests.studies import search

# Few different numbers, so that ties and repeated vectors are common.
value = st.one_of(st.integers(0, 6).map(float), st.floats(-5, 5).map(lambda x: round(x, 2)))


@st.composite
def rungs(draw: st.DrawFn) -> tuple[list[float], list[list[float]], int]:
    """A trial, its peers and a reduction factor."""
    n_objectives = draw(st.integers(1, 3))
    vector = st.lists(value, min_size=n_objectives, max_size=n_objectives)
    return draw(vector), draw(st.lists(vector, max_size=15)), draw(st.integers(2, 4))


@settings(max_examples=50)
@given(rungs(), st.data())
def test_a_rung_that_fills_up_decides_as_one_that_is_full(
    rung: tuple[list[float], list[list[float]], int], data: st.DataObject
) -> None:
    """Whoever came first, whoever was asked about in between, and whoever left again."""
    own, peers, eta = rung
    filling = Rung([], [False] * len(own), eta)
    for peer in [*peers, own]:
        filling.add(peer)
        filling.decide(peer)
    gone = data.draw(st.lists(st.sampled_from(range(len(peers))), unique=True)) if peers else []
    for place in gone:
        filling.discard(peers[place])
        filling.decide(own)
    left = [peer for place, peer in enumerate(peers) if place not in gone]
    assert filling.decide(own) is verdict(own, left, eta)


def verdict(own: list[float], peers: list[list[float]], eta: int, maximize: list[bool] | None = None) -> Decision:
    return Rung([own, *peers], maximize or [False] * len(own), eta).decide(own)


@given(rungs())
def test_a_trial_that_dominates_every_peer_goes_on(rung: tuple[list[float], list[list[float]], int]) -> None:
    """Whatever the rung looks like, the trial that dominates all others is never stopped."""
    own, peers, eta = rung
    best = [min([x, *(peer[i] for peer in peers)]) - 1 for i, x in enumerate(own)]
    assert verdict(best, peers, eta) is Decision.CONTINUE


@given(rungs())
def test_a_trial_dominated_by_most_of_a_full_rung_stops(rung: tuple[list[float], list[list[float]], int]) -> None:
    """Dominated by more than 1 - 1/eta of a rung of different vectors, a trial is always stopped."""
    own, peers, eta = rung
    unique = {tuple(peer) for peer in peers} | {tuple(own)}
    dominators = [p for p in unique if all(a <= b for a, b in zip(p, own, strict=True)) and p != tuple(own)]
    if len(dominators) > (1 - 1 / eta) * len(unique):
        assert verdict(own, peers, eta) is Decision.PRUNE


@given(rungs(), st.data())
def test_order_scale_and_direction_of_objectives_do_not_matter(
    rung: tuple[list[float], list[list[float]], int], data: st.DataObject
) -> None:
    """Permuted, scaled, shifted or turned round, the objectives lead to the same decision."""
    own, peers, eta = rung
    d = len(own)
    order = data.draw(st.permutations(range(d)))
    scales = data.draw(st.lists(st.sampled_from([0.5, 1.0, 4.0, 1024.0]), min_size=d, max_size=d))
    flips = data.draw(st.lists(st.booleans(), min_size=d, max_size=d))

    def changed(vector: list[float]) -> list[float]:
        return [(-1 if flips[i] else 1) * scales[i] * vector[i] for i in order]

    after = verdict(changed(own), [changed(peer) for peer in peers], eta, [flips[i] for i in order])
    assert after is verdict(own, peers, eta)


@given(rungs(), st.data())
def test_peers_in_any_order_and_repeated_do_not_matter(
    rung: tuple[list[float], list[list[float]], int], data: st.DataObject
) -> None:
    """The order of the peers, a peer that stands there twice and a twin of the trial change nothing."""
    own, peers, eta = rung
    shuffled = data.draw(st.permutations(peers))
    repeated = [data.draw(st.sampled_from([own, *peers]))]
    assert verdict(own, [*shuffled, *repeated], eta) is verdict(own, peers, eta)


@settings(max_examples=500)
@given(rungs(), st.data())
def test_a_better_value_never_turns_continue_into_stop(
    rung: tuple[list[float], list[list[float]], int], data: st.DataObject
) -> None:
    """Improving any objectives of a trial that goes on keeps it going on."""
    own, peers, eta = rung
    gains = data.draw(st.lists(st.sampled_from([0.0, 0.0, 0.01, 1.0, 3.0]), min_size=len(own), max_size=len(own)))
    better = [x - gain for x, gain in zip(own, gains, strict=True)]
    if verdict(own, peers, eta) is Decision.CONTINUE:
        assert verdict(better, peers, eta) is Decision.CONTINUE


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_with_one_objective_it_is_successive_halving(eta: int) -> None:
    """Of 30 different values the best one in eta goes on, as in ASHA."""
    values = [[float(v)] for v in np.random.default_rng(0).permutation(30)]
    survivors = [own[0] for own in values if verdict(own, [v for v in values if v != own], eta) is Decision.CONTINUE]
    assert sorted(survivors) == [float(v) for v in range(30 // eta)]


def test_the_ends_of_a_crowded_front_go_on() -> None:
    """When far more trials than places are on the front, the best one in each objective stays."""
    front = [[float(i), float(20 - i)] for i in range(21)]
    for end in (front[0], front[-1]):
        assert verdict(end, [p for p in front if p != end], 3) is Decision.CONTINUE


def test_a_crowded_front_is_thinned_where_it_beats_least() -> None:
    """When more trials than places are on the front, the one that dominates fewest peers stops first."""
    front = [[0.0, 9.0], [1.0, 8.5], [2.0, 2.0], [9.0, 0.0]]
    behind = [[x, y] for x in (3.0, 4.0, 5.0, 6.0) for y in (3.0, 4.0, 5.0, 6.0)]
    strong, weak = [2.0, 2.0], [1.0, 8.5]
    rung = [*front, *behind]
    assert verdict(strong, [p for p in rung if p != strong], 8) is Decision.PRUNE  # two places: the two ends
    assert verdict(strong, [p for p in rung if p != strong], 6) is Decision.CONTINUE
    assert verdict(weak, [p for p in rung if p != weak], 6) is Decision.PRUNE


@pytest.mark.parametrize("name", ["median", "percentile", "successive_halving", "hyperband", "patient"])
def test_optunas_pruners_decide_as_in_a_study_of_optunas(name: str, make_study: Callable[..., StoredStudy]) -> None:
    """The same trials, one after another, with the same values at the same rungs: each ends at the same one."""

    def error(seed: int | None, epoch: int) -> float:
        final, noise = np.random.default_rng(seed).normal(), np.random.default_rng([seed or 0, epoch]).normal()
        return float(final + noise / epoch)

    def replay(spec: TrialSpec, epoch: int) -> RungResult:
        metrics = {"rmse": error(spec.seed, epoch), "parameters": 1.0}
        return RungResult(slot=0, rung=0, epoch=epoch, metrics=metrics, points=())

    study = make_study(
        "objectives=[rmse]",
        "budget={trials: 60, epochs: 27}",
        f"search={{sampler: random, pruner: {{name: {name}, min_epochs: 1, reduction_factor: 3}}}}",
        "space.family=kan",
    )
    search(study, open_pack=partial(RecordedPack, replay=replay))
    halving = {"min_resource": 1, "reduction_factor": 3}
    optunas: dict[str, Any] = {
        "median": optuna.pruners.MedianPruner(),
        "percentile": optuna.pruners.PercentilePruner(25.0),
        "successive_halving": optuna.pruners.SuccessiveHalvingPruner(**halving),
        "hyperband": optuna.pruners.HyperbandPruner(max_resource=27, **halving),
        "patient": optuna.pruners.PatientPruner(None, patience=1),
    }
    plain = optuna.create_study(study_name=study.spec.name, pruner=optunas[name])
    for record in read_records(study):
        trial = plain.ask()
        for epoch in study.spec.rungs:
            trial.report(error(record.seed, epoch), epoch)
            if epoch == study.spec.rungs[-1] or trial.should_prune():
                break
        if epoch == study.spec.rungs[-1]:
            plain.tell(trial, error(record.seed, epoch))
        else:
            plain.tell(trial, state=TrialState.PRUNED)
        assert (record.state == "complete", record.epochs) == (epoch == study.spec.rungs[-1], epoch)
    assert {record.state for record in read_records(study)} == {"complete", "pruned"}


@pytest.mark.filterwarnings("ignore:All-NaN")  # of Optuna's
@pytest.mark.parametrize("objective", ["rmse", "r2"])
@pytest.mark.parametrize(
    "options",
    [
        {"name": "median"},
        {"name": "median", "n_startup_trials": 0, "n_warmup_steps": 3},
        {"name": "percentile", "percentile": 40.0, "n_startup_trials": 3, "interval_steps": 2, "n_min_trials": 4},
        {"name": "percentile", "percentile": 60.0, "n_warmup_steps": 1, "interval_steps": 3},
    ],
)
def test_percentiles_that_grow_decide_as_optunas(
    options: dict[str, Any], objective: str, make_study: Callable[..., StoredStudy]
) -> None:
    """What is sorted as it comes: different values and equal ones, none at a step, and some that are no number."""
    rng = np.random.default_rng(0)
    own = {key: value for key, value in options.items() if key != "name"}
    study = make_study(f"objectives=[{objective}]", f"search.pruner={options['name']}", "budget={trials: 9, epochs: 9}")
    # Not all of them can be said in a study file.
    pruner_spec = study.spec.search.pruner.model_copy(update={"options": own})
    search_spec = study.spec.search.model_copy(update={"pruner": pruner_spec})
    study.spec = study.spec.model_copy(update={"search": search_spec})
    judge, trials = Judge(study), list[StoredTrial]()
    plain = optuna.create_study(direction="minimize" if objective == "rmse" else "maximize")
    optunas = optuna.pruners.MedianPruner if options["name"] == "median" else optuna.pruners.PercentilePruner
    pruner = optunas(**{**({"percentile": 25.0} if options["name"] == "percentile" else {}), **own})
    n_stopped = 0

    def trial(state: TrialState, values: dict[int, float]) -> StoredTrial:
        n = len(trials)
        return StoredTrial(n, state, None, None, None, {}, {}, {}, {}, values, n, values=[0.0] * state.is_finished())

    for _ in range(100):
        values: dict[int, float] = {}
        for step in range(1, 10):
            if rng.random() < 0.2:
                continue
            values[step] = float(rng.choice([rng.normal(), round(rng.normal()), math.nan], p=[0.7, 0.2, 0.1]))
            result = RungResult(slot=0, rung=step, epoch=step, metrics={}, points=())
            judge.measured(running := trial(TrialState.RUNNING, dict(values)), result)
            does_stop = judge.decide(running, result) is Decision.PRUNE
            assert does_stop == pruner.prune(plain, running)
            n_stopped += does_stop
        # Whoever stops is trained on, for otherwise few would be complete.
        trials.append(trial(TrialState.COMPLETE, values))
        judge.look(trials)
        plain.add_trial(optuna.trial.create_trial(value=0.0, intermediate_values=values))
    assert n_stopped > 20


def test_a_value_that_is_no_number_stops_first() -> None:
    """A trial without a finite quality stands behind all that have one."""
    peers = [[0.5, 10.0], [0.6, 10.0], [0.7, 10.0]]
    assert verdict([float("nan"), 10.0], peers, 3, [True, False]) is Decision.PRUNE
