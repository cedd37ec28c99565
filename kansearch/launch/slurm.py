"""Workers as the tasks of a Slurm job array, from a script that people can read and send themselves.

What the script relies on (Slurm 22.05 and later): a task is requeued by its array's number and its own, since the bare
job number of a task requeues the whole array; `--signal=B:USR1` reaches the script before the time limit; `squeue` and
`scontrol` are enough, for sites without accounting.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from kansearch.errors import LaunchError
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.request import LaunchRequest, Plan
from kansearch.specs.launch import LaunchSpec

LOGS = Path("kansearch-logs")
"""Folder of logs and scripts, where nobody names one."""

ANSWER_S = 60.0
"""For a command of Slurm to answer: without its controller they wait for minutes."""

LOOK_S = 5.0
"""Between two questions to the controller, which serves a whole site."""

NOTICE_S = 120
"""From the signal that a task's time is nearly up to its end; a fifth of the time where that is short."""

TIME_IS_UP = 128 + 10
"""Exit status of workers that got SIGUSR1."""

_SCRIPT = """\
#!/bin/bash
{directives}

{setup}
{python} -m kansearch {worker} --number "$SLURM_ARRAY_TASK_ID" &
worker=$!
# Slurm signals this shell; the workers leave at their last rung, and other tasks, or this one later, go on from there.
trap 'kill -USR1 "$worker" 2>/dev/null' USR1
trap 'kill -TERM "$worker" 2>/dev/null' TERM
while :; do
  wait "$worker"
  status=$?
  kill -0 "$worker" 2>/dev/null || break
done
# A signal may have ended the wait and not the worker.
wait "$worker" 2>/dev/null
again=$?
[ "$again" -ne 127 ] && status=$again
if [ "$status" -eq {time_is_up} ]; then
  # This task alone: the bare job number would requeue the whole array.
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""


class SlurmLauncher:
    """Sends a job array through `sbatch`.

    Args:
        spec: What the site asks for.
    """

    def __init__(self, spec: LaunchSpec) -> None:
        self._spec = spec
        self._logs = Path(spec.logs or LOGS).expanduser().absolute()

    def plan(self, request: LaunchRequest) -> Plan:
        """The script of the array."""
        exports = {**WORKER_ENVIRONMENT, **request.environment}
        setup = [*self._spec.setup, *(f"export {name}={shlex.quote(value)}" for name, value in exports.items())]
        text = _SCRIPT.format(
            directives="\n".join(f"#SBATCH --{option}" for option in self._options(request)),
            setup="\n".join(setup),
            python=shlex.quote(sys.executable),
            worker=shlex.join(request.command()),
            time_is_up=TIME_IS_UP,
        )
        return Plan(request, text)

    def _options(self, request: LaunchRequest) -> list[str]:
        spec, resources = self._spec, request.resources
        options = [
            f"job-name=kansearch-{request.study}",
            f"array=0-{request.n_tasks - 1}",
            "nodes=1",
            "ntasks=1",
            f"cpus-per-task={resources.cpus}",
        ]
        options += [f"gres=gpu:{resources.gpus}"] if resources.gpus else []
        options += [] if resources.memory_mib is None else [f"mem={resources.memory_mib}M"]
        options += [] if resources.seconds is None else [f"time={_clock(resources.seconds)}"]
        for name in ("partition", "account", "qos"):
            options += [f"{name}={value}"] if (value := getattr(spec, name)) else []
        # One log a task, whatever requeues it.
        log = str(self._logs / f"{request.study}-%A_%a.log")
        return [
            *options,
            f"output={log}",
            "open-mode=append",
            "requeue",
            f"signal=B:USR1@{min(NOTICE_S, (resources.seconds or 86400) // 5)}",
            "export=ALL",
        ]

    def submit(self, plan: Plan) -> SlurmJob:
        """Send the script, which is kept beside the logs.

        Raises:
            LaunchError: If it cannot be written, or Slurm refuses it.
        """
        script = self._logs / f"{plan.request.study}.sbatch"
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            script.write_text(plan.text, encoding="utf-8")
        except OSError as error:
            raise LaunchError(f"{script} cannot be written: {error.strerror}; `logs` names another folder") from None
        answer = _ask(["sbatch", "--parsable", str(script)], plan.request.secrets, f"; the script is kept: {script}")
        number = answer.strip().partition(";")[0]
        if not number.isdigit():
            raise LaunchError(
                f'sbatch answered "{answer.strip()[:200]}", which is no job; the script is kept: {script}'
            )
        return SlurmJob(number, self._logs / f"{plan.request.study}-{number}_*.log")

    def find(self, name: str) -> SlurmJob:
        """A job by what `SlurmJob.name` was."""
        number, _, logs = name.partition(" ")
        return SlurmJob(number, Path(logs))


class SlurmJob:
    """A job array.

    Args:
        number: Of the array.
        logs: Of its tasks, with a `*`.

    Attributes:
        name: Number and logs.
        line: The job and its logs, for people.
    """

    def __init__(self, number: str, logs: Path) -> None:
        self.name = f"{number} {logs}"
        self.line = f"Slurm job {number}, logs {logs}"
        self._number, self._logs = number, logs
        self._n_tasks, self._next_look = 1, 0.0

    def poll(self) -> int:
        """How many tasks run or wait, as Slurm last said: it is asked every LOOK_S seconds at most."""
        if time.monotonic() >= self._next_look:
            self._n_tasks = self._states().total()
            self._next_look = time.monotonic() + LOOK_S
        return self._n_tasks

    def state(self) -> str:
        """How many tasks are in which of Slurm's states, and why they wait."""
        return ", ".join(f"{n} {state}" for state, n in self._states().most_common()) or "ended"

    def _states(self) -> Counter[str]:
        """Of the tasks that have not ended."""
        try:
            answer = _ask(["squeue", "--noheader", "--array", f"--jobs={self._number}", "--format=%T|%r"])
        except _UnknownJobError:
            return Counter()
        rows = [line.strip().lower().split("|") for line in answer.splitlines() if line.strip()]
        return Counter(state if why == "none" else f"{state} ({why})" for state, why in rows)

    def ended_with(self) -> tuple[int, str] | None:
        """Exit status and last words of the first task that failed."""
        try:
            answer = _ask(["scontrol", "--oneliner", "show", "job", self._number])
        except LaunchError:
            return None
        for line in answer.splitlines():
            said = dict(re.findall(r"(\w+)=(\S+)", line))
            status = int(said.get("ExitCode", "0:0").partition(":")[0])
            if said.get("JobState") == "FAILED" and 1 < status < 128:
                return status, _last_words(Path(said.get("StdOut", "")))
        return None

    def stop(self) -> None:
        """Cancel the array: Slurm asks its workers to end, and ends them after its KillWait."""
        try:
            _ask(["scancel", self._number])
        except _UnknownJobError:
            return


class _UnknownJobError(LaunchError):
    """Slurm has forgotten a job, or never knew it."""


def _ask(command: list[str], secrets: Mapping[str, str] = MappingProxyType({}), kept: str = "") -> str:
    """What a command of Slurm answers.

    Raises:
        LaunchError: If it is not there, does not answer, or refuses.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            command, env={**os.environ, **secrets}, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except FileNotFoundError:
        raise LaunchError(f"there is no {command[0]} on this machine, which needs Slurm's commands{kept}") from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"Slurm's {command[0]} did not answer within {ANSWER_S:.0f} s{kept}") from None
    if done.returncode == 0:
        return done.stdout
    words = " ".join((done.stderr.strip() or done.stdout.strip()).split()) or f"exit status {done.returncode}"
    if "Invalid job id" in words:
        raise _UnknownJobError(words)
    raise LaunchError(f"Slurm refused: {words[:500]}{kept}")


def _last_words(log: Path) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace")[-20_000:].strip().splitlines()[-15:])
    except OSError:
        return ""


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
