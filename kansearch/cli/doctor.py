"""`kansearch doctor`: what is wrong on this machine, and how to mend it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial

from kansearch.cli.tables import console
from kansearch.errors import EmptyStorageError, KansearchError, UserError
from kansearch.storage.health import EXAMINATIONS
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import study_names
from kansearch.storage.url import as_storage_error, check_creatable, open_storage, parse_url, shown
from kansearch.versions import versions

_SLOWER = "torch trains, which takes 20 times as long and more"


def examine(url: str) -> int:
    """Print one line for each thing examined; returns the exit code of the worst finding."""
    opened: list[Storage] = []
    looks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "torch": _torch,
        "compiled": _compiled,
        "speed": _speed,
        "cores": _cores,
        "storage": lambda: _storage(url, opened),
    }
    worst = max(_report(name, look) for name, look in looks.items())
    for storage in opened:
        worst = max(worst, *(_report(name, partial(look, storage)) for name, look in EXAMINATIONS.items()))
    return worst


def _report(name: str, look: Callable[[], str]) -> int:
    """Print what a look finds; returns its exit code."""
    code = 0
    try:
        verdict, finding = "ok   ", look()
    except Exception as error:
        found = error if isinstance(error, KansearchError) else as_storage_error(error)
        if found is None:
            raise
        code, verdict, finding = found.exit_code, "wrong", str(found)
    console().print(f"{verdict} {name:<9} {finding}", markup=False, soft_wrap=True)
    return code


def _versions() -> str:
    found = versions()
    missing = [name for name, version in found.items() if version == "missing"]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}; pip install kansearch again")
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _torch() -> str:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # noqa: BLE001 - a broken build fails in its own ways
        raise UserError(f"torch cannot be imported: {error}; install a build for this machine") from None
    result = (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()
    if result != 8:
        raise UserError(f"torch multiplies wrongly (8 became {result}); install another build")
    found = torch.cuda.is_available()
    cuda = f"{torch.cuda.get_device_name(0)} (--device cuda uses it)" if found else "none; trials train on the CPU"
    return f"computes; CUDA device: {cuda}"


def _compiled() -> str:
    compiled = importlib.import_module("kansearch.compiled")
    trainer = importlib.import_module("kansearch.compiled.trainer")
    if trainer.level() is not None:
        trained = f"networks over numbers are trained by compiled code for {trainer.level()} vectors"
        if trainer.level() != trainer.best_level():
            trained += f", slower than it could be: that for {trainer.best_level()} is missing or broken; install again"
        return trained
    if not compiled.wanted():
        return f"left out, for KANSEARCH_COMPILED is 0; {_SLOWER}"
    if compiled.path() is not None:
        return f"of another version or machine, and left out; {_SLOWER}: install kansearch again"
    return f"missing; {_SLOWER}: install a C compiler, then kansearch again"


def _speed() -> str:
    speed = importlib.import_module("kansearch.training.speed")
    return f"{speed.epochs_a_second():,.0f} epochs a second of {speed.REFERENCE}, with one core"


def _cores() -> str:
    return f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}; that many workers by default"


def _storage(url: str, opened: list[Storage]) -> str:
    """Whether it answers; if there is anything in it, it is opened."""
    parsed = parse_url(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if file and not os.path.exists(file):  # noqa: PTH110 - it is a text, the path of a URL
        check_creatable(url)
        return f"{shown(url)} does not exist yet; `kansearch optimize` makes it"
    try:
        storage = open_storage(url, read_only=True)
        names = study_names(storage)
    except EmptyStorageError:
        check_creatable(url)
        return f"{shown(url)} answers; studies: none yet"
    opened.append(storage)
    return f"{shown(url)} answers; studies: {', '.join(names) or 'none yet'}"
