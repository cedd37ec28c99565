"""Training on data that make the mathematics hard: inputs without spread, and fewer rows than parameters."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from kansearch.data.splits import Split, load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import End, ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.loop import train

EPOCHS = 6


def split_of(path: Path, columns: dict[str, np.ndarray]) -> Split:
    """A table of these columns, of which y is predicted."""
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return load_split(DataSpec(path=path, target="y", task="regression"))


@pytest.mark.parametrize("base", ["b_spline", "rbf", "chebyshev", "fourier"])
def test_fitted_grids_bear_inputs_of_one_or_two_values(base: str, tmp_path: Path) -> None:
    """A constant, a flag and a column with one other value in 120 do not make a grid collapse."""
    random = np.random.default_rng(0)
    n = 120
    flag, x = np.arange(n) % 2, random.random(n)
    rare = (np.arange(n) == 7).astype(int)
    split = split_of(tmp_path / "t.csv", {"flag": flag, "same": np.full(n, 7), "rare": rare, "x": x, "y": flag + x**2})
    trials = [
        TrialSpec(
            model=ModelSpec(family="kan", base_function=base, grid="fitted", width=4),
            training=TrainingSpec(epochs=EPOCHS, grid_updates=3, refinements=refinements, polish=polish),
            rungs=(EPOCHS,),
        )
        for refinements, polish in product((0, 2), (0.0, 0.5))
    ]
    for result in train(trials, split):
        assert result.end is End.COMPLETED, result.reason
        assert result.metrics["rmse"] < 10


def test_polishers_bear_fewer_rows_than_parameters(tmp_path: Path) -> None:
    """Ten training rows and up to a thousand parameters: finite results, or a divergence with its reason."""
    columns = dict(zip("abcdy", np.random.default_rng(0).random((5, 16)).round(3), strict=True))
    split = split_of(tmp_path / "t.csv", columns)
    trials = [
        TrialSpec(
            model=ModelSpec(family=family, width=16),
            training=TrainingSpec(epochs=EPOCHS, polish=polish, polisher=polisher, dtype=dtype),
            rungs=(EPOCHS,),
        )
        for family, polish, polisher, dtype in product(
            ("kan", "mlp"), (0.5, 1.0), ("lbfgs", "levenberg_marquardt"), ("float32", "float64")
        )
    ]
    results = list(train(trials, split))
    assert len(results) == len(trials)
    for result in results:
        assert result.end is End.COMPLETED or (result.end is End.DIVERGED and result.reason)
        assert all(torch.tensor(list(result.metrics.values())).isfinite())
    assert sum(result.end is End.COMPLETED for result in results) >= len(trials) / 2
