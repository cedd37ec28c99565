"""Large checkpoints in a folder or a bucket: found by whoever takes a trial over, and gone when nobody needs them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from kansearch.errors import KansearchError, StorageError, UserError
from kansearch.storage import artifacts
from kansearch.storage.artifacts import artifacts_at, parse_place, sweep
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.tables import ArtifactModel
from kansearch.storage.trials import checkpoint_write, fail_write, hand_back, resume_trial, write
from kansearch.storage.writes import StoredCheckpoint
from tests.storage.test_trials import begin

MakeStudy = Callable[..., StoredStudy]

BIG = os.urandom(artifacts.LARGE + 1)


@pytest.fixture
def storage_url(any_storage_url: str) -> str:
    """All of this on every database."""
    return any_storage_url


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of an S3-compatible server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def sign_in(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    artifacts_at.cache_clear()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder, or a bucket with a prefix."""
    if request.param == "folder":
        (tmp_path / "artifacts").mkdir()
        return str(tmp_path / "artifacts")
    sign_in(monkeypatch, request.getfixturevalue("s3"))
    bucket = f"b{os.urandom(6).hex()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


def kept(place: str) -> list[str]:
    """The keys that are there."""
    if not place.startswith("s3://"):
        return [path.name for path in Path(place).iterdir()]
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    found = boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    assert all(entry["Key"].startswith(f"{prefix}/") for entry in found)
    return [entry["Key"] for entry in found]


@pytest.fixture
def study(make_study: MakeStudy, place: str) -> StoredStudy:
    study = make_study("budget.trials=3")
    study.set_budget(study.spec.budget, place)
    return study


def test_large_checkpoints_lie_apart(study: StoredStudy, place: str) -> None:
    """From life to life; a later one takes the place of an earlier one, and at the end nothing is left."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])
    assert len(kept(place)) == 1
    inside = study.storage.ledger.checkpoint(trial.id)
    assert inside is not None
    assert (inside.state, inside.artifact is None) == (b"", False)
    hand_back(study, trial.id, "its worker died", died=True)
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, BIG)
    write(study, [checkpoint_write(again, 3, BIG[::-1])])
    assert len(kept(place)) == 1
    hand_back(study, again.id, "its worker died", died=True)
    last = resume_trial(study)
    assert last is not None
    assert last.checkpoint == StoredCheckpoint(3, BIG[::-1])
    write(study, [fail_write(last, "for a test")])
    assert kept(place) == []


def test_small_checkpoints_stay_in_the_database(study: StoredStudy, place: str) -> None:
    """Where one transaction writes them with their rung."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, b"small")])
    assert kept(place) == []
    assert study.storage.ledger.checkpoint(trial.id) == StoredCheckpoint(1, b"small")


def test_a_paused_worker_leaves_nothing_behind(study: StoredStudy, place: str) -> None:
    """It wakes up when its trial has been taken over, and that one's checkpoint stays."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])
    hand_back(study, trial.id, "its worker died", died=True)
    assert write(study, [checkpoint_write(trial, 3, BIG)]) == {trial.id}
    assert len(kept(place)) == 1
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, BIG)


def test_what_the_dead_left_behind_is_swept(study: StoredStudy, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the artifact and the row that refers to it, or before its trial's was removed."""
    trial = begin(study)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(study.storage.ledger), "write", die)
        with pytest.raises(KeyboardInterrupt):
            write(study, [checkpoint_write(trial, 1, BIG)])
    assert len(kept(place)) == 1
    sweep(study.storage.ledger)
    assert len(kept(place)) == 1  # its trial runs, and its worker may be about to refer to it
    study.storage.ledger.write(study.study_id, [fail_write(trial, "for a test")])
    sweep(study.storage.ledger)
    assert kept(place) == []
    assert sweep(study.storage.ledger) == 0


def test_a_deleted_study_leaves_nothing_behind(study: StoredStudy, place: str) -> None:
    """The dashboard deletes studies, and knows nothing of their artifacts."""
    write(study, [checkpoint_write(begin(study), 1, BIG)])
    study.storage.delete_study(study.study_id)
    assert sweep(study.storage.ledger) == 1
    assert kept(place) == []


def test_a_removed_artifact_lets_its_trial_begin_again(study: StoredStudy, place: str) -> None:
    """Its checkpoint is empty then, which is none."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])
    [key] = kept(place)
    artifacts_at(place).remove(Path(key).name)
    hand_back(study, trial.id, "its worker died", died=True)
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint is not None
    assert again.checkpoint.state == b""


def test_a_study_may_move(study: StoredStudy, place: str, tmp_path: Path) -> None:
    """What lies at the old place is found there."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])
    other = tmp_path / "other"
    other.mkdir()
    study.set_budget(study.spec.budget, str(other))
    study = load_study(study.storage, study.spec.name)
    hand_back(study, trial.id, "its worker died", died=True)
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, BIG)
    write(study, [checkpoint_write(again, 3, BIG)])
    assert kept(place) == []
    assert len(kept(str(other))) == 1


def test_no_room_for_a_checkpoint_costs_only_that(
    study: StoredStudy, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The trial keeps its earlier one; half a file is never left."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])

    def fill_up(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        if place.startswith("s3://"):
            patch.setattr(artifacts_at(place)._client, "put_object", refuse)
        else:
            patch.setattr(Path, "write_bytes", fill_up)
        assert write(study, [checkpoint_write(trial, 3, BIG)]) == set()
    assert "No space left on device; trials go on with their earlier checkpoints" in caplog.text
    assert len(kept(place)) == 1
    hand_back(study, trial.id, "its worker died", died=True)
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, BIG)


def test_a_place_out_of_reach_costs_no_trial(study: StoredStudy, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a worker that reaches its checkpoint."""
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])
    hand_back(study, trial.id, "its worker died", died=True)
    study.storage.ledger.patience_s = 0.0

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(type(artifacts_at(place)), "_read", refuse)
        with pytest.raises(StorageError, match="cannot be reached: Input/output error"):
            resume_trial(study)
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, BIG)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://me:hunter2@bucket", "is no bucket"),
        ("s3://", "is no bucket"),
        ("s3://UPPER", "is no bucket"),
        ("gs://bucket", "is no place"),
        ("s3:/bucket", "is no place"),
        ("https://me:hunter2@bucket", "is no place"),
        ("", "is no place"),
        ("~nosuchuser/x", "is no folder"),
    ],
)
def test_what_is_no_place_is_refused(text: str, words: str) -> None:
    """Without showing what may be a secret."""
    with pytest.raises(UserError, match=words) as refusal:
        parse_place(text, Path())
    assert "hunter2" not in str(refusal.value)


def test_a_relative_folder_counts_from_whoever_names_it(tmp_path: Path) -> None:
    """All workers understand what is stored."""
    assert parse_place("here", tmp_path) == str(tmp_path / "here")
    assert parse_place(" s3://bucket/a/ ", tmp_path) == "s3://bucket/a"


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any trial is trained."""
    sign_in(monkeypatch, s3)
    (tmp_path / "file").write_text("")
    for place, words in {
        str(tmp_path / "missing"): "no such folder on this machine",
        str(tmp_path / "file"): "no such folder on this machine",
        "s3://no-such-bucket": "NoSuchBucket",
    }.items():
        with pytest.raises(KansearchError, match=words):
            artifacts_at(place).check()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    artifacts_at.cache_clear()
    with pytest.raises(StorageError, match="Could not connect"):
        artifacts_at("s3://bucket").check()


def test_a_folder_that_is_not_there_is_out_of_reach(make_study: MakeStudy, tmp_path: Path) -> None:
    """A share that is not mounted is not empty: its checkpoints wait, and nothing is forgotten."""
    study = make_study("budget.trials=3")
    (tmp_path / "share").mkdir()
    study.set_budget(study.spec.budget, str(tmp_path / "share"))
    trial = begin(study)
    write(study, [checkpoint_write(trial, 1, BIG)])
    hand_back(study, trial.id, "its worker died", died=True)
    (tmp_path / "share").rename(tmp_path / "away")
    study.storage.ledger.patience_s = 0.0
    with pytest.raises(StorageError, match="no such folder on this machine"):
        resume_trial(study)
    assert sweep(study.storage.ledger) == 0
    (tmp_path / "away").rename(tmp_path / "share")
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, BIG)


def test_places_of_other_studies_stop_nobody(make_study: MakeStudy) -> None:
    """What was left in a bucket that this machine does not reach is swept by one that does."""
    study = make_study("budget.trials=3")
    with study.storage.ledger.session() as session:
        session.add(ArtifactModel(artifact="k", place="s3://no-such-bucket-here", trial_id=10**6))
    sweep(study.storage.ledger)
    with study.storage.ledger.session() as session:
        assert session.get(ArtifactModel, "k") is not None
