"""A real Slurm of one host with several virtual nodes, on loopback: no systemd, no cgroups, no accounting.

Every server is a direct child of this process, in the foreground, so that nothing outlives the tests.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.servers import MissingPartError, free_port

START_S = 60.0

CONFIGURATION = """\
ClusterName=kan
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
MinJobAge=600
SlurmdTimeout=30
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A cluster.

    Args:
        n_nodes: Virtual nodes, n1 and so on.
        cpus: That each claims to have.
    """

    def __init__(self, n_nodes: int = 4, cpus: int = 2) -> None:
        missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
        if missing or os.geteuid() != 0:
            raise MissingPartError(
                f"no {missing[0]}: apt-get install slurm-wlm munge" if missing else "Slurm's servers need root"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="kansearch-slurm-"))
        self.folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start(n_nodes, cpus)
        except BaseException:
            self.__exit__()
            raise

    def _start(self, n_nodes: int, cpus: int) -> None:
        folder, host = self.folder, socket.gethostname().partition(".")[0]
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge.key").chmod(0o400)
        of_munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        of_munge["seed-file"] = "munge.seed"
        options = [f"--{option}={folder / name}" for option, name in of_munge.items()]
        self._run("munged", "--foreground", "--force", "--num-threads=4", *options)
        self._wait_for((folder / "munge.socket").exists)
        nodes = "\n".join(
            f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={cpus} RealMemory=2000"
            for n in range(1, n_nodes + 1)
        )
        (folder / "state").mkdir()
        text = CONFIGURATION.format(host=host, port=free_port(), folder=folder, nodes=nodes)
        (folder / "slurm.conf").write_text(text)
        self._run("slurmctld", "-D")
        for n in range(1, n_nodes + 1):
            (folder / f"spool-n{n}").mkdir()
            self._run("slurmd", "-D", "-N", f"n{n}")
        self._wait_for(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D", check=False).strip() == str(n_nodes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm answers."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=check
        )
        return done.stdout

    def tasks(self, state: str = "RUNNING") -> list[str]:
        """The tasks in a state, as ARRAY_TASK."""
        return self.ask("squeue", "-h", "-r", "-t", state, "-o", "%i").split()

    def _run(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("ab") as words:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        self._processes.append(process)

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not is_so():
            dead = [process.args for process in self._processes if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                said = [file.read_text(errors="replace")[-1000:] for file in self.folder.glob("*.out")]
                raise RuntimeError(f"Slurm did not come up: {dead} {said}")
            time.sleep(0.1)
