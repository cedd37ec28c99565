"""Studies deleted for good: nothing of them is left, and nobody takes another one for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.storages._rdb import models
from sqlalchemy import func, select, text

from kansearch.errors import UserError
from kansearch.specs.trial import End
from kansearch.storage.artifacts import LARGE, sweep
from kansearch.storage.deletion import delete_study
from kansearch.storage.studies import StoredStudy, find_study, load_study
from kansearch.storage.tables import OwnTable
from kansearch.storage.trials import checkpoint_write, complete_write, fail_write, hand_back, rung_write, write
from kansearch.storage.url import open_storage
from tests.storage.test_trials import begin, result

MakeStudy = Callable[..., StoredStudy]

BIG = os.urandom(LARGE + 1)


@pytest.fixture
def storage_url(database_url: str) -> str:
    """All of this on every database."""
    return database_url


def rows(study: StoredStudy) -> dict[str, int]:
    """How many each table has."""
    tables = {**models.BaseModel.metadata.tables, **OwnTable.metadata.tables}
    with study.storage.ledger.session() as session:
        return {name: session.scalar(select(func.count()).select_from(table)) for name, table in tables.items()}


def fill(study: StoredStudy) -> None:
    """Trials of several kinds, with whatever belongs to them."""
    done, running, lost = begin(study, 0.01), begin(study, 0.02), begin(study, 0.03)
    write(study, [rung_write(study, trial, result(0, 1)) for trial in (done, running, lost)])
    write(study, [complete_write(study, done, result(1, 3, End.COMPLETED))])
    write(study, [checkpoint_write(running, 1, BIG), checkpoint_write(lost, 1, b"small")])
    hand_back(study, lost.id, "its worker died", died=True)


def test_nothing_is_left_of_a_deleted_study(make_study: MakeStudy, tmp_path: Path) -> None:
    """In no table and in no place of artifacts; another study stays as it is, and the name is free."""
    other = make_study("name=other")
    fill(other)
    before, place = rows(other), tmp_path / "artifacts"
    place.mkdir()
    study = make_study("name=small", artifacts=str(place))
    fill(study)
    assert len(list(place.iterdir())) == 1
    assert delete_study(study) == 0
    assert rows(other) == before
    assert list(place.iterdir()) == []
    assert [trial.state.name for trial in other.trials()] == ["COMPLETE", "RUNNING", "FAIL", "WAITING"]
    assert find_study(study.storage, "small") is None
    assert make_study().trials() == []
    with pytest.raises(UserError, match='study "small" was deleted'):
        delete_study(study)


def test_artifacts_out_of_reach_are_left_to_the_next_worker(make_study: MakeStudy, tmp_path: Path) -> None:
    """Whoever deletes learns how many."""
    place, away = tmp_path / "artifacts", tmp_path / "away"
    place.mkdir()
    study = make_study(artifacts=str(place))
    fill(study)
    place.rename(away)
    assert delete_study(study) == 1
    away.rename(place)
    assert sweep(study.storage.ledger) == 1
    assert list(place.iterdir()) == []


def test_a_new_study_is_not_taken_for_a_deleted_one(make_study: MakeStudy, storage_url: str) -> None:
    """Not by a process that remembers its trials, nor by one that still trains them, even where the names are equal."""
    study = make_study()
    late = begin(study)
    write(study, [fail_write(begin(study, 0.02), "for a test")])
    standing = load_study(open_storage(storage_url), "small")
    assert len(standing.trials()) == 2
    assert standing.artifacts is None  # as a worker asks at its start
    if storage_url.startswith("sqlite"):
        with study.storage.ledger.engine.begin() as connection:
            connection.execute(text("PRAGMA user_version = 0"))  # as where Optuna made the study
    delete_study(study)
    new = make_study()
    first = begin(new)
    assert [trial._trial_id for trial in load_study(standing.storage, "small").trials()] == [first.id]
    with pytest.raises(UserError, match='study "small" was deleted'):
        _ = standing.is_stopped
    assert write(standing, [rung_write(standing, late, result(0, 1))]) == {late.id}
    assert not hand_back(standing, late.id, "its worker left the study", died=False)
    assert new.trials()[0].user_attrs.keys().isdisjoint({"kansearch:rung:0"})
