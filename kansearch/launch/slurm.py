"""Workers as the tasks of a Slurm job array, from a script that people can read and send themselves.

What the script relies on (Slurm 22.05 and later): a task is requeued by its array's number and its own, since the bare
job number of a task requeues the whole array; `--signal=B:USR1` reaches the script before the time limit; `squeue` and
`scontrol` are enough, for sites without accounting.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from pathlib import Path

from kansearch.errors import LaunchError, UserError
from kansearch.launch.engine import TIME_IS_UP, Engine, RefusedError, Tasks, folder_of_logs, keep, said, understood
from kansearch.launch.environment import WORKER_ENVIRONMENT
from kansearch.launch.local import ASKED_TO_STOP, last_words
from kansearch.launch.request import LaunchRequest, Plan
from kansearch.specs.launch import LaunchSpec, notice

_UNKNOWN = "Invalid job id"
"""What Slurm says of a job that it has forgotten, or never knew."""

SLURM = Engine(
    refusal="Slurm refused",
    missing="it is one of Slurm's commands: submit where those are",
    look="squeue --me",
)

_ENDED_BADLY = {"FAILED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
"""Slurm's states of a task that will not begin again, and was not cancelled."""

_SCRIPT = """\
#!/bin/bash
{directives}

{setup}
set +eu
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
            f"job-name={_job_name(request.study)}",
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
        if re.search(r'["\\]', str(self._logs)):
            raise UserError(f"logs is {self._logs}; Slurm writes to no path with a quote or a backslash")
        log = f"{str(self._logs).replace('%', '%%')}/{request.study}-%A_%a.log"
        return [
            *options,
            f'output="{log}"',
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
        study, secrets = plan.request.study, plan.request.secrets
        try:
            answer = SLURM.ask("sbatch", "--parsable", str(script), secrets=secrets, kept=kept)
            # A site may greet its users first.
            number = answer.strip().rpartition("\n")[2].partition(";")[0].strip()
            if re.fullmatch(r"[0-9]+", number) is None:
                raise LaunchError(f'sbatch answered "{said(answer, secrets)}", which is no job{kept}')
        except RefusedError:
            raise
        except LaunchError:
            # It may be in the queue all the same.
            numbers = SLURM.ask("squeue", "--me", "--noheader", f"--name={_job_name(study)}", "--format=%F").split()
            if len(set(numbers)) != 1:
                raise
            number = numbers[0]
        return SlurmJob(number, _job_name(study), self._logs / f"{study}-{number}_*.log")

    def find(self, name: str) -> SlurmJob:
        """A job by what `SlurmJob.name` was."""
        number, job_name, logs = name.split(" ", 2)
        return SlurmJob(number, job_name, Path(logs))


class SlurmJob:
    """A job array.

    Args:
        number: Of the array.
        job_name: Of the array: another cluster may have given its number to somebody else's.
        logs: Of its tasks, with a `*`.

    Attributes:
        name: All three.
        line: The job and its logs, for people.
    """

    def __init__(self, number: str, job_name: str, logs: Path) -> None:
        self.name = f"{number} {job_name} {logs}"
        self.line = f"Slurm job {number}, logs {logs}"
        self._number, self._job_name, self._logs = number, job_name, logs
        self._tasks = Tasks(lambda: self._states().total())

    def poll(self) -> int:
        """How many tasks run or wait, as Slurm last said.

        Raises:
            LaunchError: If Slurm is away for good.
        """
        return self._tasks.number()

    def state(self) -> str:
        """How many tasks are in which of Slurm's states, and why they wait."""
        return ", ".join(f"{n} {state}" for state, n in self._states().most_common()) or "ended"

    def _which(self, jobs: str) -> list[str]:
        return [f"--name={self._job_name}", f"{jobs}{self._number}"]

    def _states(self) -> Counter[str]:
        """Of the tasks that have not ended."""
        try:
            answer = SLURM.ask("squeue", "--noheader", "--array", *self._which("--jobs="), "--format=%T|%r")
        except RefusedError as error:
            if _UNKNOWN in str(error):
                return Counter()
            raise
        with understood("squeue"):
            rows = [line.strip().lower().split("|", 1) for line in answer.splitlines() if line.strip()]
            return Counter(state if why == "none" else f"{state} ({why})" for state, why in rows)

    def ended_with(self) -> tuple[int, str] | None:
        """Exit status and last words of a task that gave up, or what Slurm says of one that crashed."""
        try:
            answer = SLURM.ask("scontrol", "--oneliner", "show", "job", self._number)
        except LaunchError:
            return None
        crashed: tuple[int, str] | None = None
        for line in answer.splitlines():
            about = dict(re.findall(r"(\w+)=(\S+)", line))
            state, code = about.get("JobState", ""), about.get("ExitCode", "0:0")
            status = int(code.partition(":")[0]) if re.match(r"[0-9]+:", code) else 1
            if about.get("JobName") != self._job_name or state not in _ENDED_BADLY or status >= ASKED_TO_STOP:
                continue
            log = Path(str(self._logs).replace("*", about.get("ArrayTaskId", "")))
            if status in (UserError.exit_code, LaunchError.exit_code):
                return status, _last_words(log)
            why = f"{state} ({about.get('Reason', 'None')}), exit code {code}"
            words = f"task {self._number}_{about.get('ArrayTaskId')} ended as {why}; its log: {log}"
            crashed = crashed or (LaunchError.exit_code, f"{words}\n{_last_words(log)}".strip())
        return crashed

    def stop(self) -> None:
        """Cancel the array: Slurm asks its workers to end, and ends them after its KillWait."""
        try:
            SLURM.ask("scancel", *self._which(""))
        except RefusedError as error:
            if _UNKNOWN not in str(error):
                raise


def _job_name(study: str) -> str:
    return f"kansearch-{study}"


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
