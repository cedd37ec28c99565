"""What launchers are asked for: a request becomes a plan that people can read, and a plan becomes a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Resources:
    """What every task of a launch gets for its workers.

    Attributes:
        cpus: Cores.
        gpus: GPUs; where there are any, a task has a worker for each, else one for each core.
        memory_mib: Memory in MiB; None leaves it to the engine.
        seconds: Until the engine ends the task; None leaves it to the engine.
    """

    cpus: int = 1
    gpus: int = 0
    memory_mib: int | None = None
    seconds: int | None = None

    @property
    def processes(self) -> int:
        """Workers of a task."""
        return self.gpus or self.cpus


@dataclass(frozen=True)
class LaunchRequest:
    """Workers to be started.

    Attributes:
        study: The study that they serve.
        n_tasks: How many tasks hold them.
        arguments: Of every `kansearch worker`, behind the study and the number.
        resources: Of each task.
        environment: Added to that of the workers; people may see it.
        secrets: Likewise, but shown nowhere; the storage's URL travels here, where no process list shows it.
    """

    study: str
    n_tasks: int
    arguments: tuple[str, ...] = ()
    resources: Resources = Resources()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def command(self, number: int | None = None) -> list[str]:
        """The arguments of `kansearch` for one task; its number is left for the engine to add where it is None."""
        processes = [] if self.resources.processes == 1 else ["--processes", str(self.resources.processes)]
        command = ["worker", self.study, *processes, *self.arguments]
        return command if number is None else [*command, "--number", str(number)]


@dataclass(frozen=True)
class Plan:
    """What a launcher would do.

    Attributes:
        request: For which it is.
        text: Exactly what would be sent, for people; it holds no secrets.
    """

    request: LaunchRequest
    text: str


class Job(Protocol):
    """Workers that were started together.

    Attributes:
        name: By which its launcher finds it again; empty where it ends with the process that started it.
        line: The job and where to look, for people; empty where there is nothing to look at.
    """

    name: str
    line: str

    def poll(self) -> int:
        """Look after the tasks; returns how many work, or wait to.

        Raises:
            LaunchError: If they cannot be kept at work.
        """

    def ended_with(self) -> tuple[int, str] | None:
        """Exit code and message of the first task that gave up for a reason that a person can mend."""

    def state(self) -> str:
        """What the engine says of the tasks, for people.

        Raises:
            LaunchError: If it does not answer.
        """

    def stop(self) -> None:
        """Ask all tasks to stop, and end those that do not in time.

        Raises:
            LaunchError: If the engine refuses it.
        """


class Launcher(Protocol):
    """Places workers on machines."""

    def plan(self, request: LaunchRequest) -> Plan:
        """What would be sent."""

    def submit(self, plan: Plan) -> Job:
        """Send it.

        Raises:
            LaunchError: If the engine refuses it, with the engine's own words; nothing of it was started.
        """

    def find(self, name: str) -> Job:
        """A job that was started before, which need not exist any more.

        Raises:
            ElsewhereError: If it is known to be of another cluster.
        """
