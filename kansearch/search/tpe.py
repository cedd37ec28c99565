"""TPE as Optuna draws it, made quick for studies of thousands of trials.

Optuna's sampler fits its densities anew for every candidate, trial by trial and hyperparameter by hyperparameter. Ours
takes them out of the table of a `History`, all at once; the good trials are found and their densities fitted once for
all candidates that are drawn at one look at the study, those of the others for each, since each candidate counts for
the next as one that runs. And of the many trials that are not among the good ones it sees MAX_ABOVE. Up to there it
draws what Optuna's draws: test_our_tpe_draws_what_optunas_draws.

Shapes: N trials, N + 1 kernels, D hyperparameters that are numbers, S samples.
"""

from __future__ import annotations

import functools
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
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr, ndtr

from kansearch.search.history import ABSENT, History, Numbers, Places

# Optuna's compute number by number in Python: two thirds of a draw in a space with whole numbers.
_truncnorm._log_ndtr, _truncnorm._ndtr = log_ndtr, ndtr

MAX_ABOVE = 500
"""Trials from which the density of all but the good ones is estimated; more of them make it slower, not better."""

Names = tuple[str, ...]


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
        # A candidate needs one stream of random numbers or the other, and to begin one takes a while.
        self._random = RandomSampler(seed) if is_startup else None
        self._rng = np.random.RandomState(seed)

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
    """What TPE sees of a family's trials, at one look at the study.

    Args:
        history: Of the study; what is drawn since the look counts as running.
        family: None for all trials.

    Attributes:
        n_ended: How many are complete or pruned.
    """

    def __init__(self, history: History, family: str | None) -> None:
        self._history = history
        self._family = family
        self.distributions = history.distributions
        has_ended = (history["state"] == TrialState.COMPLETE) | (history["state"] == TrialState.PRUNED)
        ended = np.flatnonzero(history.rivals(family) & has_ended)
        self.n_ended = len(ended)
        is_good = np.zeros(len(has_ended), dtype=np.bool_)
        is_good[best_of(history, ended)] = True
        self._good, others = ended[is_good[ended]], ended[~is_good[ended]]
        if len(others) > MAX_ABOVE:
            others = others[np.linspace(0, len(others) - 1, MAX_ABOVE).round().astype(int)]
        self._others = others
        self._columns = {name: column for column, name in enumerate(self.distributions)}
        self._axes: dict[Names, Axes] = {}
        self._densities: dict[Names, Density] = {}
        # In the order in which they first occurred.
        kinds = history["kind"][ended]
        firsts = sorted((int(np.argmax(kinds == kind)), kind) for kind in np.flatnonzero(np.bincount(kinds)))
        self._kinds = [set(list(history.kinds)[kind]) for _, kind in firsts]

    @functools.cached_property
    def groups(self) -> list[Names]:
        """Names of the hyperparameters that always occur together."""
        group = _SearchSpaceGroup()
        for kind in self._kinds:
            group.add_distributions({name: self.distributions[name] for name in kind})
        return [names for found in group.search_spaces if (names := self._drawn(found))]

    @functools.cached_property
    def common(self) -> list[Names]:
        """Names of those that all trials have, as the only group."""
        names = self._drawn(set.intersection(*self._kinds)) if self._kinds else ()
        return [names] if names else []

    def good(self, names: Names) -> Density:
        """The density of the good trials."""
        if names not in self._densities:
            self._densities[names] = self._density(names, self._good, is_even=len(self._history.directions) > 1)
        return self._densities[names]

    def others(self, names: Names, *, with_running: bool) -> Density:
        """The density of the others; and of those that run, perhaps, so that they are not drawn again."""
        places = self._others
        if with_running:
            is_running = self._history["state"] == TrialState.RUNNING
            running = np.flatnonzero(self._history.rivals(self._family) & is_running)
            places = np.sort(np.concatenate([places, running]))
        return self._density(names, places, is_even=False)

    def _drawn(self, names: Collection[str]) -> Names:
        return tuple(sorted(name for name in names if not self.distributions[name].single()))

    def _density(self, names: Names, places: Places, *, is_even: bool) -> Density:
        if names not in self._axes:
            self._axes[names] = Axes([self.distributions[name] for name in names])
        columns = [self._columns[name] for name in names]
        params = self._history["params"][places][:, columns]
        params = params[(params != ABSENT).all(axis=1)]
        weights = np.ones(len(params)) if is_even else default_weights(len(params))
        return Density(params, self._axes[names], weights)


def best_of(history: History, ended: Places) -> Places:
    """The good trials of those that have ended, a tenth of them.

    As Optuna's _split_trials has it: complete ones first, then pruned ones, then those that break a constraint (a
    pruned one of a study of several objectives does). test_the_good_trials_are_optunas watches it.
    """
    several = len(history.directions) > 1
    n_good = (default_gamma_multiobjective if several else default_gamma)(len(ended))
    violation, losses = history["violation"][ended], history["losses"][ended]
    keeps_to = violation <= 0
    is_complete = history["state"][ended] == TrialState.COMPLETE
    complete, pruned = np.flatnonzero(keeps_to & is_complete), np.flatnonzero(keeps_to & ~is_complete)
    infeasible = np.flatnonzero(~keeps_to)
    epochs, loss = history["last_rung"][ended[pruned]].T
    if several:
        complete = complete[_best_of_several(losses[complete], min(n_good, len(complete)))]
    else:
        complete = complete[np.argsort(losses[complete, 0], kind="stable")]
    ordered = [
        complete[:n_good],
        pruned[np.lexsort((loss, epochs))],
        infeasible[np.argsort(violation[infeasible], kind="stable")],
    ]
    good: Places = ended[np.concatenate(ordered)[:n_good]]
    return good


def _best_of_several(losses: Numbers, n_good: int) -> Places:
    """The first fronts, as far as there is room, and of the next one those that dominate most together."""
    if n_good in (0, len(losses)):
        return np.arange(n_good)
    ranks = _fast_non_domination_rank(losses, n_below=n_good)
    n_up_to = np.cumsum(np.bincount(ranks))
    n_whole = int(np.searchsorted(n_up_to, n_good, side="right"))
    good, rest = np.flatnonzero(ranks < n_whole), np.flatnonzero(ranks == n_whole)
    if len(good) < n_good:
        bound = _get_reference_point(losses[rest])
        good = np.append(good, _solve_hssp(losses[rest], rest, n_good - len(good), bound))
    return good


class Axes:
    """What some hyperparameters are drawn from, and the axes on which the kernels of numbers are Gaussian.

    Args:
        distributions: Of the hyperparameters.

    Attributes:
        n_choices: Of each hyperparameter that is a choice, by its place.
        numbers: Places of the D others.
        is_log: Of the others, as all that follows.
        steps: 0 where any number will do.
        ends: The lowest and the highest number (D, 2).
        low: Where kernels begin on the axis (D, 1): half a step before the lowest number.
        high: Where they end, likewise.
    """

    def __init__(self, distributions: Sequence[BaseDistribution]) -> None:
        self.n = len(distributions)
        self.n_choices = {
            place: len(distribution.choices)
            for place, distribution in enumerate(distributions)
            if isinstance(distribution, CategoricalDistribution)
        }
        self.numbers = [place for place in range(self.n) if place not in self.n_choices]
        axes = [axis for axis in distributions if isinstance(axis, FloatDistribution | IntDistribution)]
        self.is_log = np.array([axis.log for axis in axes], dtype=np.bool_)
        self.steps = np.array([axis.step or 0.0 for axis in axes])
        self.ends = np.array([(axis.low, axis.high) for axis in axes], dtype=np.float64).reshape(-1, 2)
        half = 0.5 * self.steps
        self.low, self.high = (self.along(end[:, None]) for end in (self.ends[:, 0] - half, self.ends[:, 1] + half))

    def along(self, numbers: Numbers) -> Numbers:
        """Where numbers (D, any) stand on the axes."""
        places = np.array(numbers)
        places[self.is_log] = np.log(places[self.is_log])
        return places


class Density:
    """A mixture with a kernel for each trial, a product over its hyperparameters, and a wide one for what nobody tried.

    As Optuna's _ParzenEstimator has it; test_our_densities_are_optunas watches it.

    Args:
        params: Numbers that stand for the hyperparameters of the trials (N, hyperparameters).
        axes: Of the hyperparameters.
        weights: Of the trials (N,).
    """

    def __init__(self, params: Numbers, axes: Axes, weights: Numbers) -> None:
        self._axes = axes
        weights = np.append(weights, 1.0)
        self._weights = weights / weights.sum()
        self._shares = {
            place: _shares(params[:, place].astype(np.int64), n_choices) for place, n_choices in axes.n_choices.items()
        }
        low, high = axes.low, axes.high
        width = high - low
        means = axes.along(params[:, axes.numbers].T)
        order = np.argsort(means, axis=1)
        ordered = np.take_along_axis(means, order, axis=1)
        gaps = np.diff(np.concatenate([low, ordered, high], axis=1), axis=1)
        # As wide as the larger gap to a neighbour; the ends of the axis are nobody's neighbours, if there is another.
        sigmas = np.maximum(gaps[:, :-1], gaps[:, 1:])
        if len(params) > 1:
            sigmas[:, 0], sigmas[:, -1] = gaps[:, 1], gaps[:, -2]
        sigmas = np.clip(sigmas, width / min(100.0, len(params) + 2.0), width)
        # Whole numbers have few different kernels.
        self._different = {
            axis: _different(order[axis], ordered[axis], sigmas[axis]) for axis in np.flatnonzero(axes.steps).tolist()
        }
        in_order = np.empty_like(sigmas)
        np.put_along_axis(in_order, order, sigmas, axis=1)
        self._means = means = np.concatenate([means, 0.5 * (low + high)], axis=1)
        self._sigmas = sigmas = np.concatenate([in_order, width], axis=1)
        # The square of a distance multiplied out, from the middle of the axis, is two products of matrices.
        self._free = free = np.flatnonzero(axes.steps == 0)
        self._precisions = sigmas[free] ** -2.0
        self._pull = (means[free] - means[free, -1:]) * self._precisions
        at_middle = 0.5 * (means[free] - means[free, -1:]) * self._pull + np.log(sigmas[free]) + 0.5 * np.log(2 * np.pi)
        inside = np.log1p(-ndtr((low - means) / sigmas) - ndtr((means - high) / sigmas))
        self._base = np.log(self._weights) - inside.sum(axis=0) - at_middle.sum(axis=0)

    def sample(self, rng: np.random.RandomState, n_samples: int) -> Numbers:
        """Draw hyperparameters (S, hyperparameters)."""
        axes = self._axes
        kernels = rng.choice(len(self._weights), p=self._weights, size=n_samples)
        samples = np.empty((n_samples, axes.n))
        for place, shares in self._shares.items():
            until = np.cumsum(shares[:, kernels], axis=0)
            until[-1] = 1.0  # whatever rounding made of it
            samples[:, place] = (until < rng.rand(n_samples)).sum(axis=0)
        if axes.numbers:
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
        axes = self._axes
        numbers = samples[:, axes.numbers].T
        from_middle = axes.along(numbers)[self._free].T - self._means[self._free, -1]
        total: Numbers = self._base + from_middle @ self._pull - 0.5 * (from_middle**2 @ self._precisions)
        for place, shares in self._shares.items():
            total += np.log(shares)[samples[:, place].astype(np.int64)]
        for axis, (kernels, which) in self._different.items():
            means, sigmas = np.append(kernels, [self._means[axis, -1:], self._sigmas[axis, -1:]], axis=1)
            values, places = np.unique(numbers[axis], return_inverse=True)
            half = 0.5 * axes.steps[axis]
            edges = [np.log(edge) if axes.is_log[axis] else edge for edge in (values - half, values + half)]
            with np.errstate(divide="ignore"):  # far from a kernel there is nothing of it
                log_masses = np.log(_mass(*((edge[:, None] - means) / sigmas for edge in edges)))
            total += log_masses[:, np.append(which, -1)][places]
        return total


def _shares(chosen: Places, n_choices: int) -> Numbers:
    """Of each choice in each kernel (choices, N + 1): mostly that of the trial, and a little of all."""
    shares = np.full((n_choices, len(chosen) + 1), 1.0 / (len(chosen) + 1))
    shares[chosen, np.arange(len(chosen))] += 1.0
    shares /= shares.sum(axis=0)
    return shares


def _different(order: Places, means: Numbers, sigmas: Numbers) -> tuple[Numbers, Places]:
    """The different ones of some kernels in order of their means (2, different), and which of them each trial has."""
    is_new = np.ones(len(means), dtype=np.bool_)
    is_new[1:] = (np.diff(means) > 0) | (np.diff(sigmas) != 0)
    which = np.empty(len(means), dtype=np.int64)
    which[order] = np.cumsum(is_new) - 1
    return np.stack([means[is_new], sigmas[is_new]]), which


def _mass(low: Numbers, high: Numbers) -> Numbers:
    """Of the normal distribution between two numbers; reckoned in the left tail, where few digits are lost."""
    is_right = low > 0
    return np.asarray(ndtr(np.where(is_right, -low, high)) - ndtr(np.where(is_right, -high, low)))
