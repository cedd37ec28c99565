"""What trials draw for themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kansearch.data.splits import Split, load_split
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.batches import masks_of_trial
from kansearch.training.trainee import Trainee


@pytest.fixture(scope="module")
def iris() -> Split:
    return load_split(DataSpec(name="iris"))


def test_masks_of_an_epoch_are_those_of_its_parts(iris: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn in one call, or as a group does: a few steps a call. How many are drawn at once decides what they are."""
    model = ModelSpec(family="mlp", width=9, depth=3, dropout=0.4)
    spec = TrialSpec(model=model, training=TrainingSpec(epochs=1), rungs=(1,), seed=3)

    def masks(*calls: int) -> list[Tensor]:
        trainee = Trainee(0, spec, iris)
        return [torch.cat(rows) for rows in zip(*(masks_of_trial(trainee, n, 32) for n in calls), strict=True)]

    at_once = masks(7)
    monkeypatch.setattr("kansearch.training.batches.MASK_NUMBERS", 2 * 32 * 16)  # two steps of rows as wide as 16
    whole, parts = masks(7), masks(2, 4, 1)
    assert [of_row.shape for of_row in whole] == [(7, 32, 9)] * 2
    assert all(torch.equal(*both) for both in zip(whole, parts, strict=True))
    assert not torch.equal(whole[1], at_once[1])
    assert sorted(whole[0].unique().tolist()) == [0, pytest.approx(1 / 0.6)]
    assert whole[0].mean().item() == pytest.approx(1, abs=0.1)
