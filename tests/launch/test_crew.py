"""A worker that stands for several, as a task of a cluster starts it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.commands import Command, run_in
from tests.faults.crew import check_invariants, create_storm, n_ended

pytestmark = pytest.mark.slow


def test_a_crew_passes_on_what_it_is_asked_and_says_so_to_its_engine(tmp_path: Path) -> None:
    """Asked to stop, or at its deadline, its workers hand their trials back; the exit code is the signal's, then 0."""
    url = f"sqlite:///{tmp_path / 'kansearch.db'}"
    study = create_storm(tmp_path, url, trials=12, epochs=2000)
    crew = ("worker", "storm", "--processes", "2", "--storage", url)
    with Command(tmp_path, *crew) as command:
        command.wait_until(lambda: study.counts()["running"] >= 2)
        command.send_signal(signal.SIGUSR1)
        assert command.wait() == 128 + signal.SIGUSR1
    assert study.counts()["running"] == 0
    assert study.counts()["waiting"] >= 2
    done = run_in(tmp_path, *crew, "--deadline", "6")
    assert done.returncode == 128 + signal.SIGUSR1, done.stderr
    assert 0 < n_ended(study) < 12 or study.counts()["waiting"] > 0
    done = run_in(tmp_path, *crew)
    assert done.returncode == 0, done.stderr
    records = check_invariants(study, budget=12)
    assert any(record.resumed_at for record in records)


def test_a_crew_ends_with_the_words_of_a_worker_that_gave_up(tmp_path: Path) -> None:
    """What a person can mend ends it with the worker's own exit code, and stands in the log."""
    done = run_in(tmp_path, "worker", "storm", "--processes", "2", "--storage", "sqlite:///nowhere/kansearch.db")
    assert done.returncode == 2
    assert "lies in a folder that does not exist" in done.stdout + done.stderr


def test_an_idle_worker_leaves(tmp_path: Path) -> None:
    """A standing worker without a study ends by itself after the time that it was given."""
    url = f"sqlite:///{tmp_path / 'kansearch.db'}"
    create_storm(tmp_path, url, trials=1, epochs=1)
    done = run_in(tmp_path, "worker", "--all", "--idle-exit", "1", "--storage", url)
    assert done.returncode == 0, done.stderr
