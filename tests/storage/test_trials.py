"""Trials in the storage: an exact budget, second tries, and records that say what was written."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import event, exc

from kansearch.errors import StudyChangedError, UserError
from kansearch.specs.trial import Curve, End, EpochPoint, RungResult
from kansearch.storage.ledger import BudgetSpentError, LedgerStorage
from kansearch.storage.studies import StoredStudy, create_study, find_study, load_study, refuse_changes
from kansearch.storage.trials import (
    MAX_DEATHS,
    WORKER,
    Candidate,
    RunningTrial,
    begin_trials,
    checkpoint_write,
    complete_write,
    fail_write,
    hand_back,
    prune_write,
    read_records,
    rescue_lost_trials,
    resume_trial,
    rung_write,
    write,
)
from kansearch.storage.url import open_storage
from kansearch.storage.workers import Presence, Watch, worker_name
from kansearch.storage.writes import StoredCheckpoint, TrialWrite

from .rivals import at_once, claim_all, rescue, resume_one

MakeStudy = Callable[..., StoredStudy]


@pytest.fixture
def storage_url(any_storage_url: str) -> str:
    """All of this on every database."""
    return any_storage_url


def candidate(rate: float = 0.01) -> Candidate:
    distributions = {"learning_rate": FloatDistribution(0.001, 0.1, log=True)}
    return Candidate({"learning_rate": rate}, distributions, seed=7, rejected=2, system_attrs={})


def result(rung: int, epoch: int, end: End | None = None, **metrics: float) -> RungResult:
    points = (EpochPoint(epoch=epoch, train_loss=1 / epoch, validation_loss=2 / epoch),)
    measured = {"rmse": 1 / epoch, "parameters": 10.0, **metrics}
    curves = (Curve(layer=0, source=0, target=1, amplitude=0.5, x=(0.0, 1.0), y=(1.0, 2.0)),) if end else ()
    return RungResult(slot=0, rung=rung, epoch=epoch, metrics=measured, points=points, end=end, curves=curves)


def begin(study: StoredStudy, rate: float = 0.01) -> RunningTrial:
    (trial,) = begin_trials(study, [candidate(rate)], n_seen=len(study.trials()))
    return trial


def test_what_is_written_is_read_back(make_study: MakeStudy) -> None:
    """A complete trial's record holds its values, its whole curve, its costs and its activations."""
    study = make_study()
    trial = begin(study)
    write(study, [rung_write(study, trial, result(0, 1))])
    last = result(1, 3, End.COMPLETED)
    write(study, [rung_write(study, trial, last)])
    write(study, [complete_write(study, trial, last)])
    (record,) = read_records(study)
    assert record.state == "complete"
    assert record.values == {"rmse": 1 / 3, "parameters": 10.0}
    assert [point.epoch for point in record.points] == [1, 3]
    assert (record.epochs, record.seed, record.feasible) == (3, 7, True)
    assert record.curves == last.curves
    assert record.params == {"learning_rate": 0.01}


def test_a_write_that_the_database_refuses_has_changed_nothing(make_study: MakeStudy) -> None:
    """Whatever of it is sent together; the next write is as good as ever."""
    study = make_study()
    trial = begin(study)
    no_epoch: Any = None
    refused = TrialWrite(trial.id, {"before": 1}, checkpoint=StoredCheckpoint(no_epoch, b"", None))
    with pytest.raises(exc.IntegrityError):
        write(study, [refused, fail_write(trial, "out of memory")])
    (stored,) = study.trials()
    assert stored.state is TrialState.RUNNING
    assert "before" not in stored.user_attrs
    write(study, [fail_write(trial, "out of memory")])
    assert study.counts()["fail"] == 1


def test_only_a_server_is_away(make_study: MakeStudy) -> None:
    """The time of an answer is measured; a file has none."""
    ledger = make_study().storage.ledger
    assert (ledger.round_trip_s() == 0) == (ledger.engine.name == "sqlite")


def test_a_pruned_trial_keeps_its_curve_and_is_infeasible_for_the_sampler(make_study: MakeStudy) -> None:
    """A pruned trial has no values, keeps its reason, and never counts as feasible."""
    study = make_study()
    trial = begin(study)
    write(study, [rung_write(study, trial, result(0, 1))])
    write(study, [prune_write(study, trial, "pruned at epoch 1", progress=1 / 3)])
    (record,) = read_records(study)
    assert (record.state, record.values, record.epochs) == ("pruned", {}, 1)
    assert record.reason == "pruned at epoch 1"
    assert not record.feasible


def test_a_broken_constraint_makes_a_complete_trial_infeasible(make_study: MakeStudy) -> None:
    """A bound known after training only leaves the trial complete, and marks it."""
    study = make_study("constraints=['rmse <= 0.1']")
    trial = begin(study)
    write(study, [complete_write(study, trial, result(0, 3, End.COMPLETED))])
    (record,) = read_records(study)
    assert record.state == "complete"
    assert not record.feasible


def test_the_budget_counts_every_trial_but_failed_ones(make_study: MakeStudy) -> None:
    """Running, complete, pruned and waiting trials use budget; a failed one gives its place back."""
    study = make_study("budget.trials=3")
    trials = [begin(study) for _ in range(3)]
    with pytest.raises(BudgetSpentError):
        begin(study)
    write(study, [fail_write(trials[0], "out of memory")])
    begin(study)
    write(study, [complete_write(study, trials[1], result(0, 3, End.COMPLETED))])
    write(study, [prune_write(study, trials[2], "pruned at epoch 1", 0.3)])
    with pytest.raises(BudgetSpentError):
        begin(study)
    study.set_budget(study.spec.budget.model_copy(update={"trials": 4}))
    begin(study)


def test_of_several_new_trials_the_budget_lets_the_first_ones_in(make_study: MakeStudy) -> None:
    """Four are drawn where two have a place: two begin, in order, and whole."""
    study = make_study("budget.trials=3")
    begin(study)
    begun = begin_trials(study, [candidate(rate) for rate in (0.02, 0.03, 0.04, 0.05)], n_seen=1)
    assert [(trial.number, trial.params) for trial in begun] == [
        (1, {"learning_rate": 0.02}),
        (2, {"learning_rate": 0.03}),
    ]
    assert [record.params for record in read_records(study)][1:] == [trial.params for trial in begun]


def test_what_somebody_else_began_in_the_meantime_is_not_begun_again(make_study: MakeStudy) -> None:
    """Two workers that looked at the same trials may draw the same candidate; whoever is late leaves it out."""
    study = make_study()
    n_seen = len(study.trials())
    drawn = [candidate(0.02), replace(candidate(0.03), seed=8)]
    assert len(begin_trials(study, drawn[:1], n_seen)) == 1
    assert [trial.seed for trial in begin_trials(study, drawn, n_seen)] == [8]
    assert begin_trials(study, drawn, n_seen) == []
    assert len(begin_trials(study, drawn, n_seen + 2)) == 2


def test_a_budget_below_what_counts_already_is_refused(make_study: MakeStudy) -> None:
    """Trials that ended, run or wait cannot be taken back; failed ones do not count."""
    study = make_study()
    broken, ended, waiting, _ = [begin(study) for _ in range(4)]
    write(study, [fail_write(broken, "out of memory"), prune_write(study, ended, "pruned at epoch 1", 0.3)])
    hand_back(study, waiting.id, "its worker was asked to stop", died=False)
    with pytest.raises(UserError, match=r"is 2; .* has 3 trials already .*: at least 3"):
        study.set_budget(study.spec.budget.model_copy(update={"trials": 2}))
    assert study.budget == 6
    study.set_budget(study.spec.budget.model_copy(update={"trials": 3}))
    assert study.budget == find_study(study.storage, "small").spec.budget.trials == 3  # type: ignore[union-attr]


def test_processes_that_claim_at_once_never_exceed_the_budget(make_study: MakeStudy, storage_url: str) -> None:
    """Four processes that claim as fast as they can get exactly the budget between them, each number once."""
    study = make_study("budget.trials=24")
    assert sum(at_once(4, claim_all, storage_url)) == 24
    assert [record.number for record in read_records(study)] == list(range(24))


def test_a_study_is_made_as_optuna_makes_one(make_study: MakeStudy, storage_url: str) -> None:
    """Ours and Optuna's are the same to Optuna, but for their attributes."""
    ours = optuna.load_study(study_name=make_study().spec.name, storage=storage_url)
    theirs = optuna.create_study(storage=storage_url, study_name="theirs", directions=["minimize"] * 2)
    theirs.set_metric_names(["rmse", "parameters"])
    assert (ours.directions, ours.metric_names) == (theirs.directions, theirs.metric_names)
    theirs.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    ours.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    assert [trial.values for trial in ours.best_trials] == [trial.values for trial in theirs.best_trials]


def test_a_trial_is_read_as_optuna_reads_it(make_study: MakeStudy, storage_url: str) -> None:
    """Every field of a running, a complete, a failed and a waiting trial; also of those that a process wrote itself."""
    study = make_study()
    running, done, broken, lost = [begin(study) for _ in range(4)]
    write(study, [rung_write(study, trial, result(0, 1)) for trial in (running, done)])
    write(study, [complete_write(study, done, result(1, 3, End.COMPLETED))])
    write(study, [fail_write(broken, "out of memory")])
    hand_back(study, lost.id, "its worker died", died=True)
    plain = optuna.load_study(study_name="small", storage=storage_url).get_trials()
    for trials in (study.trials(), load_study(open_storage(storage_url), "small").trials()):
        assert [vars(trial) for trial in trials] == [vars(trial) for trial in plain]


def test_a_process_reads_what_others_changed_and_nothing_else(make_study: MakeStudy, storage_url: str) -> None:
    """Whatever each of two does, both know the same trials; where nothing changed one statement tells."""
    ours = make_study()
    theirs = load_study(open_storage(storage_url), "small")
    statements: list[str] = []
    event.listen(ours.storage.ledger.engine, "before_cursor_execute", lambda *said: statements.append(said[2]))

    def n_statements_of_a_look() -> int:
        before = len(statements)
        assert [vars(trial) for trial in ours.trials()] == [vars(trial) for trial in theirs.trials()]
        return len(statements) - before

    first, second = begin(ours), begin(ours)
    other = begin(theirs, 0.02)
    assert n_statements_of_a_look() > 1
    assert n_statements_of_a_look() == 1
    write(ours, [rung_write(ours, first, result(0, 1)), checkpoint_write(first, 1, b"state")])
    assert n_statements_of_a_look() == 1
    write(theirs, [rung_write(theirs, other, result(0, 1))])
    assert n_statements_of_a_look() > 1
    assert hand_back(theirs, first.id, "its worker died", died=True)
    late = [rung_write(ours, first, result(1, 3)), complete_write(ours, second, result(1, 3, End.COMPLETED))]
    assert write(ours, late) == {first.id}
    assert n_statements_of_a_look() > 1
    assert n_statements_of_a_look() == 1
    assert [trial.state.name for trial in ours.trials()] == ["FAIL", "COMPLETE", "RUNNING", "WAITING"]


def test_a_new_trial_never_has_the_checkpoint_of_a_deleted_one(make_study: MakeStudy, storage_url: str) -> None:
    """SQLite gives the ids of a deleted study's trials to the next; what is left of those is not theirs."""
    study = make_study()
    write(study, [checkpoint_write(begin(study), 1, b"state")])
    optuna.delete_study(study_name="small", storage=storage_url)
    again = make_study()
    trial = begin(again)
    hand_back(again, trial.id, "its worker was asked to stop", died=False)
    second = resume_trial(again)
    assert second is not None
    assert second.checkpoint is None


def test_a_trial_handed_back_is_tried_again_with_the_same_seed(make_study: MakeStudy) -> None:
    """The second try is another trial with the same hyperparameters and seed; the budget stays the same."""
    study = make_study("budget.trials=1")
    first = begin(study, 0.05)
    write(study, [rung_write(study, first, result(0, 1))])
    assert hand_back(study, first.id, "its worker was asked to stop", died=False)
    second = resume_trial(study)
    assert second is not None
    assert (second.number, second.params, second.seed) == (1, first.params, first.seed)
    assert resume_trial(study) is None
    with pytest.raises(BudgetSpentError):
        begin(study)
    old, new = read_records(study)
    assert (old.state, old.reason, new.state) == ("fail", "its worker was asked to stop", "running")
    assert new.epochs == 0


def test_a_trial_handed_back_goes_on_from_its_checkpoint(make_study: MakeStudy) -> None:
    """Life after life, with the rungs up to the checkpoint; a rung measured after it is measured again."""
    study = make_study("budget.trials=1")
    trial = begin(study, 0.05)
    write(study, [rung_write(study, trial, result(0, 1))])
    write(study, [checkpoint_write(trial, 1, b"state")])
    write(study, [rung_write(study, trial, result(1, 3))])
    for _ in range(2):
        hand_back(study, trial.id, "its worker was asked to stop", died=False)
        assert read_records(study)[-1].epochs == 1
        again = resume_trial(study)
        assert again is not None
        assert again.checkpoint == StoredCheckpoint(1, b"state")
        trial = again
    write(study, [rung_write(study, trial, result(1, 3)), checkpoint_write(trial, 3, b"later")])
    hand_back(study, trial.id, "its worker died", died=True)
    last = resume_trial(study)
    assert last is not None
    assert last.checkpoint == StoredCheckpoint(3, b"later")
    assert read_records(study)[-1].epochs == 3
    write(study, [complete_write(study, last, result(1, 3, End.COMPLETED))])
    assert n_checkpoints(study) == 0
    # Each epoch counts where it was trained: the two after the first checkpoint were lost and trained again.
    assert [record.epochs_spent for record in read_records(study)] == [3, 0, 2, 0]


def n_checkpoints(study: StoredStudy) -> int:
    with study.storage.ledger.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM kansearch_trial_checkpoints").scalar_one())


def test_a_hand_back_that_is_cut_short_has_changed_nothing(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed in the middle of it leaves a running trial, which the next look rescues."""
    study = make_study()
    trial = begin(study)
    write(study, [rung_write(study, trial, result(0, 1)), checkpoint_write(trial, 1, b"state")])
    before = study.storage.get_trial(trial.id)
    with monkeypatch.context() as cut:
        cut.setattr(LedgerStorage, "_insert_trials", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            hand_back(study, trial.id, "its worker died", died=True)
    after = study.storage.get_trial(trial.id)
    assert (after.state, after.user_attrs) == (TrialState.RUNNING, before.user_attrs)
    assert hand_back(study, trial.id, "its worker died", died=True)
    again = resume_trial(study)
    assert again is not None
    assert again.checkpoint == StoredCheckpoint(1, b"state")


def test_a_trial_is_not_tried_for_ever(make_study: MakeStudy) -> None:
    """A trial that keeps losing its worker is given up after MAX_DEATHS further tries."""
    study = make_study()
    trial = begin(study)
    for _ in range(MAX_DEATHS):
        write(study, [checkpoint_write(trial, 1, b"state")])
        hand_back(study, trial.id, "its worker died", died=True)
        again = resume_trial(study)
        assert again is not None
        trial = again
    assert not hand_back(study, trial.id, "its worker died", died=True)
    assert resume_trial(study) is None
    assert study.counts() == Counter(fail=MAX_DEATHS + 1, complete=0, pruned=0, running=0, waiting=0, broken=0)
    assert n_checkpoints(study) == 0


def test_trials_of_a_dead_process_are_rescued_at_once(make_study: MakeStudy) -> None:
    """A running trial whose process on this host is gone waits for another worker; ours is left alone."""
    study = make_study()
    ours = begin(study)
    lost = begin(study)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = study.storage.get_trial(lost.id).user_attrs[WORKER].rpartition("/")[0]
    study.storage.set_trial_user_attr(lost.id, WORKER, f"{host}/{gone.pid}")
    assert rescue_lost_trials(study, ours={ours.id}) == 1
    states = [record.state for record in read_records(study)]
    assert states == ["running", "fail", "waiting"]
    assert study.storage.get_trial(ours.id).user_attrs[WORKER] == worker_name()


def test_a_worker_that_comes_back_too_late_does_no_harm(make_study: MakeStudy) -> None:
    """Whatever it writes of a trial that was handed back is refused; the second try counts."""
    study = make_study()
    trial = begin(study)
    hand_back(study, trial.id, "gave no sign of life", died=True)
    other = begin(study)
    writes = [rung_write(study, trial, result(0, 1)), rung_write(study, other, result(0, 1))]
    assert write(study, writes) == {trial.id}
    assert write(study, [complete_write(study, trial, result(0, 3, End.COMPLETED))]) == {trial.id}
    assert [record.state for record in read_records(study)] == ["fail", "waiting", "running"]
    assert [record.epochs for record in read_records(study)] == [0, 0, 1]
    assert study.storage.get_trial(trial.id).state is TrialState.FAIL


def test_a_study_is_found_again_by_name(make_study: MakeStudy, storage_url: str) -> None:
    """Whoever has the URL and the name gets the whole spec back, and near misses are offered."""
    study = make_study()
    again = load_study(open_storage(storage_url), "small")
    assert again.spec == study.spec
    with pytest.raises(UserError, match='did you mean "small"'):
        load_study(open_storage(storage_url), "smal")
    assert find_study(open_storage(storage_url), "other") is None


def test_a_study_of_somebody_else_is_left_alone(storage_url: str) -> None:
    """A study that Optuna made without us is named as such, not touched."""
    storage = open_storage(storage_url)
    from optuna import create_study as optuna_create_study

    optuna_create_study(storage=storage_url, study_name="theirs")
    with pytest.raises(UserError, match="not made by kansearch"):
        find_study(storage, "theirs")


def test_a_changed_space_is_refused_with_its_differences(
    make_study: MakeStudy, make_spec: Callable[..., object]
) -> None:
    """Everything that changed is listed with both values; the budget of trials may change."""
    study = make_study()
    refuse_changes(study, make_spec("budget.trials=99"), "0" * 64)  # type: ignore[arg-type]
    with pytest.raises(StudyChangedError) as caught:
        refuse_changes(study, make_spec("space.width.high=9", "budget.epochs=4"), "0" * 64)  # type: ignore[arg-type]
    assert "space.width.high: 8.0 in the storage, 9.0 in the file" in str(caught.value)
    assert "budget.epochs: 3 in the storage, 4 in the file" in str(caught.value)
    with pytest.raises(StudyChangedError, match="content"):
        refuse_changes(study, make_spec(), "1" * 64)  # type: ignore[arg-type]


def test_a_name_cannot_be_taken_twice(make_study: MakeStudy) -> None:
    """Creating a study whose name the storage holds gives a message, not a second study."""
    study = make_study()
    with pytest.raises(UserError, match="already holds"):
        create_study(study.storage, study.spec, digest="", data_line="", versions={})


def test_only_one_process_gets_a_waiting_trial(make_study: MakeStudy, storage_url: str) -> None:
    """Of six processes that take the same waiting trial at the same moment, exactly one gets it."""
    study = make_study()
    for _ in range(3):
        hand_back(study, begin(study).id, "its worker was asked to stop", died=False)
    winners = at_once(6, resume_one, storage_url)
    # Each process takes the first that waits; three trials find three takers and no trial finds two.
    states = Counter(record.state for record in read_records(study))
    assert states == Counter(fail=3, running=sum(winners), waiting=3 - sum(winners))
    assert 1 <= sum(winners) <= 3


def test_a_lost_trial_gets_one_second_try_however_many_look(make_study: MakeStudy, storage_url: str) -> None:
    """Of six processes that rescue the same trial at the same moment, one hands it back."""
    study = make_study("budget.trials=6")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for _ in range(3):
        trial = begin(study)
        place = study.storage.get_trial(trial.id).user_attrs[WORKER].rpartition("/")[0]
        study.storage.set_trial_user_attr(trial.id, WORKER, f"{place}/{gone.pid}")
    at_once(6, rescue, storage_url)
    assert Counter(record.state for record in read_records(study)) == Counter(fail=3, waiting=3)


def test_a_trial_without_any_sign_of_life_is_lost_in_the_end(make_study: MakeStudy) -> None:
    """A worker elsewhere that died in the moment it took a trial never gave a sign; we wait our grace, then act."""
    study = make_study()
    trial = begin(study)
    hand_back(study, trial.id, "its worker was asked to stop", died=False)
    again = resume_trial(study)
    assert again is not None
    trial = again
    study.storage.set_trial_user_attr(trial.id, WORKER, "another-host/1")
    clock = itertools.count(0.0, 10.0)
    study.watch = Watch(clock=lambda: next(clock))
    found = []
    with Presence(study.storage.ledger, "cpu") as presence:
        for _ in range(5):
            presence._beat()
            found.append(rescue_lost_trials(study))
    assert found == [0, 0, 0, 0, 1]


def test_a_trial_that_its_worker_could_not_begin_waits_again(make_study: MakeStudy) -> None:
    """It carries the name of one that lives; that is no death."""
    study = make_study()
    ours, stranded = begin(study, 0.01), begin(study, 0.02)
    assert rescue_lost_trials(study, ours={ours.id}) == 1
    records = read_records(study)
    assert [record.state for record in records] == ["running", "fail", "waiting"]
    assert records[1].reason == "its worker could not begin it"
    assert study.storage.get_trial(stranded.id).state is TrialState.FAIL


def test_a_deleted_study_is_said(make_study: MakeStudy) -> None:
    """By whoever asks for it; its trials can be handed back no more."""
    study = make_study()
    trial = begin(study)
    assert study.artifacts is None  # as a worker asks at its start
    study.storage.delete_study(study.study_id)
    for ask in (lambda: study.is_stopped, study.trials, lambda: study.budget):
        with pytest.raises(UserError, match='study "small" was deleted'):
            ask()
    assert not hand_back(study, trial.id, "its worker left the study", died=False)
    assert write(study, [fail_write(trial, "for a test")]) == {trial.id}


def test_being_asked_to_stop_never_uses_up_a_trial(make_study: MakeStudy) -> None:
    """On a machine that is taken away again and again, a trial is handed on for as long as it takes."""
    study = make_study()
    trial = begin(study)
    for _ in range(MAX_DEATHS + 3):
        assert hand_back(study, trial.id, "its worker was asked to stop", died=False)
        again = resume_trial(study)
        assert again is not None
        trial = again


def test_a_study_whose_creation_was_cut_short_does_not_exist(
    make_study: MakeStudy, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is not lost to a process that was killed while it created a study."""
    storage = open_storage(storage_url)
    with monkeypatch.context() as cut:
        cut.setattr(models.StudySystemAttributeModel, "__init__", lambda *_, **__: sys.exit("killed"))
        with pytest.raises(SystemExit):
            make_study()
    assert find_study(storage, "small") is None
    assert make_study().spec.name == "small"
