"""When grids are fitted to the data, and how fine they are, in the course of a training."""

from __future__ import annotations

from kansearch.models.bases import MAX_SPLINE_ORDER
from kansearch.specs.trial import FIXED_BASES, ModelSpec, TrainingSpec


def model_during(model: ModelSpec, training: TrainingSpec, epoch: int) -> ModelSpec:
    """The network as it is while an epoch, from 0, is trained.

    >>> model, training = ModelSpec(base_function="rbf", n_basis=8), TrainingSpec(epochs=9, refinements=2)
    >>> [model_during(model, training, epoch).n_basis for epoch in range(9)]
    [2, 2, 2, 4, 4, 4, 8, 8, 8]
    """
    if not training.refinements or not _has_grid(model):
        return model
    part = (training.refinements + 1) * epoch // training.epochs
    return model.model_copy(update={"n_basis": _coarser(model, max(0, training.refinements - part))})


def is_fitted_before(model: ModelSpec, training: TrainingSpec, epoch: int) -> bool:
    """Whether grids are fitted before an epoch, from 0.

    >>> model, training = ModelSpec(base_function="rbf", grid="fitted"), TrainingSpec(epochs=20, grid_updates=2)
    >>> [epoch for epoch in range(20) if is_fitted_before(model, training, epoch)]
    [0, 5, 10]
    """
    if model.grid == "fixed" or not _has_grid(model):
        return False
    n_updates = training.grid_updates
    return epoch in {round(update * training.epochs / 2 / max(1, n_updates)) for update in range(n_updates + 1)}


def _has_grid(model: ModelSpec) -> bool:
    return model.family != "mlp" and model.layer == "dictionary" and model.base_function in FIXED_BASES


def _coarser(model: ModelSpec, times: int) -> int:
    """Functions of a grid before so many refinements: those of B-splines lose half of their intervals each time."""
    if model.base_function == "b_spline" and model.n_basis > MAX_SPLINE_ORDER + 1:
        # So many functions more than its grid has intervals.
        return MAX_SPLINE_ORDER + max(1, (model.n_basis - MAX_SPLINE_ORDER) >> times)
    return max(min(2, model.n_basis), model.n_basis >> times)
