"""Images seen a little differently every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kansearch.data.splits import load_split
from kansearch.errors import UserError
from kansearch.search.effects import check_feasible
from kansearch.specs.data import DataSpec, ImageShape
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.augmentation import draw_moves, moved
from kansearch.training.loop import train


def test_images_are_moved_and_mirrored() -> None:
    """Down and right, or mirrored; what comes in repeats the edge."""
    image = torch.arange(6.0).view(1, 1, 6)  # 0 1 2 / 3 4 5

    def after(*move: int) -> list[float]:
        return moved(image, torch.tensor([[move]]), ImageShape(1, 2, 3)).flatten().tolist()

    assert after(0, 0, 0) == [0, 1, 2, 3, 4, 5]
    assert after(1, 0, 0) == [0, 1, 2, 0, 1, 2]
    assert after(-1, 1, 0) == [3, 3, 4, 3, 3, 4]
    assert after(0, 0, 1) == [2, 1, 0, 5, 4, 3]
    colours = torch.arange(24.0).view(1, 2, 12)
    both = moved(colours, torch.tensor([[[1, 0, 0], [0, 0, 1]]]), ImageShape(2, 2, 3))
    assert both[0, 1].view(2, 2, 3).equal(colours[0, 1].view(2, 2, 3).flip(-1))


def test_moves_are_drawn_as_the_spec_says() -> None:
    """Within the shift, both ways, every value; half are mirrored; and nothing is drawn where nothing moves."""
    random = torch.Generator().manual_seed(0)
    moves = draw_moves(TrainingSpec(shift=2, flip=True), 20, 100, random)
    assert moves[..., :2].unique().tolist() == [-2, -1, 0, 1, 2]
    assert 0.45 < moves[..., 2].double().mean() < 0.55
    before = random.get_state()
    assert not draw_moves(TrainingSpec(), 2, 3, random).any()
    assert random.get_state().equal(before)


def test_moved_images_train_otherwise_and_the_same_in_a_pack() -> None:
    """To the bit, beside trials that move nothing, with a dense first layer and with a fixed basis."""
    split = load_split(DataSpec(name="digits_images")).head(60)
    specs = [
        TrialSpec(model=ModelSpec(family="kan", width=5, **model), training=TrainingSpec(epochs=4, **training), seed=3)
        for model in ({"base_function": "b_spline"}, {"stem": "convolution"})
        for training in ({}, {"shift": 1}, {"flip": True}, {"shift": 2, "flip": True})
    ]
    together = {result.slot: result.points for result in train(specs, split)}
    losses = [points[-1].train_loss for points in together.values()]
    assert len(set(losses)) == len(specs)
    for slot, spec in enumerate(specs):
        assert next(train([spec], split)).points == together[slot]


@pytest.mark.parametrize(("name", "value"), [("shift", 1), ("flip", True)])
def test_rows_that_are_no_images_cannot_be_moved(
    name: str, value: object, make_spec: Callable[..., StudySpec], study_file: Path
) -> None:
    """A study that asks for it is refused, and one that asks for nothing is not."""
    with pytest.raises(UserError, match=f"space.{name} moves images, and these data are none"):
        check_feasible(make_spec(f"space.{name}={value}".lower()), 1, 1)
    check_feasible(make_spec("space.shift=0"), 1, 1)


def test_convolutions_of_a_table_are_refused(make_spec: Callable[..., StudySpec]) -> None:
    """Before anything is trained, with what is allowed."""
    with pytest.raises(UserError, match=r"stem convolution needs images, .* rows of 1 numbers; allowed: stem none"):
        check_feasible(make_spec("space.stem=convolution"), 1, 1)
