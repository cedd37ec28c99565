"""The house: floors, and what must not be imported to feel instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = "from typer.testing import CliRunner\nfrom kansearch.cli.app import app\n"


def modules_after(code: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter that ran some code."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "code",
    [
        "import kansearch",
        "import kansearch.specs.study_file",
        f"{COMMAND}assert 'optimize' in CliRunner().invoke(app, ['--help']).output",
        f"{COMMAND}assert CliRunner().invoke(app, ['schema']).exit_code == 0",
    ],
)
def test_light_commands_import_neither_torch_nor_optuna(code: str) -> None:
    """The package, study files, --help and the schema need none of the heavy libraries."""
    assert not modules_after(code) & {"torch", "optuna", "pandas", "plotly", "sklearn"}


@pytest.mark.parametrize("room", ["kansearch.storage.trials", "kansearch.report.render", "kansearch.launch.local"])
def test_rooms_of_status_and_report_never_import_torch(room: str) -> None:
    """Storage, report and launch work without torch, whose import takes seconds."""
    assert "torch" not in modules_after(f"import {room}")


def test_a_worker_imports_what_its_study_needs() -> None:
    """No bundled sets, no images, no bucket, no report: each takes long to import on a slow core."""
    data = "from kansearch.data.splits import load_split\nfrom kansearch.specs.data import DataSpec"
    found = modules_after(f"import kansearch.worker.rota\n{data}\nload_split(DataSpec(name='multi_sine'))")
    assert "torch" in found
    assert not found & {"sklearn", "scipy.stats", "torchvision", "PIL", "boto3", "plotly", "matplotlib", "rich"}


def test_the_floors_of_the_house_hold() -> None:
    """Imports go down the floors of the architecture, never up."""
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
