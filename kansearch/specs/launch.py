"""Where workers run and what they get there: `launch:` of a study file, or a file of its own for a site."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kansearch.specs.base import Spec, Whole

LauncherName = Literal["local", "slurm", "ray", "kubernetes"]

MOST_WORKERS = 1024

RAY_HERE = "local"
"""Ray's word for a cluster that is started on this machine, and ends with the process that started it."""

RAY_ADDRESS = "RAY_ADDRESS"
"""Ray's own variable for the address of a cluster."""

SLURM_END = "SLURM_JOB_END_TIME"
"""Slurm's own variable for the time limit of a task, in seconds since 1970."""

NOTICE_S = 120
"""The longest that workers leave before their task's end."""

_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(?:i|iB|B)?", re.IGNORECASE | re.ASCII)
_TIME = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", re.ASCII)


def notice(seconds: float) -> int:
    """So many seconds before the end of a task's time its workers leave; a fifth of the time where that is short."""
    return min(NOTICE_S, int(seconds // 5))


def _memory(given: object) -> int:
    """MiB of an amount as people write it."""
    found = _MEMORY.fullmatch(given.strip()) if isinstance(given, str) else None
    mib = 0 if found is None else round(float(found[1]) * _UNITS[found[2].upper()])
    if not 1 <= mib <= 2**30:
        raise _wrong("write an amount such as 500M or 8G")
    return mib


def _time(given: object) -> int:
    """Seconds of a time as people write it."""
    text = given.strip() if isinstance(given, str) else ""
    parts = (_CLOCK.fullmatch(text) or _TIME.fullmatch(text)) if text else None
    seconds = 0
    if parts is not None:
        days, hours, minutes, rest = (int(part or 0) for part in parts.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not 60 <= seconds <= 366 * 86400:
        raise _wrong("write a time such as 30m, 4h, 1d12h or 1-12:00:00, a minute or more")
    return seconds


def _wrong(form: str) -> PydanticCustomError:
    """A value that is written in another form than it should be."""
    return PydanticCustomError("wrong_form", "{form}", {"form": form})


def _text(pattern: str, allowed: str) -> AfterValidator:
    """A text of this form; `allowed` says which."""
    form = re.compile(pattern)

    def check(given: str) -> str:
        if not form.fullmatch(given):
            raise _wrong(f"allowed: {allowed}")
        return given

    return AfterValidator(check)


Word = Annotated[str, _text(r"[A-Za-z0-9][A-Za-z0-9._@/:-]{0,252}", "letters, digits and . _ @ / : -, at most 253")]
"""A name of something on a site, as it stands in a script."""

Words = Annotated[
    str, _text(r"[A-Za-z0-9][A-Za-z0-9._@/:,-]{0,252}", "names with commas between them, at most 253 signs")
]
"""Several such names."""

Line = Annotated[str, _text(r"[^\x00-\x1f\x7f]{1,1000}", "one line of at most 1,000 characters")]
"""A line of a script."""

Label = Annotated[
    str, _text(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "small letters, digits and -, at most 63, as Kubernetes has it")
]


class LaunchSpec(Spec):
    """Where workers run, and with what.

    Attributes:
        launcher: Who places them: this machine, Slurm, Ray or Kubernetes.
        workers: Tasks, each with `cpus` cores or `gpus` GPUs for its workers.
        cpus: Cores of each task.
        gpus: GPUs of each task.
        memory: Of each task, in MiB; written as 500M or 8G.
        time: Until the engine ends a task, in seconds; written as 30m, 4h or 1-12:00:00. Workers leave before.
        logs: Folder of the tasks' logs and of what was sent.
        setup: Lines of shell that are run before a worker, such as `module load python`.
        partition: Of Slurm.
        account: Of Slurm.
        qos: Of Slurm.
        address: Of a Ray cluster; without one, it is started on this machine.
        autoscaling: Whether that cluster brings nodes when they are needed, and larger ones than it has now.
        image: That Kubernetes runs.
        namespace: Of Kubernetes.
        secret: Name of the Kubernetes Secret that holds the storage's URL under the key KANSEARCH_STORAGE.
    """

    launcher: LauncherName = "local"
    workers: Annotated[Whole, Field(ge=1, le=MOST_WORKERS)] | None = None
    cpus: Annotated[Whole, Field(ge=1, le=1024)] = 1
    gpus: Annotated[Whole, Field(ge=0, le=64)] = 0
    memory: Annotated[int, BeforeValidator(_memory)] | None = None
    time: Annotated[int, BeforeValidator(_time)] | None = None
    logs: Line | None = None
    setup: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    partition: Words | None = None
    account: Word | None = None
    qos: Word | None = None
    address: Word | None = None
    autoscaling: bool = False
    image: Word | None = None
    namespace: Label | None = None
    secret: Label | None = None

    def with_environment(self) -> LaunchSpec:
        """This one, and for what it leaves open what an engine's own variables say."""
        cluster = os.environ.get(RAY_ADDRESS)
        if self.launcher == "ray" and self.address is None and cluster:
            return self.model_copy(update={"address": cluster})
        return self

    @property
    def is_here(self) -> bool:
        """Whether workers run on this machine, and end with the process that starts them."""
        return self.launcher == "local" or (self.launcher == "ray" and self.address in {None, RAY_HERE})

    @model_validator(mode="after")
    def _mean_something(self) -> Self:
        known = KNOWN[self.launcher]
        for name in sorted(self.model_fields_set - {"launcher"} - known):
            others = ", ".join(other for other in KNOWN if name in KNOWN[other])
            raise PydanticCustomError(
                "means_nothing",
                "means nothing to launcher {launcher}; it is for: {others}",
                {"launcher": self.launcher, "others": others, "at": name},
            )
        return self

    def over(self, other: LaunchSpec) -> LaunchSpec:
        """What this one says, and for the rest what the other one does; what another launcher needs is left out."""
        said = {name: getattr(other, name) for name in other.model_fields_set}
        said |= {name: getattr(self, name) for name in self.model_fields_set}
        launcher = said.get("launcher", "local")
        return LaunchSpec.model_construct(
            **{name: value for name, value in said.items() if name == "launcher" or name in KNOWN[launcher]}
        )


_ALL = frozenset({"workers"})
_TASKS = _ALL | {"cpus", "gpus", "memory"}
KNOWN: dict[str, frozenset[str]] = {
    "local": _ALL,
    "slurm": _TASKS | {"time", "logs", "setup", "partition", "account", "qos"},
    "ray": _TASKS | {"time", "logs", "address", "autoscaling"},
    "kubernetes": _TASKS | {"time", "logs", "image", "namespace", "secret"},
}
"""What each launcher reads."""
