"""Workers as actors of Ray: on a cluster that runs already, or on this machine alone.

What is relied on (Ray 2.40 and later): a detached actor outlives whoever asked for it and is found by its name; with
`max_restarts=-1` the cluster itself places it again, for as often as its node or its process is lost, whether or not
anybody looks after it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from kansearch.errors import LaunchError, MissingExtraError
from kansearch.launch.engine import ElsewhereError, folder_of_logs
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.local import LocalJob
from kansearch.launch.request import LaunchRequest, Plan, Resources
from kansearch.specs.launch import RAY_HERE, LaunchSpec

# A cluster that is started here tells nobody of itself, and the complaints of Ray's core do not tear the terminal.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
try:
    import ray
    from ray.exceptions import ActorUnavailableError, RayActorError, RayError
except ModuleNotFoundError as error:
    raise MissingExtraError("launcher ray", str(error.name), "ray") from None
# Of every lost node Ray would print pages into the progress display, whatever `log_to_driver` is; the loss of a node in
# tests/launch/ray_cases.py fails where this is out of date.
ray._private.worker.listen_error_messages = lambda *_: None  # noqa: SLF001

NAMESPACE = "kansearch"
"""Of all our actors."""

REACH_S = 10.0
"""For a port to open."""

CONNECT_S = 90.0
"""For a cluster to let us in, or to start here."""

CLIENT_TRIES = 3
"""For a client to be let in by its server."""

ANSWER_S = 5.0
"""For actors to say how they are; those that wait for a place say nothing."""

GONE_S = 30.0
"""A cluster that could not be reached for so long is gone; Ray would end this process after twice that time."""

STOP_S = 30.0
"""For actors to end their workers, which takes these 15 s at most."""

POLL_S = 0.5
"""Between two looks of an actor at its workers."""

LINGER_S = 30.0
"""An actor whose workers are done tells how they ended for so long, and then goes."""

_PLAN = """\
# What is asked of Ray. Each actor starts its workers on its node, with the storage's URL in their environment alone.
# JOB is drawn when this is sent; NUMBER counts the actors, WORKER the workers.
{asked}"""

_LOG_END = "JOB_NUMBER.log"


class RayLauncher:
    """Places actors on a Ray cluster.

    Args:
        spec: What the site asks for.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self._address = spec.address or RAY_HERE
        self._autoscaling = spec.autoscaling
        self._logs = folder_of_logs(spec)

    def plan(self, request: LaunchRequest) -> Plan:
        """The actors and what each of them starts."""
        resources = request.resources
        if resources.seconds is not None:
            # Ray knows no time limit: workers leave by themselves, and their actor is placed again behind others.
            request = replace(request, arguments=(*request.arguments, "--deadline", str(resources.seconds)))
        options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
        if resources.memory_mib is not None:
            options["memory"] = resources.memory_mib * 2**20
        options |= {"max_restarts": -1, "scheduling_strategy": "SPREAD", "namespace": NAMESPACE}
        if self._address != RAY_HERE:
            options["lifetime"] = "detached"
        asked = {
            "address": self._address,
            "actors": request.n_tasks,
            "name": f"{request.study}-JOB-NUMBER",
            "options": options,
            "workers of each": resources.processes,
            "command": f"python -m kansearch {shlex.join(_of_one(request).command())} --number WORKER",
            "environment": {**WORKER_ENVIRONMENT, **request.environment},
            "folder": str(Path.cwd()),
            "log": str(self._logs / f"{request.study}-{_LOG_END}"),
        }
        return Plan(request, _PLAN.format(asked=yaml.safe_dump(asked, sort_keys=False, width=1000)))

    def submit(self, plan: Plan) -> RayJob:
        """Create the actors.

        Raises:
            LaunchError: If the cluster cannot be reached, refuses us, or has no node that is large enough.
        """
        request, asked = plan.request, yaml.safe_load(plan.text)
        found_at = _connect(self._address)
        if not self._autoscaling:
            _refuse_too_large(request.resources, found_at)
        job = secrets.token_hex(3)
        prefix, log = f"{request.study}-{job}", f"{asked['log'].removesuffix(_LOG_END)}{job}_"
        actors: dict[int, Any] = {}
        try:
            for number in range(request.n_tasks):
                options = {**asked["options"], "name": f"{prefix}-{number}"}
                given = (_of_one(request), number, asked["folder"], f"{log}{number}.log")
                actors[number] = ray.remote(_Task).options(**options).remote(*given)
        except (RayError, ValueError, ConnectionError) as error:
            for actor in actors.values():
                ray.kill(actor)
            raise LaunchError(f"Ray refused: {_words(error)}") from None
        return RayJob(found_at, prefix, request.n_tasks, f"{log}*.log", actors)

    def find(self, name: str) -> RayJob:
        """A job by what `RayJob.name` was."""
        address, prefix, n_tasks, logs = name.split(" ", 3)
        if address != self._address and self._address not in (RAY_HERE, "auto"):
            raise ElsewhereError(f"{prefix} is of the Ray cluster at {address}")
        return RayJob(address, prefix, int(n_tasks), logs)


def _of_one(request: LaunchRequest) -> LaunchRequest:
    """What an actor is to start: all workers of its task, each a process that it cares for itself."""
    return replace(request, n_tasks=request.resources.processes, resources=Resources())


class _Task:
    """An actor: the workers of one task, on the node where Ray has placed it.

    Args:
        request: For its workers.
        number: Of the task.
        folder: In which they run, where the node has it.
        log: To which they write.
    """

    def __init__(self, request: LaunchRequest, number: int, folder: str, log: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        self._job = LocalJob(request, number * request.n_tasks, Path(log))
        self._is_done = False
        self._gave_up: tuple[int, str] | None = None
        self._is_asked = threading.Event()
        self._me = ray.get_runtime_context().current_actor
        self._care = threading.Thread(target=self._keep_up, daemon=True)
        self._care.start()

    def look(self) -> tuple[bool, tuple[int, str] | None]:
        """Whether its workers are done, and how they gave up if they did."""
        return self._is_done, self._gave_up

    def stop(self) -> None:
        """End the workers."""
        self._is_asked.set()
        self._care.join()
        self._job.stop()

    def _keep_up(self) -> None:
        """See to it that workers work until they are done; then go, whether or not anybody looked."""
        gave_up: tuple[int, str] | None
        try:
            while self._job.poll():
                if self._is_asked.wait(POLL_S):
                    return
            gave_up = self._job.ended_with()
        except LaunchError as error:
            self._job.stop()
            gave_up = error.exit_code, str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is: else nobody would care for the workers, or say so
            self._job.stop()
            gave_up = LaunchError.exit_code, f"{type(error).__name__}: {error}"
        if gave_up is None and self._job.stopped_with() is not None:
            # Their time was up, or somebody wants this node: Ray places us again, here or elsewhere.
            ray.kill(self._me, no_restart=False)
            return
        self._gave_up, self._is_done = gave_up, True
        if not self._is_asked.wait(LINGER_S):
            ray.kill(self._me)


class RayJob:
    """Actors that were asked for together.

    Args:
        address: Of their cluster.
        prefix: Of their names.
        n_tasks: How many they were.
        logs: Of theirs, with a `*`.
        actors: By number, for whoever is connected to their cluster; None for whoever finds them by their names.

    Attributes:
        name: Address, prefix, how many and logs; empty where the cluster ends with this process.
        line: The job and its logs, for people.
    """

    def __init__(
        self, address: str, prefix: str, n_tasks: int, logs: str, actors: dict[int, Any] | None = None
    ) -> None:
        self._address, self._prefix, self._n_tasks = address, prefix, n_tasks
        self._actors = actors
        self._asked: dict[int, Any] = {}
        self._states: dict[int, str] = dict.fromkeys(range(n_tasks), "waiting")
        self._gave_up: tuple[int, str] | None = None
        self._reached_at = time.monotonic()
        is_here = address == RAY_HERE
        self.name = "" if is_here else f"{address} {prefix} {n_tasks} {logs}"
        where = "of a Ray on this machine, which ends with this command" if is_here else f"of the Ray at {address}"
        self.line = f"{n_tasks} actors {prefix}-* {where}; logs {logs} on their nodes"

    def poll(self) -> int:
        """How many actors work, or wait for a place, as they last said; Ray itself places those again that are lost.

        Raises:
            LaunchError: If the cluster is gone.
        """
        try:
            _reach(self._address)
            self._reached_at = time.monotonic()
        except LaunchError:
            if time.monotonic() - self._reached_at > GONE_S:
                raise
        self._look(0.0)
        return len(self._present())

    def ended_with(self) -> tuple[int, str] | None:
        """Exit status and last words of the first worker that gave up, or Ray's of the first actor that could not."""
        return self._gave_up

    def state(self) -> str:
        """How many actors run, and how many wait for a place."""
        self._look(ANSWER_S)
        counts = Counter(self._states[number] for number in self._present())
        return ", ".join(f"{n} {state}" for state, n in counts.most_common()) or "ended"

    def stop(self) -> None:
        """Let the actors end their workers, and end those that do not."""
        if self._actors == {}:
            return  # they ended before, and perhaps their Ray with them
        self._look(2 * ANSWER_S)
        with _as_launch_errors():
            # Those that wait for a place have none to end.
            asked = [actor.stop.remote() for n, actor in self._present().items() if self._states[n] == "running"]
            if asked:
                ray.wait(asked, num_returns=len(asked), timeout=STOP_S)
            for actor in self._present().values():
                ray.kill(actor)
        self._actors, self._asked = {}, {}
        if self._address == RAY_HERE:
            ray.shutdown()

    def _present(self) -> dict[int, Any]:
        """The actors that have not ended, as far as is known."""
        if self._actors is None:
            _connect(self._address)
            self._actors = {}
            for number in range(self._n_tasks):
                with contextlib.suppress(ValueError):  # Ray's word for a name that nobody has
                    self._actors[number] = ray.get_actor(f"{self._prefix}-{number}", NAMESPACE)
        return self._actors

    def _look(self, wait_s: float) -> None:
        """Take in what the actors say within some time; one that waits for a place answers once it has one."""
        with _as_launch_errors():
            for number, actor in self._present().items():
                if number not in self._asked:
                    self._asked[number] = actor.look.remote()
            if not self._asked:
                return
            asked = list(self._asked.values())
            answers = set(ray.wait(asked, num_returns=len(asked), timeout=wait_s)[0])
            for number in [n for n, answer in self._asked.items() if answer in answers]:
                self._take(number, self._asked.pop(number))

    def _take(self, number: int, answer: Any) -> None:
        try:
            is_done, gave_up = ray.get(answer)
        except ActorUnavailableError:
            self._states[number] = "waiting"
            return
        except RayActorError as error:
            # It told nobody how its workers ended: it was cancelled, or could not even begin.
            is_done, gave_up = True, (LaunchError.exit_code, _words(error)) if error.actor_init_failed else None
        self._states[number] = "running"
        if is_done:
            self._gave_up = self._gave_up or gave_up
            assert self._actors is not None
            ray.kill(self._actors.pop(number))


def _connect(address: str) -> str:
    """Become a driver of a cluster, instead of that of another one; returns where everybody finds it.

    Raises:
        LaunchError: If it cannot be reached in time, or refuses us.
    """
    ray.shutdown()
    _reach(address)
    options: dict[str, Any] = {"include_dashboard": False} if address == RAY_HERE else {}
    failures: list[Exception | SystemExit] = []

    def connect() -> None:
        # A server starts another one for each client, which on a busy machine fails now and then.
        for n_left in reversed(range(CLIENT_TRIES if address.startswith("ray://") else 1)):
            try:
                ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.CRITICAL, **options)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it is raised below, in the thread that waits
                if not n_left:
                    failures.append(error)
                ray.shutdown()
            else:
                return

    with _silence():
        if address == RAY_HERE:
            # What it starts dies with the thread that does; in this one it takes SIGTERM for itself.
            before = signal.getsignal(signal.SIGTERM)
            connect()
            signal.signal(signal.SIGTERM, before)
        else:
            # So nothing waits for ever.
            thread = threading.Thread(target=connect, daemon=True)
            thread.start()
            thread.join(CONNECT_S)
            if thread.is_alive():
                raise LaunchError(f"the Ray cluster at {address} did not let us in within {CONNECT_S:.0f} s")
    if failures:
        raise LaunchError(f"the Ray cluster at {address} refused: {_words(failures[0])}")
    return str(ray.get_runtime_context().gcs_address) if address == "auto" else address


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep this process's errors off the terminal: Ray's core complains there before it reads its log level."""
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def _reach(address: str) -> None:
    """Make sure that something listens there, before Ray tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "://" in host or not port.isdigit():
        return  # `auto`, `local`, or something for which Ray has words
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LaunchError(f"the Ray cluster at {address} cannot be reached: {why}") from None


def _refuse_too_large(resources: Resources, address: str) -> None:
    """Make sure that some node can hold a task; Ray would wait for one for ever."""
    needs = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": (resources.memory_mib or 0) * 2**20}
    nodes: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= need for name, need in needs.items()) for node in nodes):
        return
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0), node.get("memory", 0)), default={})
    raise LaunchError(
        f"no node of the Ray cluster at {address} has {_amounts(needs)}; the largest has {_amounts(largest)} "
        "(`autoscaling: true` in the site's file waits for nodes that are yet to come)"
    )


def _amounts(resources: Mapping[str, float]) -> str:
    memory = f" and {resources['memory'] / 2**20:.0f}M of memory" if resources.get("memory") else ""
    return f"{resources.get('CPU', 0):.0f} CPUs, {resources.get('GPU', 0):.0f} GPUs{memory}"


@contextlib.contextmanager
def _as_launch_errors() -> Iterator[None]:
    try:
        yield
    except (RayError, ConnectionError) as error:
        raise LaunchError(f"Ray failed: {_words(error)}") from None


def _words(error: BaseException) -> str:
    """What Ray says, in one line: of a traceback its end alone."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") or "ray::" in line for line in lines):
        lines = lines[-1:]
    return " ".join(lines)[:500] or type(error).__name__
