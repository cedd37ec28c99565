"""Versions of everything that decides a result; read without importing any of it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from kansearch import __version__

PACKAGES = ("torch", "optuna", "numpy", "scikit-learn", "sqlalchemy", "plotly")


def versions() -> dict[str, str]:
    """Name to version, this package and Python first."""
    found = {"kansearch": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found
