"""What the server of `tests.commands` has imported before it forks; nothing here may start a thread."""

from __future__ import annotations

import gc
import importlib
import pkgutil

import plotly.graph_objects
import psycopg
import pymysql

import kansearch
import kansearch.__main__

for room in pkgutil.iter_modules(kansearch.__path__, "kansearch."):
    package = importlib.import_module(room.name)
    for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{room.name}."):
        if not module.ispkg and not module.name.endswith("._library"):
            importlib.import_module(module.name)

__all__ = ["plotly", "psycopg", "pymysql"]

gc.freeze()  # else each process would copy all of it for its own search for garbage
