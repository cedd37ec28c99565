"""Dominance and hypervolume against brute force and against Optuna's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from optuna._hypervolume import compute_hypervolume

from kansearch.pareto import (
    Fronts,
    as_losses,
    distinct,
    dominance,
    dominance_counts,
    front_mask,
    hypervolume,
    non_dominated_ranks,
)

points = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.integers(0, 6).map(float),
)


@given(points)
def test_front_is_what_brute_force_finds(losses: np.ndarray) -> None:
    """A vector is on the front exactly when no other one is nowhere worse and somewhere better."""
    expected = [not any(all(other <= mine) and any(other < mine) for other in losses) for mine in losses]
    assert front_mask(losses).tolist() == expected


@given(points)
def test_ranks_peel_one_front_after_the_other(losses: np.ndarray) -> None:
    """Without the fronts before it, every rank is the front of what is left."""
    losses = distinct(losses)
    ranks = non_dominated_ranks(losses)
    for rank in range(ranks.max() + 1):
        left = ranks >= rank
        assert ((ranks == rank)[left] == front_mask(losses[left])).all()


@given(points)
def test_dominance_is_counted_as_in_the_matrix(losses: np.ndarray) -> None:
    """Of some of the vectors, among all of them; and different vectors are those that NumPy finds."""
    vectors = distinct(losses)
    assert vectors.tolist() == np.unique(losses, axis=0).tolist()
    matrix = dominance(vectors)
    n_dominators, n_dominated = dominance_counts(vectors[::2], vectors)
    assert n_dominators.tolist() == matrix.sum(axis=0)[::2].tolist()
    assert n_dominated.tolist() == matrix.sum(axis=1)[::2].tolist()


@given(points)
def test_nobody_dominates_itself_and_dominance_is_one_sided(losses: np.ndarray) -> None:
    """Dominance is irreflexive and antisymmetric."""
    matrix = dominance(losses)
    assert not matrix.diagonal().any()
    assert not (matrix & matrix.T).any()


@given(points)
def test_hypervolume_equals_optunas(losses: np.ndarray) -> None:
    """In one to four dimensions the volume is the one that Optuna computes."""
    reference = np.full(losses.shape[1], 7.0)
    assert hypervolume(losses, reference) == pytest.approx(compute_hypervolume(losses, reference))


def test_hypervolume_counts_nothing_beyond_the_reference() -> None:
    """A vector outside the reference adds nothing, and no vectors have no volume."""
    assert hypervolume(np.array([[1.0, 9.0]]), [2.0, 2.0]) == 0.0
    assert hypervolume(np.empty((0, 2)), [2.0, 2.0]) == 0.0


def test_hypervolume_refuses_an_endless_reference() -> None:
    """An infinite reference gives a message instead of an infinite volume."""
    with pytest.raises(ValueError, match="must be finite"):
        hypervolume(np.array([[1.0]]), [np.inf])


def test_losses_turn_maximised_objectives_round_and_nan_is_worst() -> None:
    """A maximised value becomes its negative; a value that is no number loses against all."""
    losses = as_losses([[0.9, 10.0], [np.nan, 5.0]], maximize=[True, False])
    assert losses.tolist() == [[-0.9, 10.0], [np.inf, 5.0]]


@given(points, st.data())
def test_fronts_that_fill_up_are_those_of_all(losses: np.ndarray, data: st.DataObject) -> None:
    """One after another, in any order, with as many fronts sorted as somebody asks for in between."""
    different = distinct(losses)
    fronts = Fronts(different[:0])
    for vector in data.draw(st.permutations(different.tolist())):
        fronts.add(np.array(vector))
        fronts.hold(data.draw(st.integers(0, len(different) + 1)))
    fronts.hold(len(different))
    ranks = non_dominated_ranks(different)
    expected = [different[ranks == rank] for rank in range(max(ranks, default=-1) + 1)]
    assert [sorted(front.tolist()) for front in fronts.fronts] == [sorted(front.tolist()) for front in expected]
