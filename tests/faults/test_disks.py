"""Disks that are full or may only be read: no loss, no half file, one clear line."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import run_in
from tests.conftest import missing

from .crew import Crew, check_invariants, create_storm, n_ended

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for sixteen megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        missing("disks", "only the superuser of a whole system may make small disks")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def test_a_report_for_which_there_is_no_room_leaves_the_last_one(small_disk: Path, tmp_path: Path) -> None:
    """Whole as it was, with nothing half beside it."""
    url = f"sqlite:///{tmp_path}/kansearch.db"
    create_storm(tmp_path, url, trials=4, epochs=20)
    assert run_in(tmp_path, "worker", "storm", KANSEARCH_STORAGE=url).returncode == 0
    assert run_in(tmp_path, "report", "storm", "--output", small_disk / "report", KANSEARCH_STORAGE=url).returncode == 0
    before = {path.name: path.read_bytes() for path in (small_disk / "report").iterdir()}
    filler = fill(small_disk)
    done = run_in(tmp_path, "report", "storm", "--output", small_disk / "report", KANSEARCH_STORAGE=url)
    filler.unlink()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "No space left on device" in done.stderr
    assert {path.name: path.read_bytes() for path in (small_disk / "report").iterdir()} == before


@pytest.mark.slow
def test_a_full_disk_stops_nothing_but_time(small_disk: Path) -> None:
    """A search whose storage has no room for a while goes on when there is some; its records are whole."""
    url = f"sqlite:///{small_disk}/kansearch.db"
    study = create_storm(small_disk, url, trials=30, epochs=600)
    with Crew(small_disk.parent, url, "storm", 2, "--pack", "2") as crew:
        for seconds in (1, 45):
            goal = n_ended(study) + 8
            crew.wait_until(lambda goal=goal: n_ended(study) >= goal)  # type: ignore[misc]
            filler = fill(small_disk)
            time.sleep(1)
            before = study.counts()
            # Also for longer than it takes to call a silent worker dead.
            time.sleep(seconds)
            assert study.counts() == before, "there was room after all"
            filler.unlink()
        crew.finish()
        assert "the storage does not answer; trying again" in crew.words.read_text()
    records = check_invariants(study, 30)
    assert len(records) == 30, "a trial was lost or tried again"


@pytest.mark.slow
def test_a_folder_that_may_only_be_read_is_looked_at(small_disk: Path, tmp_path: Path) -> None:
    """Status and report show what is there; whatever would write says so, and leaves everything as it was."""
    url = f"sqlite:///{small_disk}/kansearch.db"
    create_storm(small_disk, url, trials=4, epochs=20).storage.close()
    assert run_in(tmp_path, "worker", "storm", KANSEARCH_STORAGE=url).returncode == 0
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "4/4" in run_in(tmp_path, "status", KANSEARCH_STORAGE=url).stdout
    assert run_in(tmp_path, "report", "storm", KANSEARCH_STORAGE=url).returncode == 0
    for arguments in (
        ("report", "storm", "--output", small_disk / "report"),
        ("optimize", small_disk / "storm.yaml", "--output", tmp_path / "other"),
        ("submit", small_disk / "storm.yaml"),
        ("submit", small_disk / "storm.yaml", "--storage", f"sqlite:///{tmp_path}/k.db", "--artifacts", small_disk),
        ("worker", "storm"),
        ("stop", "storm"),
        ("doctor",),
    ):
        done = run_in(tmp_path, *arguments, KANSEARCH_STORAGE=url)
        assert done.returncode in (2, 3), arguments
        assert re.search(r"Read-only file system|no permission|may not be written", done.stderr + done.stdout), done
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") <= 1, done.stderr
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
