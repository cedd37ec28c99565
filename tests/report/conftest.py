"""Studies made up for the report: realistic, and the same every time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kansearch.report.summary import Summary, summarize
from kansearch.specs.data import DataSpec
from kansearch.specs.metrics import METRICS, Direction
from kansearch.specs.space import Choice, Fixed, Range, Space
from kansearch.specs.study import StudySpec
from kansearch.specs.trial import Curve, End, EpochPoint, TrialRecord


def pytest_addoption(parser: pytest.Parser) -> None:
    with contextlib.suppress(ValueError):  # another folder with golden files may have it too
        parser.addoption("--update-golden", action="store_true", help="rewrite golden files; read the diff")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with its golden file, or rewrite the file."""
    folder = Path(__file__).parent.parent / "golden" / "report"

    def check(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--update-golden", default=False):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def builder() -> type[Builder]:
    return Builder


class Builder:
    """Makes up studies and their trials."""

    VALIDATION_ROWS = 287
    N_INPUTS, N_OUTPUTS = 64, 10

    @staticmethod
    def study(
        objectives: Sequence[str] = ("accuracy", "parameters"),
        families: Sequence[str] = ("mlp", "kan", "hybrid"),
        **fields: Any,
    ) -> StudySpec:
        regression = any(METRICS[name].tasks == METRICS["rmse"].tasks for name in objectives)
        domains = {
            "family": Choice(choices=tuple(families)) if len(families) > 1 else Fixed(value=families[0]),
            "width": Range(low=4, high=64, integer=True, log=True),
            "depth": Choice(choices=(2, 3)),
            "n_basis": Choice(choices=(4, 8)),
            "base_function": Choice(choices=("gaussian", "tanh", "b_spline")),
            "learning_rate": Range(low=0.001, high=0.05, log=True),
            "layer_norm": Fixed(value=False),
        }
        return StudySpec(
            **{
                "name": "digits",
                "data": DataSpec(name="diabetes" if regression else "digits"),
                "objectives": tuple(objectives),
                "space": Space(domains=domains),
                "budget": {"trials": 60, "epochs": 27},
                **fields,
            }
        )

    @classmethod
    def records(cls, study: StudySpec, n: int = 60, seed: int = 0) -> list[TrialRecord]:
        """Trials under successive halving: most are pruned at rungs, one fails, the last still runs."""
        rng = np.random.default_rng(seed)
        at_rung: dict[int, list[float]] = {}
        return [cls._record(study, number, n, rng, at_rung) for number in range(n)]

    @classmethod
    def _record(
        cls, study: StudySpec, number: int, n: int, rng: np.random.Generator, at_rung: dict[int, list[float]]
    ) -> TrialRecord:
        families = study.space.families()
        family = families[number % len(families)]
        params: dict[str, Any] = {} if len(families) == 1 else {"family": family}
        params["width"] = round(math.exp(rng.uniform(math.log(4), math.log(64))))
        params["depth"] = int(rng.integers(2, 4))
        params["learning_rate"] = float(f"{10 ** rng.uniform(-3, -1.3):.6g}")
        if family != "mlp":
            params["base_function"] = str(rng.choice(["gaussian", "tanh", "b_spline"]))
            params["n_basis"] = int(rng.choice([4, 8]))
        weights = cls.N_INPUTS * params["width"] + params["width"] * cls.N_OUTPUTS
        weights += (params["depth"] - 2) * params["width"] ** 2
        factor = {"mlp": 1, "kan": params.get("n_basis", 1) + 1, "hybrid": 2}[family]
        parameters = weights * factor + params["depth"] * params["width"]

        capacity = math.log10(parameters) - {"mlp": 0.0, "kan": 0.35, "hybrid": 0.1}[family]
        error = 0.03 + 0.35 * math.exp(-1.5 * (capacity - 2.2)) + 0.02 * rng.random()
        error += 0.03 * abs(math.log10(params["learning_rate"] / 0.008))
        pace = rng.uniform(2, 6)
        losses, state, reason, epochs = [], "complete", None, study.budget.epochs
        for epoch in range(1, study.budget.epochs + 1):
            losses.append(round(error * 3 + 2.0 * math.exp(-epoch / pace) + 0.02 * rng.random(), 6))
            if epoch in study.rungs[:-1]:
                peers = at_rung.setdefault(epoch, [])
                peers.append(losses[-1] * parameters**0.1)
                if len(peers) > 3 and peers[-1] > float(np.quantile(peers, 0.5)):
                    state, reason, epochs = "pruned", f"pruned at epoch {epoch}", epoch
                    break
        if number == n // 2:
            state, reason, epochs, losses = "fail", "its worker died", 3, losses[:3]
        elif number == n // 3:
            state, reason, epochs, losses = "pruned", "diverged: the loss is nan in epoch 2", 1, losses[:1]
        elif number == n - 1 and n > 3:
            state, reason = "running", None
            epochs = min(len(losses), 9)
            losses = losses[:epochs]
        shown = error + 0.5 * math.exp(-epochs / pace)
        right = round((1 - min(shown, 0.9)) * cls.VALIDATION_ROWS)
        measured = {
            "accuracy": right / cls.VALIDATION_ROWS,
            "cross_entropy": losses[-1],
            "rmse": round(40 + 400 * shown, 4),
            "mae": round(30 + 300 * shown, 4),
            "r2": round(1 - 2 * shown, 6),
            "parameters": float(parameters),
            "flops": 2.0 * parameters,
            "latency_ms": round(0.05 + parameters * 2e-5 + 0.01 * rng.random(), 6),
            "train_seconds": round(epochs * 0.02, 3),
        }
        task = study.data.resolved_task
        metrics = {name: value for name, value in measured.items() if task in METRICS[name].tasks}
        feasible = all(constraint.violation(metrics[constraint.metric]) <= 0 for constraint in study.constraints)
        complete = state == "complete"
        return TrialRecord(
            number=number,
            state=state,
            family=family,
            params=params,
            values={name: metrics[name] for name in study.objectives} if complete else {},
            metrics=metrics,
            points=tuple(
                EpochPoint(epoch=i + 1, train_loss=round(loss * 0.9, 6), validation_loss=loss)
                for i, loss in enumerate(losses)
            ),
            epochs=epochs,
            seconds=None if state == "running" else round(epochs * 0.02, 3),
            # As the storage gives it: a pruned trial of several objectives counts as infeasible.
            feasible=feasible and (state != "pruned" or len(study.objectives) == 1),
            reason=reason,
            end=End.DIVERGED if reason and reason.startswith("diverged") else None,
            seed=1000 + number,
            worker="host/1",
            curves=cls.curves(params["depth"], params["width"], number) if complete and family != "mlp" else (),
        )

    @classmethod
    def curves(cls, depth: int, width: int, seed: int) -> tuple[Curve, ...]:
        """Eight learned activations for each layer."""
        rng = np.random.default_rng([7, seed])
        shapes = (np.sin, np.tanh, np.square, lambda x: np.exp(-(x**2)), lambda x: x * (x > 0), np.abs)
        curves = []
        for layer in range(depth):
            sources = cls.N_INPUTS if layer == 0 else width
            targets = cls.N_OUTPUTS if layer == depth - 1 else width
            for _ in range(8):
                x = np.linspace(rng.uniform(-2.5, -1), rng.uniform(1, 2.5), 41)
                y = rng.normal() * shapes[rng.integers(len(shapes))](x * rng.uniform(0.7, 2.2))
                y = np.round(y - y.mean(), 6)
                curves.append(
                    Curve(
                        layer=layer,
                        source=int(rng.integers(sources)),
                        target=int(rng.integers(targets)),
                        amplitude=round(float(np.sqrt((y**2).mean())), 6),
                        x=tuple(np.round(x, 6)),
                        y=tuple(y),
                    )
                )
        return tuple(curves)

    @classmethod
    def record(cls, number: int, values: Mapping[str, float] | None = None, **fields: Any) -> TrialRecord:
        """One trial, complete if it has objective values."""
        family = fields.pop("family", "kan")
        return TrialRecord(
            **{
                "number": number,
                "state": "complete" if values else "running",
                "family": family,
                "params": {"family": family},
                "values": dict(values or {}),
                "metrics": dict(values or {}),
                "points": (),
                "epochs": 27 if values else 0,
                "seconds": 1.0 if values else None,
                "feasible": True,
                "reason": None,
                "seed": 1,
                "worker": None,
                **fields,
            }
        )

    @classmethod
    def summary(
        cls, study: StudySpec | None = None, records: Sequence[TrialRecord] | None = None, **fields: Any
    ) -> Summary:
        study = study or cls.study()
        records = cls.records(study) if records is None else records
        importances = {
            name: {"width": 0.41, "learning_rate": 0.27, "family": 0.19, "n_basis": 0.08, "depth": 0.05}
            for name in study.objectives
            if METRICS[name].direction is Direction.MAXIMIZE or not METRICS[name].is_cost
        }
        return summarize(
            **{
                "study": study,
                "records": records,
                "importances": importances,
                "versions": {"kansearch": "0.1.0", "torch": "2.13.0", "optuna": "5.0.0"},
                "data": "digits: 1797 rows, 64 inputs, 10 classes (1149 train, 288 validation, 360 test), "
                "sha256 3f1c9a7e52d0",
                "warnings": (),
                **fields,
            }
        )
