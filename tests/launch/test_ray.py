"""Workers that Ray places: what is refused before it is asked, and the cases of a real cluster."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.commands import run_in
from tests.conftest import missing

CASES = Path(__file__).with_name("ray_cases.py")


@pytest.mark.slow
def test_ray_where_there_is_loopback_alone() -> None:
    """The cases of `ray_cases.py`: Ray listens on every address, and a network namespace has none but that one."""
    if "ray" not in os.environ.get("KANSEARCH_REQUIRE", "").split(","):
        pytest.skip("a cluster of Ray is started where it is asked for: KANSEARCH_REQUIRE=ray")
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        missing("ray", "network namespaces need root, unshare and ip: apt-get install util-linux iproute2")
    if importlib.util.find_spec("ray") is None:
        missing("ray", "Ray is missing: pip install 'kansearch[ray]'")
    pytest_here = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(CASES)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "RAY_"))}
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *pytest_here],
        cwd=CASES.parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_extra_is_named_with_the_line_that_installs_it(study_file: Path) -> None:
    """As for every other extra; nothing is made."""
    folder = study_file.parent
    (folder / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n")
    done = run_in(folder, "optimize", study_file, "--launcher", "ray", is_new=True, PYTHONPATH=import_path(folder))
    assert done.returncode == 2
    assert done.stderr == "kansearch: launcher ray needs the module ray: pip install 'kansearch[ray]'\n"
    assert not (folder / "kansearch.db").exists()


def test_the_cluster_is_that_of_rays_own_variable_where_nobody_names_one(study_file: Path) -> None:
    """Workers there are detached and need a database that they reach; the plan shows no password."""
    flags = ("optimize", study_file, "--launcher", "ray", "--workers", "3", "--dry-run")
    refused = run_in(study_file.parent, *flags, RAY_ADDRESS="head:6379")
    assert refused.returncode == 2
    assert "launcher ray needs a database that all machines reach" in refused.stderr
    url = ("--storage", "postgresql://kan:geheim@db/kan")
    done = run_in(study_file.parent, *flags, *url, RAY_ADDRESS="head:6379")
    assert done.returncode == 0, done.stderr
    plan = yaml.safe_load(done.stdout)
    assert plan["address"] == "head:6379"
    assert plan["actors"] == 3
    assert plan["options"]["lifetime"] == "detached"
    assert "geheim" not in done.stdout
    here = yaml.safe_load(run_in(study_file.parent, *flags, RAY_ADDRESS="").stdout)
    assert here["address"] == "local"
    assert "lifetime" not in here["options"]


def test_workers_that_end_with_the_command_cannot_be_left(study_file: Path) -> None:
    """--detach needs a cluster that stays."""
    for flags in ((), ("--launcher", "ray")):
        done = run_in(study_file.parent, "optimize", study_file, *flags, "--detach", RAY_ADDRESS="")
        assert done.returncode == 2
        assert "--detach is for workers that stay on a cluster" in done.stderr


def import_path(first: Path) -> str:
    """A folder in front of all others."""
    return os.pathsep.join([str(first), os.environ.get("PYTHONPATH", "")])
