"""Table files that the tests of this folder write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kansearch.specs.data import DataSpec
from kansearch.specs.metrics import Task


def people(n: int = 200, seed: int = 0) -> pd.DataFrame:
    """A table with all that is allowed: numbers with gaps, booleans, texts, dates, a class and a number to predict."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, n).astype(float)
    table = pd.DataFrame(
        {
            "age": np.where(random.random(n) < 0.1, np.nan, age),
            "income": np.exp(random.normal(10, 1, n)),
            "member": random.random(n) < 0.3,
            "town": random.choice(["Köln", "Lyon", "Oslo", "Århus, old"], n),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, n), unit="D"),
            "always": 7,
        }
    )
    table.loc[random.random(n) < 0.05, "town"] = None
    table["risk"] = np.where(random.random(n) < 0.2, "high", np.where(age > 50, "middle", "low"))
    table["cost"] = 3 * age + random.normal(0, 5, n)
    return table


def spec_of(path: Path, target: str = "y", task: Task = Task.REGRESSION, **fields: object) -> DataSpec:
    return DataSpec.model_validate({"path": path, "target": target, "task": task, **fields})


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
