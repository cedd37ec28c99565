"""Packs in a search: what they decide, and how they go on after they were lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kansearch.data.splits import load_split
from kansearch.search.study_pack import StudyPack
from kansearch.specs.trial import RungResult, TrialRecord, TrialSpec
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import checkpoint_write, hand_back, read_records, write
from kansearch.training.group import Group
from kansearch.training.pack import Pack
from kansearch.training.recorded import RecordedPack
from tests.studies import search

MakeStudy = Callable[..., StoredStudy]

LONG = ("budget={trials: 6, epochs: 9}", "search.pruner={name: none}", "search.sampler=random")


def outcome(record: TrialRecord) -> tuple[Any, ...]:
    """What a trial was and measured, without its clock."""
    return record.params, record.seed, record.state, record.values, record.points, record.epochs


@pytest.mark.slow
def test_a_pruned_study_makes_the_decisions_that_it_makes_alone(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty trials in float64, pruned, in packs of 16: each computed with its neighbours, and each by itself."""
    overrides = ("budget={trials: 40, epochs: 9}", "space.dtype=float64", "space.base_function=[tanh, gaussian, sin]")
    packed = search(make_study(*overrides, "name=packed"), size=16)

    def one_at_once(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._at_once = 1

    begin = Group.__init__
    monkeypatch.setattr(Group, "__init__", one_at_once)
    alone = search(make_study(*overrides, "name=alone"), size=16)
    records = read_records(packed)
    assert [outcome(r) for r in records] == [outcome(r) for r in read_records(alone)]
    assert {r.state for r in records} == {"complete", "pruned"}


def test_a_study_is_replayed_without_training(make_study: MakeStudy) -> None:
    """From what its trials measured, on the same ways: decisions, values, curves; and after a hand-back, too."""
    overrides = ("budget={trials: 8, epochs: 9}", "search.sampler=random")
    split = load_split(make_study(*overrides, "name=data").spec.data)
    results: dict[tuple[int, int], RungResult] = {}

    class Recording(Pack):
        def admit(self, spec: TrialSpec, checkpoint: bytes | None = None) -> int:
            slot = super().admit(spec, checkpoint)
            seeds[slot] = spec.seed
            return slot

        def advance(self, is_over: Callable[[], bool] = lambda: False) -> list[RungResult]:
            found = super().advance(is_over)
            results.update({(seeds[result.slot], result.epoch): result for result in found})
            return found

    seeds: dict[int, int] = {}
    trained = search(make_study(*overrides, "name=trained"), split, open_pack=Recording)
    replay = partial(RecordedPack, replay=lambda spec, epoch: results[spec.seed, epoch])
    replayed = make_study(*overrides, "name=replayed")
    pack = StudyPack(replayed, split, open_pack=replay)
    pack.fill()
    pack.advance()
    pack.hand_back("its worker was asked to stop")
    search(replayed, split, open_pack=replay)
    records = [outcome(r) for r in read_records(replayed) if r.state != "fail"]
    assert records == [outcome(r) for r in read_records(trained)]


@pytest.mark.parametrize("torn", [False, True])
def test_trials_of_a_lost_pack_end_as_if_it_had_not_been_lost(make_study: MakeStudy, torn: bool) -> None:
    """They go on from their last rung; where a checkpoint is torn, from the beginning, to the same end."""
    undisturbed = [outcome(record) for record in read_records(search(make_study(*LONG, "name=undisturbed"), size=6))]
    study = make_study(*LONG)
    lost = StudyPack(study, load_split(study.spec.data), size=6)
    lost.fill()
    while not all(record.epochs >= 3 for record in read_records(study)):
        lost.advance()
    if torn:
        write(study, [checkpoint_write(trial, 3, b"torn") for trial in lost.trials])
    for trial in lost.trials:
        hand_back(study, trial.id, "its worker died", died=True)
    heir = StudyPack(study, load_split(study.spec.data), size=6)
    heir.fill()
    epoch = 0 if torn else 3
    assert {record.epochs for record in read_records(study) if record.state == "running"} == {epoch}
    while heir.trials:
        heir.advance()
    records = read_records(study)
    assert [outcome(record) for record in records if record.state != "fail"] == undisturbed
    assert sum(record.epochs_spent for record in records) == 6 * (3 + 9 - epoch)
    reasons = {record.reason for record in records if record.state == "fail"}
    assert any("its checkpoint is damaged" in str(reason) for reason in reasons) is torn
