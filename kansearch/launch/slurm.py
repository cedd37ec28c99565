"""Workers as the tasks of a Slurm job array, from a script that people can read and send themselves.

What the script relies on (Slurm 22.05 and later): a task is requeued by its array's number and its own, since the bare
job number of a task requeues the whole array; `--signal=B:USR1` reaches the script before the time limit; `squeue` and
`scontrol` are enough, for sites without accounting.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

from kansearch.errors import LaunchError
from kansearch.launch.engine import LOOK_S, TIME_IS_UP, Engine, RefusedError, folder_of_logs, keep
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.local import last_words
from kansearch.launch.request import LaunchRequest, Plan
from kansearch.specs.launch import LaunchSpec, notice

_UNKNOWN = "Invalid job id"
"""What Slurm says of a job that it has forgotten, or never knew."""

SLURM = Engine(refusal="Slurm refused", missing="it is one of Slurm's commands: submit where those are")

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
        self._logs = folder_of_logs(spec)

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
            f"signal=B:USR1@{notice(resources.seconds or 86400)}",
            "export=ALL",
        ]

    def submit(self, plan: Plan) -> SlurmJob:
        """Send the script, which is kept beside the logs.

        Raises:
            LaunchError: If it cannot be written, or Slurm refuses it.
        """
        script = keep(self._logs, f"{plan.request.study}.sbatch", plan.text)
        kept = f"; the script is kept: {script}"
        answer = SLURM.ask("sbatch", "--parsable", str(script), secrets=plan.request.secrets, kept=kept)
        number = answer.strip().partition(";")[0]
        if not number.isdigit():
            raise LaunchError(f'sbatch answered "{answer.strip()[:200]}", which is no job{kept}')
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
            answer = SLURM.ask("squeue", "--noheader", "--array", f"--jobs={self._number}", "--format=%T|%r")
        except RefusedError as error:
            if _UNKNOWN in str(error):
                return Counter()
            raise
        rows = [line.strip().lower().split("|") for line in answer.splitlines() if line.strip()]
        return Counter(state if why == "none" else f"{state} ({why})" for state, why in rows)

    def ended_with(self) -> tuple[int, str] | None:
        """Exit status and last words of the first task that failed."""
        try:
            answer = SLURM.ask("scontrol", "--oneliner", "show", "job", self._number)
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
            SLURM.ask("scancel", self._number)
        except RefusedError as error:
            if _UNKNOWN not in str(error):
                raise


def _last_words(log: Path) -> str:
    try:
        return last_words(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
