"""Candidates: drawn by any sampler, refused untrained over a limit, families in turns."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.samplers._tpe import _truncnorm
from optuna.samplers._tpe import sampler as optuna_tpe
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.study import StudyDirection
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import TrialState, create_trial
from scipy.special import log_ndtr, ndtr

from kansearch.data.splits import Split, load_split
from kansearch.errors import UserError
from kansearch.models.build import why_unbuildable
from kansearch.models.cost import cost
from kansearch.search import samplers, tpe
from kansearch.search.data import load_study_split
from kansearch.search.effects import check_feasible, search_warnings
from kansearch.search.history import History
from kansearch.search.importance import importances
from kansearch.search.listing import listed
from kansearch.search.samplers import rivals
from kansearch.search.study_pack import StudyPack
from kansearch.search.suggest import MAX_REFUSALS, next_family, suggest, trial_spec
from kansearch.specs.study import StudySpec
from kansearch.storage.reading import StoredTrial
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import PRUNED, Candidate, RunningTrial, begin_trials, hand_back, read_records
from tests.studies import search

MakeSpec = Callable[..., StudySpec]
MakeStudy = Callable[..., StoredStudy]


def draw(study: StoredStudy, worker: int, n_candidates: int = 1) -> list[Candidate]:
    return suggest(study, study.trials(), 1, 1, worker, n_candidates)


def begin(study: StoredStudy, candidates: list[Candidate]) -> list[RunningTrial]:
    return begin_trials(study, candidates, n_seen=len(study.trials()))


def draws(study: StoredStudy, n: int, worker: int = 0) -> list[dict[str, object]]:
    drawn = []
    for _ in range(n):
        (candidate,) = draw(study, worker)
        begin(study, [candidate])
        drawn.append(dict(candidate.params))
    return drawn


def test_candidates_over_a_limit_are_never_trained_and_use_no_budget(make_study: MakeStudy) -> None:
    """All trials keep to the limit, their number is the budget, and the storage holds no trace of the others."""
    study = make_study("constraints=['parameters <= 100']", "budget.trials=12", "budget.epochs=1")
    search(study)
    records = read_records(study)
    assert len(records) == 12
    assert all(record.metrics["parameters"] <= 100 for record in records)
    rejected = [trial.user_attrs["kansearch:rejected"] for trial in study.storage.get_all_trials(study.study_id)]
    assert sum(rejected) > 0


def test_limits_that_no_network_keeps_are_named_with_the_smallest_seen(make_spec: MakeSpec) -> None:
    """An impossible limit is a user's error, found before anything is stored."""
    with pytest.raises(UserError, match=r"no mlp .* parameters <= 3; the smallest of 200 drawn has 7 parameters"):
        check_feasible(make_spec("constraints=['parameters <= 3']"), 1, 1)
    with pytest.raises(UserError, match=r"no kan .* parameters <= 40; the smallest of 200 drawn has 87 parameters"):
        check_feasible(make_spec("constraints=['parameters <= 40']"), 1, 1)
    check_feasible(make_spec("constraints=['parameters <= 40']", "search.families=free"), 1, 1)


def test_networks_that_cannot_be_built_are_drawn_again(make_study: MakeStudy) -> None:
    """A fixed basis on an edge layer, or a hybrid of one layer, never becomes a trial."""
    overrides = ("space.family=[kan, hybrid]", "space.layer=[edge, dictionary]", "space.depth={low: 1, high: 3}")
    study = make_study(*overrides, "space.base_function=[b_spline, tanh]", "budget.trials=40")
    for params in draws(study, 40):
        assert why_unbuildable(trial_spec(study.spec, params).model) is None


def test_families_take_turns_by_epochs(make_study: MakeStudy) -> None:
    """Every family gets the same epochs, up to those of one trial."""
    study = search(make_study("budget.trials=24", "budget.epochs=9", "space.family=[mlp, kan, hybrid]"))
    spent = Counter[str | None]()
    for record in read_records(study):
        spent[record.family] += record.epochs
    assert set(spent) == {"mlp", "kan", "hybrid"}
    assert max(spent.values()) - min(spent.values()) <= 9


def test_a_free_study_leaves_the_family_to_the_sampler(make_spec: MakeSpec) -> None:
    """With families: free nobody's turn is decided; likewise where there is but one family."""
    for overrides, family in ((["search.families=free"], None), (["space.family=[kan]"], None), ([], "mlp")):
        spec = make_spec(*overrides)
        assert next_family(spec, History(spec).family_epochs) == family


def test_hyperparameters_exist_only_where_they_mean_something(make_study: MakeStudy) -> None:
    """A plain network has no base function; a condition of the study file holds in every draw."""
    study = make_study(
        "space.base_function=[tanh, gaussian]",
        "space.n_basis={low: 2, high: 9, when: {base_function: [gaussian]}}",
        "budget.trials=40",
    )
    for params in draws(study, 40):
        assert ("base_function" in params) == (params["family"] == "kan")
        assert ("n_basis" in params) == (params.get("base_function") == "gaussian")


def test_workers_draw_from_different_streams(make_study: MakeStudy) -> None:
    """Two workers that look at the same trials draw different candidates; the same worker the same."""
    study = make_study()
    (first,), (again,), (other,) = (draw(study, worker) for worker in (0, 0, 1))
    assert first == again
    assert first.params != other.params


def test_our_tpe_draws_what_optunas_draws(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same candidates, in a space with conditions and choices, while trials run and after some were pruned."""
    space = (
        "space={family: [mlp, kan], depth: {low: 1, high: 3}, width: {low: 2, high: 16, log: true}, dropout: [0, 0.1],"
        " n_basis: {low: 2, high: 6}, base_function: [tanh, sin], learning_rate: {low: 0.001, high: 0.1, log: true}}"
    )
    drawn = []
    for number, plain in enumerate([False, True]):
        if plain:
            monkeypatch.setattr(samplers, "TPESampler", lambda _, **options: optuna.samplers.TPESampler(**options))
        study = make_study(
            space,
            "search.families=free",
            "search.sampler={n_startup_trials: 4, random_fraction: 0}",
            "budget={trials: 24, epochs: 3}",
            f"name=study-{number}",
        )
        drawn.append([record.params for record in read_records(search(study, size=4))])
    assert drawn[0] == drawn[1]


def test_shares_of_a_gaussian_are_optunas() -> None:
    """SciPy's functions stand for Optuna's own, which compute the same more slowly and to fewer digits."""
    x = np.linspace(-40, 10, 2001)
    assert (_truncnorm._log_ndtr, _truncnorm._ndtr) == (log_ndtr, ndtr)
    one_by_one = {name: np.frompyfunc(getattr(_truncnorm, name), 1, 1) for name in ("_log_ndtr_single", "_ndtr_single")}
    np.testing.assert_allclose(log_ndtr(x), one_by_one["_log_ndtr_single"](x).astype(float), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ndtr(x), one_by_one["_ndtr_single"](x).astype(float), rtol=1e-12, atol=1e-15)


def test_a_large_study_shows_tpe_some_of_its_trials(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are not good so many, over the whole study; and all that run."""
    study = make_study("search.sampler={n_startup_trials: 4}", "budget.trials=60", "space.family=kan")
    search_until(study, 40)
    begin(study, draw(study, 0, 3))
    densities: list[tuple[int, float]] = []

    class Watched(tpe.Density):
        def __init__(self, params: Any, axes: tpe.Axes, weights: Any) -> None:
            super().__init__(params, axes, weights)
            densities.append((len(params), params[0].sum()))

    monkeypatch.setattr(tpe, "Density", Watched)
    for most in (tpe.MAX_ABOVE, 10):
        monkeypatch.setattr(tpe, "MAX_ABOVE", most)
        draw(StoredStudy(study.storage, study.study_id, study.spec), 0)
    (good, others), (same, fewer) = densities[:2], densities[2:]
    assert same == good
    assert (good[0], others[0], fewer[0]) == (4, 39, 13)
    assert others[1] == fewer[1]  # the oldest of them


def ended(
    number: int, values: list[float] | None, violation: float = 0.0, steps: dict[int, float] | None = None
) -> StoredTrial:
    return StoredTrial(
        number=number,
        trial_id=number + 1,
        state=TrialState.PRUNED if values is None else TrialState.COMPLETE,
        value=None,
        values=values,
        params={"width": 4},
        distributions={"width": IntDistribution(2, 9)},
        user_attrs={},
        system_attrs={"constraints:some": violation},
        intermediate_values=steps or {},
        datetime_start=None,
        datetime_complete=None,
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_objectives=st.integers(1, 3))
def test_the_good_trials_are_optunas(data: st.DataObject, n_objectives: int) -> None:
    """Of complete, pruned and infeasible trials, some of them equally good."""
    spec = StudySpec.model_validate(
        {
            "name": "s",
            "data": "digits",
            "objectives": ["accuracy", "parameters", "flops"][:n_objectives],
            "space": {"domains": {"width": {"kind": "range", "low": 2, "high": 9, "integer": True}}},
        }
    )
    numbers = st.integers(0, 4).map(float)
    trials = []
    for number in range(data.draw(st.integers(0, 40))):
        is_complete = data.draw(st.booleans())
        violation = data.draw(st.sampled_from([0.0, 0.0, 0.5, 0.7])) if is_complete or n_objectives == 1 else 0.3
        values = [data.draw(numbers) for _ in range(n_objectives)] if is_complete else None
        steps = data.draw(st.dictionaries(st.integers(1, 3), numbers, max_size=2))
        trials.append(ended(number, values, violation, steps))
    history = History(spec)
    history.look(trials)
    study: Any = SimpleNamespace(directions=history.directions, direction=history.directions[0])
    n_good = (optuna_tpe.default_gamma_multiobjective if n_objectives > 1 else optuna_tpe.default_gamma)(len(trials))
    theirs, _ = optuna_tpe._split_trials(study, trials, n_good)
    best = tpe.best_of(history)
    for number, trial in enumerate(trials):
        best.add(trial)
        if number == data.draw(st.integers(0, len(trials))):
            best.first(best.n_good(number + 1))  # an earlier look changes nothing
    ours = best.first(n_good)
    assert sorted(ours) == [trial.number for trial in theirs]


def test_the_good_trials_of_thousands_are_found_from_look_to_look() -> None:
    """Of several objectives the first ones of all fronts, though a look compares only new trials with the first."""
    random = np.random.default_rng(0)
    best = tpe.BestOfSeveral([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])
    losses: list[tuple[float, float]] = []
    for number in range(3 * best.MOST * 10):
        first, second = random.uniform(size=2).round(2)
        losses.append((first, -second))
        best.add(ended(number, [first, second]))
        if number % 7 == 0:
            best.first(best.n_good(number + 1))
    ours = best.first(best.n_good(len(losses)))
    ranks = _fast_non_domination_rank(np.array(losses))
    assert len(ours) == best.MOST
    assert sorted(ranks[ours]) == sorted(ranks)[: best.MOST]


AXES: dict[str, BaseDistribution] = {
    "choice": CategoricalDistribution(("a", "b", "c")),
    "number": FloatDistribution(0.0, 0.1),
    "rate": FloatDistribution(1e-6, 1e-2, log=True),
    "stepped": FloatDistribution(0.0, 0.3, step=0.05),
    "whole": IntDistribution(2, 8),
    "width": IntDistribution(4, 64, log=True),
}


@settings(max_examples=80, deadline=None)
@given(names=st.sets(st.sampled_from(sorted(AXES)), min_size=1), n=st.integers(0, 60), seed=st.integers(0, 99))
def test_our_densities_are_optunas(names: set[str], n: int, seed: int) -> None:
    """They give the same samples to the last bit, and the same logarithms but for rounding."""
    axes = {name: AXES[name] for name in sorted(names)}
    random: Any = RandomSampler(seed)
    trial: Any = None
    observed = {
        name: np.array([axis.to_internal_repr(random.sample_independent(None, trial, name, axis)) for _ in range(n)])
        for name, axis in axes.items()
    }
    weights = optuna_tpe.default_weights(n)
    parameters = _ParzenEstimatorParameters(1.0, True, False, optuna_tpe.default_weights, True)
    theirs = _ParzenEstimator(observed, axes, parameters)
    ours = tpe.Density(np.stack(list(observed.values()), axis=1), tpe.Axes(list(axes.values())), weights)
    samples = theirs.sample(np.random.RandomState(seed), 24)
    stacked = np.stack(list(samples.values()), axis=1)
    np.testing.assert_array_equal(ours.sample(np.random.RandomState(seed), 24), stacked)
    np.testing.assert_allclose(ours.log_density(stacked), theirs.log_pdf(samples), rtol=1e-9, atol=1e-9)


def test_what_is_remembered_of_a_study_follows_its_trials(make_study: MakeStudy) -> None:
    """A process that has seen a study grow draws what one draws that sees it for the first time."""
    study = make_study("budget.trials=30", "search.sampler={n_startup_trials: 4, random_fraction: 0}")
    for n_trials in (6, 13, 20):
        search_until(study, n_trials)
        begin(study, draw(study, 1, 2))
        known, new = study, StoredStudy(study.storage, study.study_id, study.spec)
        assert draw(known, 0, 3) == draw(new, 0, 3)
        for trial in study.trials(TrialState.RUNNING)[:1]:
            hand_back(study, trial._trial_id, "its worker died", died=True)


@pytest.mark.parametrize(("fraction", "agrees"), [(1, True), (0, False)])
def test_a_fraction_of_tpe_candidates_is_drawn_at_random(make_study: MakeStudy, fraction: float, agrees: bool) -> None:
    """All of them: the study draws what a random sampler draws; none: it does not."""
    drawn = []
    for number, sampler in enumerate([f"{{n_startup_trials: 2, random_fraction: {fraction}}}", "random"]):
        study = make_study(f"search.sampler={sampler}", "budget={trials: 8, epochs: 1}", f"name=study-{number}")
        drawn.append([dict(record.params) for record in read_records(search(study))])
    assert (drawn[0] == drawn[1]) is agrees


def test_the_training_seed_comes_from_the_hyperparameters_and_the_studys_seed(make_spec: MakeSpec) -> None:
    """The same network gets the same seed whichever sampler drew it; another study seed gives another."""
    params = {"family": "kan", "width": 4, "learning_rate": 0.01}
    assert trial_spec(make_spec(), params) == trial_spec(make_spec("search.sampler=random"), params)
    assert trial_spec(make_spec(), params).seed != trial_spec(make_spec("search.seed=1"), params).seed
    assert trial_spec(make_spec(), params).seed != trial_spec(make_spec(), {**params, "width": 5}).seed


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2", "nsga3"])
def test_every_sampler_searches_two_objectives(make_study: MakeStudy, sampler: str) -> None:
    """Each sampler draws a whole study with families, conditions and pruning."""
    options = f"{{name: {sampler}, n_startup_trials: 3}}" if sampler in ("tpe", "gp") else sampler
    overrides = ("space.base_function=[tanh, gaussian]", "budget.trials=14", "budget.epochs=3")
    study = search(make_study(f"search.sampler={options}", *overrides))
    states = Counter(record.state for record in read_records(study))
    assert states["complete"] + states["pruned"] == 14
    assert states["complete"] >= 2


@pytest.mark.parametrize("pruner", ["pareto", "none", "median", "percentile", "successive_halving", "hyperband"])
def test_every_pruner_works_for_one_objective(make_study: MakeStudy, pruner: str) -> None:
    """Optuna's pruners and ours stop trials of a study with one objective at its rungs."""
    options = ", n_startup_trials: 2" if pruner in ("median", "percentile") else ""
    overrides = ("objectives=rmse", "budget.trials=15", "budget.epochs=9", "space.family=mlp")
    study = search(make_study(f"search.pruner={{name: {pruner}{options}}}", *overrides))
    records = read_records(study)
    assert len(records) == 15
    assert {record.epochs for record in records} <= {1, 3, 9}
    assert any(record.state == "pruned" for record in records) == (pruner != "none")


def test_cmaes_searches_numbers_of_one_objective(make_study: MakeStudy) -> None:
    """CMA-ES moves widths and rates; its state survives from one candidate to the next."""
    study = make_study("search.sampler=cmaes", "objectives=rmse", "budget.trials=16", "space.family=mlp")
    search(study)
    assert sum(record.state in ("complete", "pruned") for record in read_records(study)) == 16


def test_a_patient_pruner_waits(make_study: MakeStudy) -> None:
    """The patient pruner lets trials go on that still improve."""
    study = make_study("search.pruner={name: patient, patience: 1}", "objectives=rmse", "space.family=mlp")
    assert len(read_records(search(study))) == 6


def test_tpe_survives_pruned_trials() -> None:
    """Optuna 5.0's TPE fails on a pruned trial with intermediate values and two objectives; infeasible, it does not.

    If the first half stops failing, the constraint in prune_trial is no longer needed.
    """

    def ask_after_pruned(infeasible: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(n_startup_trials=2, seed=0, multivariate=True, group=True)
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        for _ in range(12):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            if trial.number % 2:
                study._storage.set_trial_intermediate_value(trial._trial_id, 1, x)
                if infeasible:
                    trial.set_constraint(PRUNED, 0.5)
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, [x, 1 - x])

    with pytest.raises(RuntimeError, match="single direction"):
        ask_after_pruned(infeasible=False)
    ask_after_pruned(infeasible=True)


def test_what_is_searched_in_vain_is_found(make_spec: MakeSpec) -> None:
    """A width without hidden rows and an L1 that no family uses are named; what matters is not."""
    spec = make_spec("space.family=[mlp]", "space.depth=1", "space.l1=[0.0, 0.1]")
    found = search_warnings(spec, load_split(spec.data))
    assert [text.split(":")[0] for text in found] == ["space.width", "space.l1"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{family: hybrid, depth: [1, 2]}", "space.depth: 1 can never be built: a hybrid of pattern last needs"),
        ("{family: kan, layer: [edge, dictionary], base_function: b_spline}", "space.layer: edge can never be built"),
        (
            "{family: mlp, stem: attention, embedding: 6, heads: [4, 2]}",
            "space.heads: 4 can never be built: heads must",
        ),
    ],
)
def test_values_that_can_never_be_built_are_said(make_spec: MakeSpec, space: str, message: str) -> None:
    """And nothing else of them: a value that was never tried has no effect to be found."""
    spec = make_spec(f"space={space}")
    (warning,) = search_warnings(spec, load_study_split(spec))
    assert warning.startswith(message)


def test_all_hyperparameters_of_a_full_space_have_an_effect(make_spec: MakeSpec) -> None:
    """No false alarm: every hyperparameter that reaches the loss is seen to do so."""
    spec = make_spec(
        "space={family: [mlp, kan, hybrid], width: {low: 3, high: 6}, depth: {low: 2, high: 3},"
        " layer: [dictionary, edge],"
        " base_function: [tanh, gaussian], n_basis: [2, 4], base_branch: [silu, none], grid_range: {low: 1, high: 3},"
        " activation: [relu, tanh], pattern: [first, last], layer_norm: [true, false], dropout: {low: 0.0, high: 0.3},"
        " batch_size: [16, 32], optimizer: [adam, adamw], learning_rate: {low: 0.001, high: 0.1},"
        " schedule: [constant, cosine],"
        " activation_rate: [0.5, 1.0], weight_decay: {low: 0.0, high: 0.1}, l1: {low: 0.0, high: 0.01},"
        " entropy: {low: 0.0, high: 0.01}, unfreeze: [none, all_at, gradual_forward, gradual_backward],"
        " unfreeze_start: {low: 0.1, high: 0.5}, unfreeze_interval: {low: 0.1, high: 0.4}, patience: [0, 3],"
        " dtype: [float32, float64]}"
    )
    assert search_warnings(spec, load_split(spec.data)) == ()


def test_genetic_samplers_beside_a_pruner_are_warned_of(make_spec: MakeSpec) -> None:
    """NSGA-II counts complete trials only, so pruning starves it: the author is told."""
    spec = make_spec("search.sampler=nsga2")
    (found,) = search_warnings(spec, load_split(spec.data))
    assert "nsga2 learns from complete trials only" in found


def test_costs_of_a_trial_are_those_of_its_network(make_study: MakeStudy) -> None:
    """What a trial records as parameters is the closed form of its architecture."""
    study = search(make_study("budget.epochs=1"))
    for record in read_records(study):
        model = trial_spec(study.spec, record.params).model
        assert record.metrics["parameters"] == cost(model, 1, 1).parameters


def test_a_list_of_one_family_is_searched_like_that_family(make_spec: MakeSpec, make_study: MakeStudy) -> None:
    """`family: [kan]` and `family: kan` mean the same: the sampler learns from all trials."""
    study = make_study("space.family=[kan]", "budget.trials=6")
    search(study)
    trials = study.storage.get_all_trials(study.study_id)
    assert rivals(study.spec, trials, None) == trials
    assert rivals(make_spec("space.family=kan"), trials, None) == trials


def test_families_keep_their_populations_apart(make_study: MakeStudy) -> None:
    """With NSGA-II every family has parents of its own: what one sampler notes of the study the other never reads."""
    overrides = ("search.sampler={name: nsga2, population_size: 4}", "search.pruner=none", "budget.epochs=1")
    study = search(make_study(*overrides, "budget.trials=40"))
    noted = [key for key in study.storage.get_study_system_attrs(study.study_id) if "NSGAIISampler:parent" in key]
    for family in ("mlp", "kan"):
        assert any(f":{family}:" in key for key in noted), noted
    trials = {trial._trial_id: trial for trial in study.storage.get_all_trials(study.study_id)}
    for key in noted:
        parents = study.storage.get_study_system_attrs(study.study_id)[key]
        assert {trials[number].params["family"] for number in parents} == {"mlp" if ":mlp:" in key else "kan"}


def test_a_sampler_that_proposes_only_refused_networks_gives_way_to_chance(make_study: MakeStudy) -> None:
    """A Gaussian process that is sure of a network over the limit does not hold the study up."""
    study = make_study(
        "search.sampler={name: gp, n_startup_trials: 4}",
        "objectives=rmse",
        "space={family: mlp, width: {low: 2, high: 64}}",
        "constraints=['parameters <= 40']",
        "budget.trials=7",
        "budget.epochs=1",
    )
    assert len(read_records(search(study))) == 7
    rejected = [trial.user_attrs["kansearch:rejected"] for trial in study.storage.get_all_trials(study.study_id)]
    assert max(rejected[4:]) > MAX_REFUSALS


def test_a_limit_that_only_the_inside_of_a_range_keeps_is_no_obstacle(make_spec: MakeSpec) -> None:
    """Neither end of the widths has 100 to 300 parameters, but networks between them do."""
    bounds = "constraints=['parameters >= 100', 'parameters <= 300']"
    check_feasible(make_spec(bounds, "space={family: mlp, width: {low: 2, high: 400}}"), 1, 1)


def test_quasi_random_draws_are_one_sequence(make_study: MakeStudy) -> None:
    """Scrambled or not, qmc spreads a study's draws evenly: each quarter of the axis gets its share."""
    study = make_study(
        "search.sampler={name: qmc, scramble: true}",
        "space={family: mlp, dropout: {low: 0.0, high: 0.8}}",
        "budget.trials=33",
        "budget.epochs=1",
    )
    values = [float(record.params["dropout"]) for record in read_records(search(study))][1:]
    quarters = Counter(int(value / 0.2) for value in values)
    assert max(quarters.values()) - min(quarters.values()) <= 2, quarters


def train_one(study: StoredStudy, split: Split) -> None:
    pack = StudyPack(study, split)
    pack.fill()
    while pack.trials:
        pack.advance()


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("size", [1, 4])
def test_a_study_ends_when_all_networks_were_trained(make_study: MakeStudy, sampler: str, size: int) -> None:
    """Of six networks ten trials train each once, and the study says that it ended; a larger budget changes nothing."""
    space = "space={family: mlp, width: {low: 2, high: 4}, batch_size: [8, 16]}"
    study = make_study(f"search.sampler={sampler}", space, "budget.trials=6", "budget.epochs=1")
    search(study, size=size)
    assert study.ended is None
    for n_trials in (10, 12):
        study.set_budget(study.spec.budget.model_copy(update={"trials": n_trials}))
        assert not study.is_done
        search(study, size=size)
        assert study.is_done
        sentence = f"space: every network was trained; the study ended after 6 of {n_trials} trials"
        assert study.ended == study.warnings[-1] == sentence
        networks = [tuple(sorted(record.params.items())) for record in read_records(study)]
        assert len(set(networks)) == len(networks) == 6


def test_a_family_of_few_networks_leaves_its_turns_to_the_others(make_study: MakeStudy) -> None:
    """With conditions and a limit: the three plain networks that keep to it and all KANs, each once."""
    space = "space={family: [mlp, kan], width: [2, 3, 200], activation: {choices: [tanh, relu], when: {width: 2}},"
    study = make_study(
        space + " n_basis: {low: 2, high: 5}}",
        "constraints=['parameters <= 150']",
        "budget.trials=60",
        "budget.epochs=1",
    )
    search(study, size=3)
    networks = Counter(record.family for record in read_records(study))
    assert networks == {"mlp": 3, "kan": 8}, networks
    assert study.ended == (
        "space: every network that keeps to the limits was trained; the study ended after 11 of 60 trials"
    )


@pytest.mark.parametrize(
    ("space", "n_networks"),
    [
        ("{family: mlp, width: 4}", 1),
        ("{family: [mlp, kan], width: [4, 8], dropout: {low: 0, high: 0.3, step: 0.1}}", 16),
        ("{family: mlp, width: {low: 2, high: 8, step: 3}, depth: {low: 1, high: 3}, batch_size: [8, 16]}", 18),
        ("{family: mlp, width: {low: 1, high: 200}, batch_size: {low: 1, high: 200}}", None),
        ("{family: mlp, dropout: {low: 0, high: 0.5}}", None),
    ],
)
def test_the_networks_of_small_spaces_are_listed(
    make_spec: MakeSpec, make_study: MakeStudy, space: str, n_networks: int | None
) -> None:
    """As samplers draw them, each once; those of large spaces are too many."""
    found = listed(make_spec(f"space={space}").space)
    assert (None if found is None else len(found)) == n_networks
    if found is not None:
        history = History(make_spec(f"space={space}"))
        for params in found:
            assert not history.has(params)
            history.add(params)
        study = make_study(f"space={space}", "search.sampler=random", "budget.trials=20")
        for drawn in draws(study, 3 if n_networks > 3 else 1):
            assert history.has(drawn)


def test_several_candidates_are_drawn_as_one_after_the_other(make_study: MakeStudy) -> None:
    """Four drawn at once are the four that are drawn when each begins before the next is drawn."""
    together, apart = (make_study("budget.trials=30", f"name={name}") for name in ("together", "apart"))
    for study in (together, apart):
        search_until(study, 12)
    at_once = draw(together, 0, 4)
    for candidate in at_once:
        (alone,) = draw(apart, 0)
        assert (alone.params, alone.seed) == (candidate.params, candidate.seed)
        begin(apart, [alone])


def search_until(study: StoredStudy, n_trials: int) -> None:
    budget = study.spec.budget
    study.set_budget(budget.model_copy(update={"trials": n_trials}))
    search(study)
    study.set_budget(budget)


def test_a_second_try_does_not_change_what_is_drawn_next(make_study: MakeStudy) -> None:
    """A study that was stopped inside a trial draws what it would have drawn."""
    study = make_study("budget.trials=20", "search.sampler=random")
    split = load_split(study.spec.data)
    train_one(study, split)
    (undisturbed,) = draw(study, 0)
    (trial,) = begin(study, [undisturbed])
    hand_back(study, trial.id, "its worker was asked to stop", died=False)
    pack = StudyPack(study, split)
    pack.fill()
    (again,) = pack.trials
    assert (again.params, again.seed) == (dict(undisturbed.params), undisturbed.seed)
    after_a_stop = draw(study, 0)

    other = make_study("budget.trials=20", "search.sampler=random", "name=other")
    train_one(other, split)
    begin(other, draw(other, 0))
    assert draw(other, 0) == after_a_stop


def test_importances_explain_the_good_trials_of_a_maximised_objective(make_study: MakeStudy) -> None:
    """Where one hyperparameter alone decides a high r2 and another a very low one, the first is the important one."""
    study = make_study("objectives=r2", "space={family: mlp, dropout: {low: 0.0, high: 0.9}, l1: 0.0, width: 4}")
    study.set_budget(study.spec.budget.model_copy(update={"trials": 1000}))
    space = {"good": FloatDistribution(0, 1), "bad": FloatDistribution(0, 1)}
    random = np.random.default_rng(0)
    for _ in range(300):
        good, bad = random.uniform(size=2)
        value = (0.9 if good > 0.9 else 0.5) - (5.0 if bad > 0.9 else 0.0) + 0.01 * random.uniform()
        trial = create_trial(params={"good": good, "bad": bad}, distributions=space, value=value)
        study.storage.create_new_trial(study.study_id, trial)
    shares = importances(study)["r2"]
    assert shares["good"] > shares["bad"]


def test_data_are_as_precise_as_the_trials(make_spec: MakeSpec) -> None:
    """Numbers of float64 are not rounded on their way to a trial that is trained so."""
    plain, precise = (load_study_split(make_spec(*lines)) for lines in ((), ("space.dtype=[float32, float64]",)))
    assert plain.train_x.dtype is torch.float32
    assert precise.train_x.dtype is torch.float64
    assert not torch.equal(precise.train_y, plain.train_y.double())
    assert torch.equal(precise.to(torch.float32).train_x, plain.train_x)


def test_an_endless_space_does_not_end_by_chance(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of draws over a limit say that limits are tight, and nothing of networks that were trained."""
    study = make_study("space={family: mlp, width: 4, dropout: {low: 0.0, high: 0.5}}", "budget.trials=50")
    begin(study, draw(study, 0))
    monkeypatch.setattr("kansearch.search.suggest.refusal", lambda *_: "parameters <= 3")
    with pytest.raises(UserError, match="no network of the space keeps to the limits"):
        draw(study, 0)
    assert study.ended is None
