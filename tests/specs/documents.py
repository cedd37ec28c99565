"""Study files as Hypothesis draws them: every one is valid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from kansearch.specs.data import BUNDLED_SETS, FUNCTIONS, NUMBER_FORMS
from kansearch.specs.metrics import METRICS, Task
from kansearch.specs.space import Hyperparameter, hyperparameters
from kansearch.specs.study import SAMPLER_OPTIONS

Document = dict[str, Any]


def write_study(folder: Path, document: Document | str | bytes, name: str = "study.yaml") -> Path:
    path = folder / name
    if isinstance(document, dict):
        document = json.dumps(document)  # JSON is YAML
    path.write_bytes(document if isinstance(document, bytes) else document.encode("utf-8", "surrogatepass"))
    return path


def values(parameter: Hyperparameter) -> st.SearchStrategy[Any]:
    """Values that a hyperparameter may have."""
    if parameter.allowed:
        return st.sampled_from(parameter.allowed)
    if parameter.known:
        return st.sampled_from([*parameter.known, "trial-3.safetensors"])
    schema = parameter.schema
    if parameter.type is int:
        return st.integers(schema["minimum"], schema["maximum"])
    above, below = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
        exclude_min=above,
        exclude_max=below,
    ).map(float)


@st.composite
def domains(draw: st.DrawFn, parameter: Hyperparameter, earlier: Sequence[str]) -> Any:
    """One value, a list, or an object, perhaps with a condition on hyperparameters further up in the table."""
    value = values(parameter)
    form = draw(
        st.sampled_from(
            ["value", "list", "range"]
            if parameter.type in (int, float) and not parameter.allowed
            else ["value", "list"]
        )
    )
    if form == "value":
        domain: Any = draw(value)
        body: Document = {"value": domain}
    elif form == "list":
        domain = draw(st.lists(value, min_size=1, max_size=4, unique=True))
        body = {"choices": domain}
    else:
        low, high = sorted([draw(value), draw(value)])
        body = {"low": low, "high": high}
        if low > 0 and draw(st.booleans()):
            body["log"] = True
        elif high - low >= 1:
            body["step"] = 1
        domain = body
    if earlier and draw(st.booleans()):
        table = hyperparameters()
        names = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=2, unique=True))
        body["when"] = {name: draw(st.lists(values(table[name]), min_size=1, max_size=3)) for name in names}
        domain = body
    return domain


@st.composite
def spaces(draw: st.DrawFn) -> Document:
    table = hyperparameters()
    names = list(table)
    chosen = draw(st.lists(st.sampled_from(names), max_size=8, unique=True))
    return {name: draw(domains(table[name], names[: names.index(name)])) for name in chosen}


@st.composite
def documents(draw: st.DrawFn) -> Document:
    name = draw(st.sampled_from([*BUNDLED_SETS, *FUNCTIONS]))
    task = BUNDLED_SETS.get(name, Task.REGRESSION)
    qualities = [metric.name for metric in METRICS.values() if task in metric.tasks and not metric.is_cost]
    costs = [metric.name for metric in METRICS.values() if metric.is_cost]
    first = draw(st.sampled_from(qualities))
    objectives = [first, *draw(st.lists(st.sampled_from(costs), max_size=3, unique=True))]
    epochs = draw(st.integers(1, 1000))
    rungs = {"min_epochs": draw(st.integers(1, epochs)), "reduction_factor": draw(st.integers(2, 5))}
    is_single = len(objectives) == 1
    pruner = draw(st.sampled_from(["pareto", "none", "median", "hyperband"] if is_single else ["pareto", "none"]))
    sampler = draw(st.sampled_from([name for name in SAMPLER_OPTIONS if name != "cmaes"]))
    table = st.fixed_dictionaries(
        {"path": st.just("table.csv"), "target": st.sampled_from(["y", "größe"]), "task": st.just(task.value)},
        optional={
            "ignore": st.lists(st.sampled_from(["a", "b c"]), unique=True),
            "categories": st.lists(st.sampled_from(["shop", "no"]), unique=True),
            "numbers": st.one_of(
                st.lists(st.sampled_from(["dose", "2024"]), unique=True),
                st.dictionaries(st.sampled_from(["dose", "2024"]), st.sampled_from(NUMBER_FORMS)),
            ),
            "dates": st.one_of(st.just(["day"]), st.just({"day": "%d/%m/%Y"})),
        },
    )
    number = st.floats(-1e9, 1e9)
    return {
        "data": draw(
            st.one_of(
                st.just(name),
                st.fixed_dictionaries(
                    {"name": st.just(name)},
                    optional={
                        "validation": st.floats(0.01, 0.4),
                        "test": st.floats(0.01, 0.4),
                        "seed": st.integers(0, 2**32 - 1),
                        "noise": st.floats(0, 100),
                        "n_train": st.integers(8, 10**6),
                    },
                ),
                table,
            )
        ),
        "space": draw(spaces()),
        "objectives": first if is_single and draw(st.booleans()) else objectives,
        **draw(
            st.fixed_dictionaries(
                {"budget": st.just({"epochs": epochs, "trials": 7})},
                optional={
                    "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", fullmatch=True),
                    "constraints": st.lists(
                        st.one_of(
                            st.builds(
                                "{} {} {!r}".format, st.sampled_from(costs), st.sampled_from(["<=", ">="]), number
                            ),
                            st.builds("{}<={}".format, st.sampled_from(qualities), st.integers(0, 10**9)),
                            st.builds(
                                lambda cost, bound: {"metric": cost, "sign": "<=", "bound": bound},
                                st.sampled_from(costs),
                                number,
                            ),
                        ),
                        max_size=3,
                    ),
                    "search": st.just(
                        {"sampler": sampler, "pruner": {"name": pruner, **rungs}, "families": "free", "seed": 3}
                    ),
                },
            )
        ),
    }
