"""podman with a storage of its own, and the base images of docker/, made on this machine: no registry is asked."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.servers import MissingPartError

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"

PROGRAMS = {
    "podman": "podman", "runc": "runc", "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns", "iptables": "iptables", "mmdebstrap": "mmdebstrap",
}  # fmt: skip
"""What is run, and the Debian package that has it."""

SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{folder}/tmp"
[network]
network_config_dir = "{folder}/networks"
"""
"""Of containers, as every machine with root can run them, be it a container itself."""

STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""

PATIENCE_S = 1800


class Podman:
    """podman, with all that it keeps in a folder: $KANSEARCH_CONTAINERS, or one in the user's cache.

    The folder stays, so that base images are made once and layers of images are built once.

    Raises:
        MissingPartError: If this machine cannot run containers.
    """

    def __init__(self) -> None:
        packages = sorted(package for program, package in PROGRAMS.items() if shutil.which(program) is None)
        if packages:
            raise MissingPartError(
                f"containers need more: apt-get install --no-install-recommends {' '.join(packages)}"
            )
        if os.geteuid() != 0:
            raise MissingPartError("containers are tested as root only")
        self.folder = Path(os.environ.get("KANSEARCH_CONTAINERS") or Path.home() / ".cache/kansearch-containers")
        for name in ("tmp", "networks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, "TMPDIR": str(self.folder / "tmp")}
        for variable, text in (("CONTAINERS_CONF", SETTINGS), ("CONTAINERS_STORAGE_CONF", STORAGE)):
            path = self.folder / variable.lower()
            path.write_text(text.format(folder=self.folder))
            self.environment[variable] = str(path)
        self.build_arguments = ["--network=host", *_pip_as_here(self.folder / "pip.conf")]

    def run(self, *arguments: object, check: bool = True) -> str:
        """Run a command of podman; returns what it says, and raises it as a RuntimeError."""
        return self._run(["podman", *map(str, arguments)], check=check)

    def compose(self, *arguments: object, check: bool = True) -> str:
        """Run docker/compose.yaml; returns what the command says."""
        build = f"--podman-build-args={shlex.join(self.build_arguments)}"
        command = [sys.executable, "-m", "podman_compose", build, "--file", COMPOSE, *arguments]
        return self._run(list(map(str, command)), check=check)

    def build(self, context: Path, *arguments: str) -> None:
        """Build docker/Dockerfile by hand."""
        self.run("build", *self.build_arguments, *arguments, "--file", DOCKERFILE, context)

    def inspect(self, container: str) -> dict[str, Any]:
        """All that podman knows of a container."""
        found: list[dict[str, Any]] = json.loads(self.run("inspect", container))
        return found[0]

    def make_bases(self) -> None:
        """The images from which docker/ begins, under the names of the official ones."""
        # What was built of code that is no more.
        self.run("image", "prune", "--force", "--filter=until=168h")
        (python,) = set(re.findall(r"^FROM (docker\.io/\S+)", DOCKERFILE.read_text(), flags=re.MULTILINE))
        postgres = yaml.safe_load(COMPOSE.read_text())["services"]["db"]["image"]
        if not self._has(python):
            tar = self.folder / "tmp/python.tar"
            packages = "python3,python3-venv,python3-pip,ca-certificates"
            link = 'ln -s python3 "$1/usr/bin/python"'
            # Debian's release stands at the end of the image's name.
            release = python.rpartition("-")[2]
            self._run(
                [
                    "mmdebstrap",
                    "--variant=minbase",
                    f"--include={packages}",
                    f"--customize-hook={link}",
                    release,
                    str(tar),
                ]
            )
            path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            self.run("import", "--change", path, tar, python)
            tar.unlink()
        if not self._has(postgres):
            self.run(
                "build",
                "--network=host",
                f"--build-arg=BASE={python}",
                "--tag",
                postgres,
                ROOT / "tests/docker/postgres",
            )

    def _has(self, image: str) -> bool:
        found = subprocess.run(["podman", "image", "exists", image], env=self.environment, check=False)
        return found.returncode == 0

    def _run(self, command: list[str], *, check: bool = True) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        if done.returncode and check:
            raise RuntimeError(f"{shlex.join(command)}\n{done.stdout[-5000:]}")
        return done.stdout


def _pip_as_here(path: Path) -> list[str]:
    """What lets pip in a container find what pip finds on this machine, as arguments of `podman build`.

    Args:
        path: Where to write pip's settings, from all its files and the environment.
    """
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = configparser.RawConfigParser()
    mounted = {path: Path("/etc/pip.conf")}
    # The environment comes last and wins, as it does with pip.
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, literal = line.partition("=")
        section, _, key = name.rpartition(".")
        value = ast.literal_eval(literal)
        section = "global" if section == ":env:" else section
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, key, value)
        for word in value.split():
            place = Path(word.removeprefix("file://"))
            # The files of an index on disk lie beside it.
            place = place.parent if word.startswith("file://") else place
            if place.is_absolute() and place.exists():
                mounted[place] = place
    path.touch(mode=0o600)  # an address in it may hold a password
    with path.open("w") as file:
        settings.write(file)
    return [f"--volume={here}:{there}:ro" for here, there in mounted.items()]
