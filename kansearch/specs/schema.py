"""The JSON Schema of study files, with which editors complete and check them while they are written.

It knows the shorthands that the reader knows. What two places of a file say together (an objective and the task,
low and high) only the reader checks.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from kansearch.specs.data import BUNDLED_SETS, FUNCTIONS, IMAGE_SETS, NUMBER_FORMS, ROLES, TABLE_SUFFIXES, DataSpec
from kansearch.specs.launch import LaunchSpec
from kansearch.specs.metrics import METRICS
from kansearch.specs.space import Hyperparameter, Space, hyperparameters
from kansearch.specs.study import (
    PRUNER_OPTIONS,
    SAMPLER_OPTIONS,
    Budget,
    Constraint,
    Option,
    PrunerSpec,
    SamplerSpec,
    SearchSpec,
    StudySpec,
)
from kansearch.specs.study_file import MAX_CHOICES
from kansearch.specs.trial import ModelSpec, Only, TrainingSpec

Schema = dict[str, Any]

_FLAG: Schema = {"type": "boolean"}


def study_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a study file."""
    study = _section(StudySpec)
    study["properties"] |= {
        "data": _described(DataSpec, anyOf=[_one_of([*BUNDLED_SETS, *IMAGE_SETS, *FUNCTIONS]), _data()]),
        "objectives": {"description": study["properties"]["objectives"]["description"], **_objectives()},
        "constraints": _described(Constraint, type="array", items=_constraint()),
        "budget": _section(Budget),
        "search": _search(),
        "launch": _launch(),
        "space": _space(),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kansearch study",
        **study,
        "required": ["data"],  # a study without a name is called like its file
        "$defs": {
            **{name: _value(parameter) for name, parameter in hyperparameters().items()},
            "when": {
                "description": "Exists only while these other hyperparameters have one of these values.",
                **_object({name: _one_or_list({"$ref": f"#/$defs/{name}"}) for name in hyperparameters()}),
            },
        },
    }


# --- sections ---------------------------------------------------------------------------------------


def _section(model: type[BaseModel]) -> Schema:
    """A section whose keys are the fields of a spec."""
    schema = model.model_json_schema()
    texts = _attributes(model)
    properties = {
        name: ({"description": texts[name]} if name in texts else {}) | _inlined(field, schema.get("$defs", {}))
        for name, field in schema["properties"].items()
    }
    return _described(model, **_object(properties))


_OF_IMAGES = ("folder", "image_size")


def _data() -> Schema:
    schema = _section(DataSpec)
    properties = schema["properties"]
    properties["name"] |= _one_of([*BUNDLED_SETS, *IMAGE_SETS, *FUNCTIONS])
    # Written out in both cases, since the patterns of a schema know no flags.
    suffixes = "|".join("".join(f"[{sign}{sign.upper()}]" for sign in suffix[1:]) for suffix in TABLE_SUFFIXES)
    table, folder = rf"\.({suffixes})$", r"(^|/)[^./]+/?$"
    properties["path"] |= {"type": "string", "anyOf": [{"pattern": table}, {"pattern": folder}]}
    properties["name"].pop("anyOf")
    names = {"type": "array", "items": {"type": "string"}}
    properties["numbers"]["anyOf"] = [names, {"type": "object", "additionalProperties": _one_of(["", *NUMBER_FORMS])}]
    properties["dates"]["anyOf"] = [names, {"type": "object", "additionalProperties": {"type": "string"}}]
    for key in ("numbers", "dates"):
        properties[key] = {word: properties[key][word] for word in ("description", "anyOf")}
    of_tables = ("target", "ignore", "categories", "numbers", "dates", *ROLES)
    never = dict.fromkeys(("path", *of_tables), False)
    schema["oneOf"] = [
        {"required": ["name"], "properties": never},
        {
            "required": ["path", "target", "task"],
            "properties": {"name": False, "path": {"pattern": table}, **dict.fromkeys(_OF_IMAGES, False)},
        },
        {
            "required": ["path"],
            "properties": {"path": {"pattern": folder}, **dict.fromkeys(("name", *of_tables, "folder"), False)},
        },
    ]
    return schema


def _objectives() -> Schema:
    qualities = [metric.name for metric in METRICS.values() if not metric.is_cost]
    several = {"type": "array", "prefixItems": [_one_of(qualities)], "items": _one_of(METRICS), "uniqueItems": True}
    return {"anyOf": [_one_of(qualities), several | {"maxItems": 4}]}


def _constraint() -> Schema:
    metrics = "|".join(METRICS)
    text = {"type": "string", "pattern": rf"^\s*({metrics})\s*[<>]=\s*[-+]?[0-9._]+([eE][-+]?[0-9]+)?\s*$"}
    fields = _section(Constraint)
    fields["properties"]["metric"] |= _one_of(METRICS)
    return {"anyOf": [text, fields | {"required": ["metric", "sign", "bound"]}]}


def _search() -> Schema:
    search = _section(SearchSpec)
    search["properties"]["sampler"] = _described(SamplerSpec, **_named(SamplerSpec, SAMPLER_OPTIONS))
    search["properties"]["pruner"] = _described(PrunerSpec, **_named(PrunerSpec, PRUNER_OPTIONS))
    return search


def _launch() -> Schema:
    launch = _section(LaunchSpec)
    for name in ("memory", "time"):
        launch["properties"][name] = {"description": launch["properties"][name]["description"], "type": "string"}
    return launch


def _named(model: type[BaseModel], options: Mapping[str, Mapping[str, Option]]) -> Schema:
    """A name alone, or with the options of that name beside it; without a name it is the default."""
    shared = {key: field for key, field in _section(model)["properties"].items() if key not in ("name", "options")}
    default = model.model_fields["name"].default
    forms = []
    for name, own in options.items():
        known = {key: _option(option) for key, option in own.items()}
        form = _object({"name": {"const": name}, **shared, **known})
        forms.append(form if name == default else form | {"required": ["name"]})
    return {"default": default, "anyOf": [_one_of(options), *forms]}


def _option(option: Option) -> Schema:
    if option.type is bool:
        return _FLAG
    if option.type is str:
        return _one_of(option.allowed)
    return {
        "type": "integer" if option.type is int else "number",
        "minimum": option.low,
        "maximum": option.high,
    }


# --- space ------------------------------------------------------------------------------------------


def _space() -> Schema:
    return _described(Space, **_object({name: _domain(parameter) for name, parameter in hyperparameters().items()}))


def _domain(parameter: Hyperparameter) -> Schema:
    """One value, a list of values, or an object with a condition."""
    value = {"$ref": f"#/$defs/{parameter.name}"}
    choices = {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_CHOICES, "uniqueItems": True}
    when = {"$ref": "#/$defs/when"}
    forms = [
        value,
        choices,
        _object({"value": value, "when": when}) | {"required": ["value"]},
        _object({"choices": choices, "when": when}) | {"required": ["choices"]},
    ]
    if parameter.type in (int, float) and not parameter.allowed:
        step = {"type": "integer" if parameter.type is int else "number", "exclusiveMinimum": 0}
        ends = {"low": value, "high": value}
        forms += [
            _object({**ends, "step": step, "log": {"const": False}, "when": when}) | {"required": ["low", "high"]},
            _object({**ends, "log": {"const": True}, "when": when}) | {"required": ["low", "high", "log"]},
        ]
    return {"description": _meaning(parameter), "anyOf": forms}


def _value(parameter: Hyperparameter) -> Schema:
    schema = {"description": _meaning(parameter), "default": parameter.default} | parameter.schema
    # The reader takes an empty value for the choice "none".
    return {"anyOf": [schema, {"type": "null"}]} if "none" in parameter.allowed else schema


def _meaning(parameter: Hyperparameter) -> str:
    texts = _attributes(ModelSpec) | _attributes(TrainingSpec)
    text = texts.get(parameter.name, parameter.name.replace("_", " ").capitalize() + ".")
    conditions = [_condition(only) for only in parameter.only]
    return f"{text} Means something only where {' and '.join(conditions)}." if conditions else text


def _condition(only: Only) -> str:
    alternatives = [str(other) for other in only.alternatives()]
    return alternatives[0] if len(alternatives) == 1 else f"({', or '.join(alternatives)})"


# --- words ------------------------------------------------------------------------------------------


def _object(properties: Mapping[str, Any]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _one_of(names: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(names)}


def _one_or_list(value: Schema) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _described(model: type[BaseModel], **schema: Any) -> Schema:
    """A schema with the first line of the spec's docstring."""
    return {"description": (inspect.getdoc(model) or "").partition("\n")[0], **schema}


def _inlined(field: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A field's schema with small definitions in their place; sections of their own are replaced later."""
    if "$ref" in field:
        return {**definitions[field["$ref"].rpartition("/")[2]], **{k: v for k, v in field.items() if k != "$ref"}}
    if "anyOf" in field:
        return field | {"anyOf": [_inlined(form, definitions) for form in field["anyOf"]]}
    return field


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a spec says about its fields."""
    _, _, section = (inspect.getdoc(model) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()).replace("`", "") for name, text in entries}
