"""Commands of engines that answer too late, what nobody understands, or more than people may see."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kansearch.storage.studies import load_study
from kansearch.storage.url import open_storage
from tests.commands import Command, run_in
from tests.servers import Server

Program = Callable[[str, str], None]

SLURM = ("--launcher", "slurm", "--workers", "2")


@pytest.fixture
def storage(postgres: Server) -> Iterator[str]:
    with postgres.lent_storage() as url:
        yield url


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a shell script of a name, in a folder that is to be first on the PATH."""
    (tmp_path / "bin").mkdir()

    def make(name: str, script: str) -> None:
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return make


def environment(folder: Path, storage: str) -> dict[str, str]:
    return {"KANSEARCH_STORAGE": storage, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def test_a_ctrl_c_while_the_job_is_sent_does_not_lose_it(study_file: Path, storage: str, program: Program) -> None:
    """It is heard once the job is noted, so that it can be watched and cancelled."""
    folder = study_file.parent
    program("sbatch", "touch sending; sleep 2; echo 17")
    program("squeue", "echo 'PENDING|Priority'")
    with Command(folder, "optimize", study_file, *SLURM, environment=environment(folder, storage)) as command:
        command.wait_until((folder / "sending").exists)
        os.killpg(command.pid, signal.SIGINT)
        output, errors = command.communicate()
        assert command.wait() == 130, errors
    assert "kansearch stop small --cancel" in output
    ((_, name, _),) = load_study(open_storage(storage), "small").jobs()
    assert name.startswith("17 kansearch-small ")


@pytest.mark.parametrize("answer", ["echo Welcome; echo 17", "echo sent", "exit 7"], ids=["greeted", "odd", "refused"])
def test_a_job_is_found_whatever_sbatch_answers(study_file: Path, storage: str, program: Program, answer: str) -> None:
    """Behind a greeting, or in the queue by its name; a refusal is a refusal."""
    folder = study_file.parent
    program("sbatch", answer)
    program("squeue", "case \"$*\" in *%F*) echo 17; echo 17;; *) echo 'RUNNING|None';; esac")
    done = run_in(folder, "optimize", study_file, *SLURM, "--detach", **environment(folder, storage))
    noted = [name.split()[0] for _, name, _ in load_study(open_storage(storage), "small").jobs()]
    assert (done.returncode, noted) == ((3, []) if answer == "exit 7" else (0, ["17"])), done.stderr


@pytest.mark.parametrize("answer", ["echo hello", "printf 'a\\377|b|c'", "exit 7"])
def test_answers_that_nobody_understands_are_one_line(
    study_file: Path, storage: str, program: Program, answer: str
) -> None:
    """No traceback: status shows what it can; to cancel is tried all the same, and what failed is said."""
    folder = study_file.parent
    program("sbatch", "echo 17")
    program("squeue", "exit 0")
    given = environment(folder, storage)
    assert run_in(folder, "optimize", study_file, *SLURM, "--detach", **given).returncode == 0
    program("squeue", answer)
    program("scancel", "echo no >&2; exit 1")
    assert run_in(folder, "status", "small", **given).returncode == 0
    done = run_in(folder, "stop", "small", "--cancel", **given)
    assert done.returncode == 3
    assert "not cancelled: Slurm refused: no" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("answer", ["nonsense", "[]", '{"status": 5}', '{"status":{"conditions":[{}]}}'])
def test_jobs_that_kubectl_does_not_describe_are_one_line(
    study_file: Path, storage: str, program: Program, answer: str
) -> None:
    """As for Slurm."""
    folder = study_file.parent
    program("kubectl", 'case "$1" in create) printf lab/job;; get) [ "$2" = secret ];; esac')
    given = environment(folder, storage)
    done = run_in(folder, "optimize", study_file, "--launcher", "kubernetes", "--detach", **given)
    assert done.returncode == 0, done.stderr
    program("kubectl", f"case \"$1\" in get) echo '{answer}';; esac")
    assert "nobody understands what kubectl answers" in " ".join(
        run_in(folder, "status", "small", **given).stdout.split()
    )
    assert "cancelled" in run_in(folder, "stop", "small", "--cancel", **given).stdout


def test_a_password_that_an_engine_repeats_is_not_shown(study_file: Path, storage: str, program: Program) -> None:
    """Wrappers of a site may show the environment that they were given."""
    folder = study_file.parent
    program("sbatch", 'echo "$KANSEARCH_STORAGE and postgresql://a:geheim@b/c are bad" >&2; exit 1')
    done = run_in(folder, "optimize", study_file, *SLURM, **environment(folder, storage))
    assert done.returncode == 3
    assert "Slurm refused: *** and postgresql://a:***@b/c are bad" in done.stderr
    assert storage not in done.stderr


@pytest.mark.parametrize(
    ("logs", "words"),
    [("~nobody-of-that-name/x", "there is no such user"), ("a\\\\c", "Slurm writes to no path with a quote")],
)
def test_folders_of_logs_that_cannot_be(study_file: Path, storage: str, logs: str, words: str) -> None:
    """One line, exit code 2, before anything is made."""
    (study_file.parent / "site.yaml").write_text(f'launcher: slurm\nlogs: "{logs}"\n')
    done = run_in(study_file.parent, "optimize", study_file, "--cluster", "site.yaml", KANSEARCH_STORAGE=storage)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_of_the_users_is_overwritten(study_file: Path, storage: str, program: Program) -> None:
    """A manifest that is kept beside the study file has another name than that."""
    folder, text = study_file.parent, study_file.read_text()
    (folder / "site.yaml").write_text("launcher: kubernetes\nlogs: .\n")
    program("kubectl", "exit 1")
    done = run_in(folder, "optimize", study_file, "--cluster", "site.yaml", **environment(folder, storage))
    assert done.returncode == 3
    assert study_file.read_text() == text
