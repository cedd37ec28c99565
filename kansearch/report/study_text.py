"""A study as the text of a study file."""

from __future__ import annotations

from typing import Any

import yaml

from kansearch.specs.space import Choice, Domain, Fixed
from kansearch.specs.study import StudySpec


def study_yaml(study: StudySpec) -> str:
    """A study file that declares this study; what has its default is left out."""
    given = study.model_dump(mode="json", exclude_defaults=True, exclude={"space", "constraints"})
    data = given["data"]
    given["data"] = data["name"] if list(data) == ["name"] else data
    search = given.get("search", {})
    for key in ("sampler", "pruner"):
        if key in search:
            named = {"name": getattr(study.search, key).name, **search[key]}
            named.update(named.pop("options", {}))
            search[key] = named["name"] if list(named) == ["name"] else named
    if study.constraints:
        given["constraints"] = [f"{c.metric} {c.sign} {c.bound!r}" for c in study.constraints]
    given["space"] = {name: _domain(domain) for name, domain in study.space.domains.items()}
    text: str = yaml.safe_dump(given, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    return text


def _domain(domain: Domain) -> Any:
    """A domain as a study file writes it."""
    when = {"when": {name: list(values) for name, values in domain.when.items()}} if domain.when else {}
    if isinstance(domain, Fixed):
        return {"value": domain.value, **when} if when else domain.value
    if isinstance(domain, Choice):
        return {"choices": list(domain.choices), **when} if when else list(domain.choices)
    number = int if domain.integer else float
    ends: dict[str, Any] = {"low": number(domain.low), "high": number(domain.high)}
    if domain.log:
        ends["log"] = True
    if domain.step is not None:
        ends["step"] = number(domain.step)
    return {**ends, **when}
