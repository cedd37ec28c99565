"""Plays the Indexed Jobs of manifests without a cluster: every pod is a process of this machine.

It does what the cluster promises of a container's command, arguments and environment, of exit codes and of who is
replaced; images, resources and rights it does not know.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.commands import PATIENCE_S


class IndexedJob:
    """An Indexed Job at work; whoever leaves it kills its processes.

    Args:
        manifest: Its text.
        secrets: By name, each with its keys and their values.
        folder: For what the pods say.
        name: Of the Job, with which those of its pods begin.

    Attributes:
        succeeded: Indexes that are done.
        failed: Indexes that were given up.
        crashes: How often a pod of an index ended of its own fault.
        codes: Exit codes of the pods of each index.
    """

    def __init__(
        self, manifest: str, secrets: Mapping[str, Mapping[str, str]], folder: Path, name: str = "pods"
    ) -> None:
        self._spec: dict[str, Any] = yaml.safe_load(manifest)["spec"]
        self._pod: dict[str, Any] = self._spec["template"]["spec"]
        (self._container,) = self._pod["containers"]
        self._name, self._secrets, self._words = name, secrets, folder / name
        self.succeeded: set[int] = set()
        self.failed: set[int] = set()
        self.crashes: Counter[int] = Counter()
        self.codes: dict[int, list[int]] = {index: [] for index in range(self._spec["completions"])}
        self._disrupted: set[int] = set()
        self.pods = {index: self._start(index) for index in range(self._spec["parallelism"])}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods.values():
            pod.kill()
            pod.wait()

    @property
    def words(self) -> str:
        """What all pods said."""
        return self._words.read_text()

    def preempt(self, index: int) -> None:
        """Evict a pod: it is told so, and gets its grace."""
        self._disrupted.add(index)
        self._end(self.pods[index])

    def work_until(self, is_so: Callable[[], object]) -> None:
        """Replace pods that ended, as the manifest says, until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.words[-2000:]
            self.look()
            assert self.pods or is_so(), self.words[-2000:]
            time.sleep(0.1)

    def finish(self) -> None:
        """Work until no pod is left."""
        self.work_until(lambda: not self.pods)

    def look(self) -> None:
        """Replace pods that ended, as the manifest says."""
        for index, pod in list(self.pods.items()):
            if pod.poll() is None:
                continue
            del self.pods[index]
            # As a container's runtime says that a signal ended a process.
            code = pod.returncode if pod.returncode >= 0 else 128 - pod.returncode
            self.codes[index].append(code)
            action = self._judge(code, disrupted=index in self._disrupted)
            self._disrupted.discard(index)
            if action == "Succeed":
                self.succeeded.add(index)
                continue
            self.crashes[index] += action == "Count"
            if action in ("FailIndex", "FailJob") or self.crashes[index] > self._spec["backoffLimitPerIndex"]:
                self.failed.add(index)
                if action == "FailJob":
                    self._give_up()
                    return
                continue
            self.pods[index] = self._start(index)

    def _judge(self, code: int, *, disrupted: bool) -> str:
        if code == 0:
            return "Succeed"
        for rule in self._spec["podFailurePolicy"]["rules"]:
            if disrupted and any(one["type"] == "DisruptionTarget" for one in rule.get("onPodConditions", ())):
                return str(rule["action"])
            codes = rule.get("onExitCodes")
            if codes and codes["operator"] == "In" and code in codes["values"]:
                return str(rule["action"])
        return "Count"

    def _give_up(self) -> None:
        for pod in self.pods.values():
            self._end(pod)
        self.failed |= set(self.pods)
        self.pods = {}

    def _end(self, pod: subprocess.Popen[bytes]) -> None:
        pod.send_signal(signal.SIGTERM)
        try:
            pod.wait(self._pod["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            pod.kill()
            pod.wait()

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        environment: dict[str, str] = {}
        for source in self._container.get("envFrom", ()):
            environment |= self._secrets[source["secretRef"]["name"]]
        for variable in self._container["env"]:
            if "value" in variable:
                value = variable["value"]
            else:
                key = variable["valueFrom"]["secretKeyRef"]
                value = self._secrets[key["name"]][key["key"]]
            environment[variable["name"]] = _expanded(value, environment)
        environment["JOB_COMPLETION_INDEX"] = str(index)
        command = [_expanded(word, environment) for word in (*self._container["command"], *self._container["args"])]
        # What an image brings: its programs, and our package.
        ours = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        ours |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        with self._words.open("ab") as words:
            return subprocess.Popen(
                command, env={**ours, **environment}, cwd="/", stdin=subprocess.DEVNULL, stdout=words, stderr=words
            )

    def status(self) -> dict[str, Any]:
        """What the cluster says of the Job."""
        end = {"type": "Failed" if self.failed else "Complete", "status": "True", "reason": "PodFailurePolicy"}
        return {"active": len(self.pods), "conditions": [] if self.pods else [end]}

    def list_pods(self) -> list[dict[str, Any]]:
        """What the cluster says of each pod, of those too that ended."""
        ended = [
            (f"{self._name}-{index}-{n}", code) for index, codes in self.codes.items() for n, code in enumerate(codes)
        ]
        return [
            *(
                {
                    "metadata": {"name": name},
                    "status": {
                        "phase": "Failed" if code else "Succeeded",
                        "containerStatuses": [{"state": {"terminated": {"exitCode": code, "reason": "Error"}}}],
                    },
                }
                for name, code in ended
            ),
            *({"metadata": {"name": f"{self._name}-{index}"}, "status": {"phase": "Running"}} for index in self.pods),
        ]

    def delete(self) -> None:
        """Ask all pods to end; whoever leaves the Job ends those that do not."""
        for pod in self.pods.values():
            pod.send_signal(signal.SIGTERM)


KUBECTL = f"""#!{sys.executable} -IS
# A stand-in for kubectl that asks the cluster which a test plays.
import json, pathlib, socket, sys
with socket.socket(socket.AF_UNIX) as here:
    here.connect(str(pathlib.Path(__file__).with_name("socket")))
    here.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    status, output, errors = json.load(here.makefile())
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(status)
"""


class PlayedCluster:
    """A cluster of this machine, with a kubectl that asks it; whoever leaves it kills its pods.

    Args:
        folder: For kubectl and what the pods say; it is made. Its path is short, for a socket lies there.
        secrets: As the Jobs' pods find them.
    """

    def __init__(self, folder: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
        folder.mkdir()
        self.folder, self._secrets = folder, secrets
        self.jobs: dict[str, IndexedJob] = {}
        self._deleted: list[IndexedJob] = []
        program = folder / "kubectl"
        program.write_text(KUBECTL)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / "socket"))
        self._server.listen()
        self._server.settimeout(0.1)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *given: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._server.close()
        for job in (*self.jobs.values(), *self._deleted):
            job.__exit__(*given)

    def _serve(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                pass
            else:
                with connection, connection.makefile("rw") as lines:
                    json.dump(self._answer(json.loads(lines.readline())), lines)
            for job in self.jobs.values():
                job.look()

    def _answer(self, command: list[str]) -> tuple[int, str, str]:
        """Exit status, output and errors of a kubectl with these arguments."""
        selector = next((word.rpartition("=")[2] for word in command if word.startswith("--selector=")), "")
        match command:
            case ["get", "secret", name, *_] if name in self._secrets:
                return 0, f"secret/{name}\n", ""
            case ["create", file, *_]:
                name = f"job-{len(self.jobs) + len(self._deleted)}"
                manifest = Path(file.removeprefix("--filename=")).read_text()
                self.jobs[name] = IndexedJob(manifest, self._secrets, self.folder, name)
                return 0, f"lab/{name}", ""
            case ["get", "job", name, *_]:
                return 0, json.dumps({"status": self.jobs[name].status()}) if name in self.jobs else "", ""
            case ["get", "pods", *_] if selector in self.jobs:
                return 0, json.dumps({"items": self.jobs[selector].list_pods()}), ""
            case ["logs", pod, *_]:
                return 0, "".join(job.words for name, job in self.jobs.items() if pod.startswith(f"{name}-")), ""
            case ["delete", "job", name, *_]:
                if name in self.jobs:
                    self._deleted.append(self.jobs.pop(name))
                    self._deleted[-1].delete()
                return 0, "", ""
        return 1, "", f"Error from server: no answer to {command}\n"


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """As Kubernetes does it: `$(NAME)` is a variable where there is one, and `$$` a dollar."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)",
        lambda found: "$" if found[0] == "$$" else environment.get(found[1], found[0]),
        text,
    )
