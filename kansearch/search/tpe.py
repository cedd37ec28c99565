"""TPE as Optuna draws it, made quick for studies of thousands of trials.

Optuna's sampler looks at all trials and fits its densities anew for every candidate, trial by trial and hyperparameter
by hyperparameter. Ours keeps what it has seen from look to look: the good trials, whose density is fitted again only
when they change, and MAX_ABOVE of the others, whose density is fitted for each candidate, since each counts for the
next as one that runs. In studies of thousands of trials it sees some of the others, and of several objectives only so
many good ones. Up to there it draws what Optuna's draws: test_our_tpe_draws_what_optunas_draws.

Shapes: N trials, N + 1 kernels, C hyperparameters that are choices, D that are numbers, S samples.
"""

from __future__ import annotations

import functools
import math
from bisect import insort
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import optuna
from optuna._hypervolume.hssp import _solve_hssp
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.samplers._tpe import _truncnorm
from optuna.samplers._tpe.sampler import (
    _get_reference_point,
    default_gamma,
    default_gamma_multiobjective,
    default_weights,
)
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.study import StudyDirection
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import FrozenTrial
from scipy.special import log_ndtr, ndtr

from kansearch.search.history import ABSENT, History, Numbers, Places
from kansearch.storage.reading import StoredTrial

# Optuna's compute number by number in Python: two thirds of a draw in a space with whole numbers.
_truncnorm._log_ndtr, _truncnorm._ndtr = log_ndtr, ndtr

MAX_ABOVE = 500
"""Trials from which the density of all but the good ones is estimated; more of them make it slower, not better."""

TINY = np.finfo(np.float64).tiny

Names = tuple[str, ...]

_weights = functools.cache(default_weights)


class TPESampler(BaseSampler):
    """Optuna's TPESampler for one candidate.

    Args:
        seen: What it knows of the study.
        seed: Of the candidate.
        n_startup_trials: As with Optuna, like all the others.
    """

    def __init__(
        self,
        seen: Seen,
        *,
        seed: int,
        n_startup_trials: int,
        multivariate: bool,
        group: bool,
        constant_liar: bool,
        n_ei_candidates: int = 24,
    ) -> None:
        self._seen = seen
        is_startup = seen.n_ended < n_startup_trials
        self._together = (seen.groups if group else seen.common) if multivariate and not is_startup else []
        self._constant_liar = constant_liar
        self._n_samples = n_ei_candidates
        # A candidate needs one stream of random numbers or the other.
        self._random = RandomSampler(seed) if is_startup else None
        self._rng = seen.rng
        self._rng.seed(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together."""
        del study, trial
        return {name: self._seen.distributions[name] for names in self._together for name in names}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw it."""
        del study, trial
        drawn: dict[str, Any] = {}
        for names in self._together:
            if kept := tuple(name for name in names if name in search_space):
                drawn |= self._draw(kept)
        return drawn

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one alone."""
        if self._random is not None:
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        return self._draw((param_name,))[param_name]

    def _draw(self, names: Names) -> dict[str, Any]:
        """Of some samples of the good trials' density the one where it is highest beside that of the others."""
        good, others = self._seen.good(names), self._seen.others(names, with_running=self._constant_liar)
        samples = good.sample(self._rng, self._n_samples)
        best = samples[np.argmax(good.log_density(samples) - others.log_density(samples))]
        return {
            name: self._seen.distributions[name].to_external_repr(value)
            for name, value in zip(names, best.tolist(), strict=True)
        }


class Seen:
    """What TPE sees of a family's trials; a look costs as much as ended since the last one.

    Args:
        history: Of the study; what is drawn since its last look counts as running.
        family: None for all trials.

    Attributes:
        rng: From which candidates are drawn, each from a seed of its own.
    """

    def __init__(self, history: History, family: str | None) -> None:
        self._history = history
        self._family = family
        self.distributions = history.distributions
        self._columns = {name: column for column, name in enumerate(self.distributions)}
        self._ended: list[int] = []
        self._best = best_of(history)
        self._places_of_good = self._places_of_others = np.array([], dtype=np.int64)
        # Sets of hyperparameters that occur, and the first trial that has each.
        self._kinds: dict[frozenset[str], int] = {}
        self._grouped: tuple[list[frozenset[str]], list[Names], list[Names]] = [], [], []
        # To make a new one takes longer than to let one begin anew.
        self.rng = np.random.RandomState()
        self._axes: dict[Names, Axes] = {}
        self._densities: dict[Names, Density] = {}

    @property
    def n_ended(self) -> int:
        """How many are complete or pruned."""
        return len(self._ended)

    def look(self) -> None:
        """See what ended since the last look."""
        new = self._history.ended(self._family)[self.n_ended :]
        if not new:
            return
        for trial in new:
            insort(self._ended, trial.number)
            self._best.add(trial)
            kind = frozenset(trial.params)
            self._kinds[kind] = min(trial.number, self._kinds.get(kind, trial.number))
        good = np.sort(self._best.first(self._best.n_good(self.n_ended)))
        if not np.array_equal(good, self._places_of_good):
            self._places_of_good = good
            self._densities.clear()
        self._places_of_others = self._some_others()

    def _some_others(self) -> Places:
        """Those that are not good, or MAX_ABOVE of them, spread evenly."""
        # Each good one moves those behind it by one.
        at = np.searchsorted(self._ended, self._places_of_good)
        n_others = self.n_ended - len(at)
        which = np.arange(n_others)
        if n_others > MAX_ABOVE:
            which = np.linspace(0, n_others - 1, MAX_ABOVE).round().astype(int)
        which = which + np.searchsorted(at - np.arange(len(at)), which, side="right")
        return np.array([self._ended[place] for place in which.tolist()], dtype=np.int64)

    @property
    def groups(self) -> list[Names]:
        """Names of the hyperparameters that always occur together."""
        return self._regrouped()[1]

    @property
    def common(self) -> list[Names]:
        """Names of those that all trials have, as the only group."""
        return self._regrouped()[2]

    def _regrouped(self) -> tuple[list[frozenset[str]], list[Names], list[Names]]:
        # In the order in which they first occurred.
        kinds = sorted(self._kinds, key=self._kinds.__getitem__)
        if kinds != self._grouped[0]:
            group = _SearchSpaceGroup()
            for kind in kinds:
                group.add_distributions({name: self.distributions[name] for name in self.distributions if name in kind})
            groups = [names for found in group.search_spaces if (names := self._drawn(found))]
            common = self._drawn(frozenset.intersection(*kinds))
            self._grouped = kinds, groups, [common] if common else []
        return self._grouped

    def good(self, names: Names) -> Density:
        """The density of the good trials."""
        if names not in self._densities:
            several = len(self._history.directions) > 1
            self._densities[names] = self._density(names, self._places_of_good, is_even=several)
        return self._densities[names]

    def others(self, names: Names, *, with_running: bool) -> Density:
        """The density of the others; and of those that run, perhaps, so that they are not drawn again."""
        places = self._places_of_others
        if with_running:
            places = np.sort(np.append(places, np.array(self._history.running(self._family), dtype=np.int64)))
        return self._density(names, places, is_even=False)

    def _drawn(self, names: Collection[str]) -> Names:
        return tuple(sorted(name for name in names if not self.distributions[name].single()))

    def _density(self, names: Names, places: Places, *, is_even: bool) -> Density:
        if names not in self._axes:
            self._axes[names] = Axes([self.distributions[name] for name in names])
        columns = [self._columns[name] for name in names]
        params = self._history.params[places[:, None], columns]
        params = params[(params != ABSENT).all(axis=1)]
        weights = np.ones(len(params)) if is_even else _weights(len(params))
        return Density(params, self._axes[names], weights)


class Best:
    """The best of some trials by one objective, of which nobody asks for more than MOST.

    As Optuna's _split_trials has it: complete ones first, then pruned ones, then those that break a constraint.
    test_the_good_trials_are_optunas watches it.

    Args:
        direction: Of the objective.
    """

    MOST = 25

    def __init__(self, direction: StudyDirection) -> None:
        self._sign = sign_of(direction)
        self._ranking: list[tuple[tuple[float, float, float], int]] = []

    @staticmethod
    def n_good(n_ended: int) -> int:
        """How many of so many are good: a tenth, up to 25."""
        return default_gamma(n_ended)

    def add(self, trial: StoredTrial) -> None:
        """Take note of a trial that has ended."""
        insort(self._ranking, (self._grade(trial), trial.number))
        del self._ranking[self.MOST :]

    def first(self, n: int) -> Places:
        """The places of so many of them, the best first."""
        return np.array([place for _, place in self._ranking[:n]], dtype=np.int64)

    def _grade(self, trial: StoredTrial) -> tuple[float, float, float]:
        """By which trials are ranked, the better the smaller."""
        if (violation := violation_of(trial)) > 0:
            return 2.0, violation, 0.0
        if trial.values:
            return 0.0, self._sign * trial.values[0], 0.0
        if not trial.intermediate_values:
            return 1.0, 1.0, 0.0
        epoch, value = max(trial.intermediate_values.items())
        return 1.0, -epoch, math.inf if math.isnan(value) else self._sign * value


class BestOfSeveral:
    """The best of some trials by several objectives, likewise: of the first fronts as many as there is room for.

    Pruned trials break a constraint there.

    Args:
        directions: Of the objectives.
    """

    MOST = 250
    """Good trials that are looked for in studies of thousands: fitted to more, a density is slower, and no sharper."""

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._signs = [sign_of(direction) for direction in directions]
        self._losses: dict[int, list[float]] = {}
        self._infeasible: list[tuple[float, int]] = []
        self._n = 0
        self._first: Places = np.array([], dtype=np.int64)
        # All trials of the first fronts, and some others. Whoever is behind these fronts stays behind them.
        self._front_runners: set[int] = set()
        self._n_fronts = 0

    @classmethod
    def n_good(cls, n_ended: int) -> int:
        """How many of so many are good: a tenth, up to MOST."""
        return min(default_gamma_multiobjective(n_ended), cls.MOST)

    def add(self, trial: StoredTrial) -> None:
        """Take note of a trial that has ended."""
        if (violation := violation_of(trial)) > 0 or not trial.values:
            insort(self._infeasible, (violation, trial.number))
            del self._infeasible[self.MOST :]
        else:
            self._losses[trial.number] = [sign * value for sign, value in zip(self._signs, trial.values, strict=True)]
            self._front_runners.add(trial.number)
            self._n = 0  # to be looked for again

    def first(self, n: int) -> Places:
        """The places of so many of them."""
        n_complete = min(n, len(self._losses))
        if n_complete != self._n:
            some = len(self._front_runners) <= 4 * n_complete
            found = self._first_of(self._front_runners, n_complete) if some else None
            if found is None:
                self._gather(2 * n_complete)
                found = self._first_of(self._front_runners, n_complete)
            assert found is not None
            self._n, self._first = n_complete, found
        rest = [place for _, place in self._infeasible[: n - n_complete]]
        return np.append(self._first, np.array(rest, dtype=np.int64))

    def _gather(self, n: int) -> None:
        """Of all trials those of the first fronts that hold so many."""
        places, ranks = self._ranks(self._losses, n)
        self._n_fronts = 1 + int(np.sort(ranks)[min(n, len(ranks)) - 1])
        self._front_runners = set(places[ranks < self._n_fronts].tolist())

    def _first_of(self, runners: Collection[int], n: int) -> Places | None:
        """The first fronts, as far as there is room, and of the next one those that dominate most together.

        None where these runners do not tell.
        """
        places, ranks = self._ranks(runners, n)
        n_up_to = np.cumsum(np.bincount(ranks))
        n_whole = int(np.searchsorted(n_up_to, n, side="right"))
        good, rest = np.flatnonzero(ranks < n_whole), np.flatnonzero(ranks == n_whole)
        if n_whole + (len(good) < n) > self._n_fronts and len(runners) < len(self._losses):
            return None
        if len(good) < n:
            losses = np.array([self._losses[place] for place in places[rest].tolist()])
            good = np.append(good, _solve_hssp(losses, rest, n - len(good), _get_reference_point(losses)))
        return places[good]

    def _ranks(self, runners: Collection[int], n: int) -> tuple[Places, Places]:
        """The places of trials, lowest first, and the fronts on which they are, as far as so many need it."""
        places = np.array(sorted(runners), dtype=np.int64)
        losses = np.array([self._losses[place] for place in places.tolist()])
        return places, _fast_non_domination_rank(losses, n_below=n)


def best_of(history: History) -> Best | BestOfSeveral:
    """Looks for the good trials of a study."""
    return Best(history.directions[0]) if len(history.directions) == 1 else BestOfSeveral(history.directions)


def sign_of(direction: StudyDirection) -> float:
    """Makes the better values of an objective the smaller ones."""
    return -1.0 if direction is StudyDirection.MAXIMIZE else 1.0


def violation_of(trial: StoredTrial) -> float:
    """Of all constraints."""
    return sum(value for value in trial.constraints.values() if value > 0)


class Axes:
    """What some hyperparameters are drawn from, and the axes on which the kernels of numbers are Gaussian.

    Args:
        distributions: Of the hyperparameters.

    Attributes:
        n: How many there are.
        choices: Places of those that are choices.
        n_choices: Of each of these (C,).
        numbers: Places of the D others.
        is_log: Of the others, as all that follows.
        steps: 0 where any number will do.
        free: Which of them these are.
        ends: The lowest and the highest number (D, 2).
        low: Where kernels begin on the axis (D, 1): half a step before the lowest number.
        high: Where they end, likewise.
    """

    def __init__(self, distributions: Sequence[BaseDistribution]) -> None:
        self.n = len(distributions)
        is_choice = np.array([isinstance(distribution, CategoricalDistribution) for distribution in distributions])
        self.choices, self.numbers = np.flatnonzero(is_choice), np.flatnonzero(~is_choice)
        choices = [len(choice.choices) for choice in distributions if isinstance(choice, CategoricalDistribution)]
        self.n_choices = np.array(choices, dtype=np.int64)
        axes = [axis for axis in distributions if isinstance(axis, FloatDistribution | IntDistribution)]
        self.is_log = np.array([axis.log for axis in axes], dtype=np.bool_)
        self.steps = np.array([axis.step or 0.0 for axis in axes])
        self.free = np.flatnonzero(self.steps == 0)
        self.ends = np.array([(axis.low, axis.high) for axis in axes], dtype=np.float64).reshape(-1, 2)
        half = 0.5 * self.steps
        self.low, self.high = (self.along(end[:, None]) for end in (self.ends[:, 0] - half, self.ends[:, 1] + half))

    def along(self, numbers: Numbers) -> Numbers:
        """Where numbers (D, any) stand on the axes."""
        places = np.array(numbers)
        places[self.is_log] = np.log(places[self.is_log])
        return places

    def chosen(self, params: Numbers) -> Places:
        """What was chosen (rows, C), of hyperparameters (rows, hyperparameters)."""
        return params[:, self.choices].astype(np.int64)

    def in_a_row(self, chosen: Places) -> Places:
        """The same, counted in a row of all choices there are."""
        return chosen + (np.cumsum(self.n_choices) - self.n_choices)


class Density:
    """A mixture with a kernel for each trial, a product over its hyperparameters, and a wide one for what nobody tried.

    As Optuna's _ParzenEstimator has it; test_our_densities_are_optunas watches it. What a kernel makes of a sample is
    linear in the sample's free numbers, their squares, and 0 or 1 for each choice that there is: for all kernels and
    samples that is a product of matrices. Whole numbers have few different kernels, each with a mass between two edges.

    Args:
        params: Numbers that stand for the hyperparameters of the trials (N, hyperparameters).
        axes: Of the hyperparameters.
        weights: Of the trials (N,).
    """

    def __init__(self, params: Numbers, axes: Axes, weights: Numbers) -> None:
        self._axes = axes
        self._chosen = axes.chosen(params)
        weights = np.append(weights, 1.0)
        self._weights = weights / weights.sum()
        middle, width = 0.5 * (axes.low + axes.high), axes.high - axes.low
        means = axes.along(params[:, axes.numbers].T)
        sigmas, self._different = _widths(means, axes)
        self._means = means = np.concatenate([means, middle], axis=1)
        self._sigmas = sigmas = np.concatenate([sigmas, width], axis=1)
        inside = 1.0 - ndtr((axes.low - means) / sigmas) - ndtr((means - axes.high) / sigmas)
        means, sigmas = means[axes.free] - middle[axes.free], sigmas[axes.free]
        precisions = sigmas**-2.0
        pull = means * precisions
        at_middle = 0.5 * means * pull + np.log(sigmas * np.sqrt(2 * np.pi))
        self._base = np.log(self._weights) - np.log(inside).sum(axis=0) - at_middle.sum(axis=0)
        self._of_samples = np.concatenate([pull, -0.5 * precisions, self._log_shares()])

    def sample(self, rng: np.random.RandomState, n_samples: int) -> Numbers:
        """Draw hyperparameters (S, hyperparameters)."""
        axes = self._axes
        kernels = rng.choice(len(self._weights), p=self._weights, size=n_samples)
        samples = np.empty((n_samples, axes.n))
        for place, until in zip(axes.choices, self._until, strict=True):
            samples[:, place] = (until[:, kernels] < rng.rand(n_samples)).sum(axis=0)
        if len(axes.numbers):
            means, sigmas = self._means[:, kernels], self._sigmas[:, kernels]
            ends = (axes.low - means) / sigmas, (axes.high - means) / sigmas
            numbers = _truncnorm.rvs(*ends, means, sigmas, random_state=rng)
            numbers[axes.is_log] = np.exp(numbers[axes.is_log])
            stepped = np.flatnonzero(axes.steps)
            steps, (lowest, highest) = axes.steps[stepped, None], axes.ends[stepped].T[..., None]
            numbers[stepped] = np.clip(lowest + np.round((numbers[stepped] - lowest) / steps) * steps, lowest, highest)
            samples[:, axes.numbers] = numbers.T
        return samples

    def log_density(self, samples: Numbers) -> Numbers:
        """Logarithm of the density of samples (S, hyperparameters): (S,)."""
        by_kernel = self._log_kernels(samples)
        highest = by_kernel.max(axis=1, keepdims=True)
        densities: Numbers = np.log(np.exp(by_kernel - highest).sum(axis=1)) + highest[:, 0]
        return densities

    def _log_kernels(self, samples: Numbers) -> Numbers:
        """Logarithm of each kernel's share in the density of samples: (S, N + 1)."""
        axes, n_free = self._axes, len(self._axes.free)
        numbers = samples[:, axes.numbers].T
        of_samples = np.zeros((len(samples), len(self._of_samples)))
        from_middle = axes.along(numbers)[axes.free] - self._means[axes.free, -1:]
        of_samples[:, :n_free], of_samples[:, n_free : 2 * n_free] = from_middle.T, from_middle.T**2
        of_samples[np.arange(len(samples))[:, None], 2 * n_free + axes.in_a_row(axes.chosen(samples))] = 1.0
        total: Numbers = of_samples @ self._of_samples + self._base
        for axis, (means, sigmas, which) in self._different.items():
            half = 0.5 * axes.steps[axis]
            edges = numbers[axis] - half, numbers[axis] + half
            low, high = (np.log(edge)[:, None] if axes.is_log[axis] else edge[:, None] for edge in edges)
            # Far from a kernel there is nothing of it.
            masses = np.maximum(_mass((low - means) / sigmas, (high - means) / sigmas), TINY)
            total += np.log(masses)[:, which]
        return total

    def _log_shares(self) -> Numbers:
        """Logarithm of the share of each choice in each kernel: mostly that of the trial, and a little of all."""
        axes, n = self._axes, len(self._chosen)
        of_all = np.repeat(axes.n_choices, axes.n_choices)
        shares = np.tile(-np.log(n + 1.0 + of_all)[:, None], n + 1)
        shares[axes.in_a_row(self._chosen).T, np.arange(n)] += np.log(n + 2.0)
        shares[:, -1] = -np.log(of_all)
        return shares

    @functools.cached_property
    def _until(self) -> list[Numbers]:
        """Of each hyperparameter that is a choice, the share of its choices up to each: (choices, N + 1)."""
        n = len(self._chosen)
        found = []
        for chosen, n_choices in zip(self._chosen.T, self._axes.n_choices, strict=True):
            shares = np.full((n_choices, n + 1), 1.0 / (n + 1))
            shares[chosen, np.arange(n)] += 1.0
            shares /= shares.sum(axis=0)
            until = np.cumsum(shares, axis=0)
            until[-1] = 1.0  # whatever rounding made of it
            found.append(until)
        return found


def _widths(means: Numbers, axes: Axes) -> tuple[Numbers, dict[int, tuple[Numbers, Numbers, Places]]]:
    """How wide the kernels of trials (D, N) are, and the different ones of all on axes with steps.

    As wide as the larger gap to a neighbour; the ends of the axis are nobody's neighbours, if there is another.
    Different ones are given by their means, their widths, and which of them each kernel is (N + 1).
    """
    n, middle, width = means.shape[1], 0.5 * (axes.low + axes.high), axes.high - axes.low
    order = np.argsort(means, axis=1)
    rows = np.arange(len(means))[:, None]
    ordered = means[rows, order]
    edges = np.concatenate([axes.low, ordered, axes.high], axis=1)
    gaps = edges[:, 1:] - edges[:, :-1]
    widths = np.maximum(gaps[:, :-1], gaps[:, 1:])
    if n > 1:
        widths[:, 0], widths[:, -1] = gaps[:, 1], gaps[:, -2]
    widths = np.clip(widths, width / min(100.0, n + 2.0), width)
    different = {}
    for axis in np.flatnonzero(axes.steps).tolist():
        places, sigmas = np.append(ordered[axis], middle[axis]), np.append(widths[axis], width[axis])
        is_new = np.ones(n + 1, dtype=np.bool_)
        is_new[1:n] = (places[1:n] != places[: n - 1]) | (sigmas[1:n] != sigmas[: n - 1])
        which = np.empty(n + 1, dtype=np.int64)
        which[np.append(order[axis], n)] = np.cumsum(is_new) - 1
        different[axis] = places[is_new], sigmas[is_new], which
    in_place = np.empty_like(widths)
    in_place[rows, order] = widths
    return in_place, different


def _mass(low: Numbers, high: Numbers) -> Numbers:
    """Of the normal distribution between two numbers; reckoned in the left tail, where few digits are lost."""
    is_right = low > 0
    return np.asarray(ndtr(np.where(is_right, -low, high)) - ndtr(np.where(is_right, -high, low)))
