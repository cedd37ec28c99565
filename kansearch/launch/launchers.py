"""The launchers by name, each imported when it is asked for: engines are not installed everywhere."""

from __future__ import annotations

from collections.abc import Callable

from kansearch.launch.request import Launcher
from kansearch.specs.launch import LaunchSpec


def launcher(spec: LaunchSpec) -> Launcher:
    """The launcher that a site's spec names.

    Raises:
        MissingExtraError: If its engine's client is not installed.
    """
    return _LAUNCHERS[spec.launcher](spec)


def _local(spec: LaunchSpec) -> Launcher:
    from kansearch.launch.local import LocalLauncher

    del spec
    return LocalLauncher()


def _slurm(spec: LaunchSpec) -> Launcher:
    from kansearch.launch.slurm import SlurmLauncher

    return SlurmLauncher(spec)


def _ray(spec: LaunchSpec) -> Launcher:
    from kansearch.launch.ray import RayLauncher

    return RayLauncher(spec)


def _kubernetes(spec: LaunchSpec) -> Launcher:
    from kansearch.launch.kubernetes import KubernetesLauncher

    return KubernetesLauncher(spec)


_LAUNCHERS: dict[str, Callable[[LaunchSpec], Launcher]] = {
    "local": _local,
    "slurm": _slurm,
    "ray": _ray,
    "kubernetes": _kubernetes,
}
