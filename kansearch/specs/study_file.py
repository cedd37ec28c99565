"""YAML to StudySpec: every mistake of a file at once, each with its place, its value and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kansearch.errors import Mistake, StudyFileError, UserError
from kansearch.specs.base import Spec
from kansearch.specs.data import ROLES, DataSpec
from kansearch.specs.launch import LaunchSpec
from kansearch.specs.space import Choice, Domain, Fixed, Hyperparameter, Range, Space, hyperparameters
from kansearch.specs.study import Budget, SearchSpec, StudySpec
from kansearch.specs.trial import NETWORK_SUFFIX

MAX_BYTES = 100_000
"""A study file is a page or two; a larger file is something else."""

MAX_LENGTH = 1000
"""Characters of one value."""

MAX_CHOICES = 1000

MAX_DEPTH = 20
"""Keys within keys; a study has five."""

COLUMN_NAMES = tuple(("data", key) for key in ("target", "text", "ignore", "categories", "numbers", "dates", *ROLES))
"""Keys whose values are names of columns, which may look like anything else: no, on, 2024."""

PLACES = ("storage", "artifacts")
"""Keys that say where a study is kept; their values are never shown."""

Path_ = tuple[str | int, ...]


def load_study_file(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> StudySpec:
    """Read a study file.

    Args:
        path: The YAML file. Relative paths in its data count from its folder.
        overrides: `PATH=VALUE`, in dots, set before the file is checked: `space.width.high=64`.
        name: The study's name instead of the file's own; a file without one is named after itself.

    Raises:
        UserError: If the file cannot be read.
        StudyFileError: If it has mistakes.
    """
    return study_of(_read(path), path, overrides, name)


def study_of(text: str, path: Path, overrides: Sequence[str] = (), name: str | None = None) -> StudySpec:
    """The study that the text of a file says; arguments and errors are those of `load_study_file`."""
    document, lines = _load(str(path), text)
    if not isinstance(document, dict):
        raise UserError(f"{path} is no study file: it has no keys; it begins with `name: ...`, `data: ...`")
    for override in overrides:
        _set(document, override)
    document.setdefault("name", path.stem)
    if name is not None:
        document["name"] = name
    spec = _validate(str(path), document, lines)
    absolute = {}
    for key in ("path", "folder"):
        given: Path | None = getattr(spec.data, key)
        if given is None:
            continue
        try:
            absolute[key] = _absolute(given, path.parent)
        except RuntimeError:
            mistake = Mistake(f"data.{key}", f"is {given}, and there is no such user", _line(("data", key), lines))
            raise StudyFileError(str(path), [mistake]) from None
    try:
        space = _with_files(spec.space, path.parent)
    except RuntimeError:
        mistake = Mistake("space.backbone", "names a user who does not exist", _line(("space", "backbone"), lines))
        raise StudyFileError(str(path), [mistake]) from None
    backbones = space.words("backbone")
    for backbone in backbones:
        if backbones.count(backbone) > 1:
            mistake = Mistake("space.backbone", f"{backbone} stands here twice", _line(("space", "backbone"), lines))
            raise StudyFileError(str(path), [mistake])
    return spec.model_copy(update={"data": spec.data.model_copy(update=absolute), "space": space})


def load_cluster_file(path: Path) -> LaunchSpec:
    """Read the file of a site: the keys of a study file's `launch`, without that word.

    Raises:
        UserError: If the file cannot be read.
        StudyFileError: If it has mistakes.
    """
    document, lines = _load(str(path), _read(path, "a cluster file"))
    if not isinstance(document, dict):
        raise UserError(f"{path} is no cluster file: it has no keys; it begins with `launcher: slurm` or another one")
    try:
        return _Cluster.model_validate({"launch": document}).launch
    except ValidationError as error:
        found = [(place[1:], text) for place, text in _explained(error, {"launch": document})]
        raise _all_mistakes(str(path), found, lines) from None


class _Cluster(Spec):
    launch: LaunchSpec


def _absolute(given: Path, folder: Path) -> Path:
    return (folder / given.expanduser()).resolve()


def _with_files(space: Space, folder: Path) -> Space:
    """Files of networks count from the study file's folder too."""

    def absolute(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
        files = name == "backbone"
        return tuple(str(_absolute(Path(v), folder)) if files and v.endswith(NETWORK_SUFFIX) else v for v in values)

    domains: dict[str, Domain] = {}
    for name, domain in space.domains.items():
        update: dict[str, Any] = {"when": {other: absolute(other, values) for other, values in domain.when.items()}}
        if isinstance(domain, Choice):
            update["choices"] = absolute(name, domain.choices)
        elif isinstance(domain, Fixed):
            (update["value"],) = absolute(name, (domain.value,))
        domains[name] = domain.model_copy(update=update)
    return Space(domains=domains)


def _read(path: Path, what: str = "a study file") -> str:
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name {what} (YAML)")
        # What is no ordinary file has no size, and perhaps no end.
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES:,} bytes; {what} has at most that")
        return text.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name {what} (YAML)") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; {what} is YAML") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


class _Loader(yaml.SafeLoader):
    """YAML with numbers as people write them: 1e-3 is one, 010 and 1:30 are not; and without dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name and type
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":bool", ":null"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9_]*)$",
    "tag:yaml.org,2002:float": r"""[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$
        |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$
        |[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$""",
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern, re.VERBOSE), list("-+.0123456789"))


def _load(source: str, text: str, place: Path_ = ()) -> tuple[Any, dict[Path_, int]]:
    """The value that a text stands for at a place, and the line of each of its own places."""
    lines: dict[Path_, int] = {}
    try:
        depth = 0
        event: Any
        for event in yaml.parse(text, Loader=_Loader):
            _check_event(source, event)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise UserError(f"{source}, line {event.start_mark.line + 1} is nested too deeply for a study file")
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return None, lines
        _note_lines(source, node, place, lines)
        return _Loader("").construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{source}{where} is not YAML: {what}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source} is not YAML: {str(error).splitlines()[0]}") from None


def _check_event(source: str, event: Any) -> None:
    """Only plain values: an alias can stand for billions of nodes, and a tag for any object."""
    where = f"{source}, line {event.start_mark.line + 1}"
    if isinstance(event, yaml.AliasEvent):
        raise UserError(f"{where}: *{event.anchor} is a YAML alias; write the values out")
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise UserError(f"{where}: {tag.replace('tag:yaml.org,2002:', '!!')} is a YAML tag; write a plain value")
    if isinstance(event, yaml.ScalarEvent):
        if len(event.value) > MAX_LENGTH:
            raise UserError(f"{where}: a value has {len(event.value):,} characters; at most {MAX_LENGTH:,}")
        if any("\ud800" <= sign <= "\udfff" for sign in event.value):
            raise UserError(f"{where}: {_short(event.value)} has half a character in it; write it whole")


def _note_lines(source: str, node: yaml.Node, path: Path_, lines: dict[Path_, int]) -> None:
    """Note where everything stands; keys and names of columns become texts, whatever they look like."""
    lines[path] = node.start_mark.line + 1
    if path[:2] in COLUMN_NAMES and isinstance(node, yaml.ScalarNode) and node.tag != _NULL:
        node.tag = _TEXT
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where = f"{source}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{where}: a key is a list or has keys of its own; a key is a text")
            key.tag = _TEXT
            inner = (*path, key.value)
            if inner in lines:
                raise UserError(f"{where}: {_dots(inner)} stands here twice")
            _note_lines(source, value, inner, lines)
            lines[inner] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _note_lines(source, value, (*path, position), lines)


def _set(document: dict[str, Any], override: str) -> None:
    """Put one `PATH=VALUE` into the document."""
    dots, equals, text = override.partition("=")
    keys = dots.strip().split(".")
    if keys[0] in PLACES:
        # Its value may hold a password.
        raise UserError(f"--set {keys[0]}: write --{keys[0]} instead")
    if not equals or not all(keys):
        raise UserError(f"--set {override}: write it as PATH=VALUE, for example space.width.high=64")
    value, _ = _load(f"--set {override}", text, tuple(keys))
    place = document
    for depth, key in enumerate(keys[:-1]):
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            if keys[depth + 1 :] and keys[0] in ("data", "search") and isinstance(inner, str):
                inner = place[key] = {"name": inner}
            else:
                raise UserError(
                    f"--set {override}: {'.'.join(keys[: depth + 1])} is {_short(inner)}, "
                    f"which has no key {keys[depth + 1]}"
                )
        place = inner
    place[keys[-1]] = value


def _validate(source: str, document: dict[str, Any], lines: Mapping[Path_, int]) -> StudySpec:
    found: list[tuple[Path_, str]] = []
    rest = {key: value for key, value in document.items() if key != "space"}
    space = _space(document.get("space", {}), found)
    spec: StudySpec | None = None
    try:
        spec = StudySpec.model_validate({**rest, "space": space})
    except ValidationError as error:
        found += _explained(error, rest)
    if found or spec is None:
        raise _all_mistakes(source, found, lines)
    return spec


def _all_mistakes(source: str, found: Iterable[tuple[Path_, str]], lines: Mapping[Path_, int]) -> StudyFileError:
    """What was found wrong, by its lines."""
    mistakes = [Mistake(_dots(path) or "(file)", text, _line(path, lines)) for path, text in dict.fromkeys(found)]
    return StudyFileError(source, sorted(mistakes, key=lambda mistake: mistake.line or 0))


def _line(path: Path_, lines: Mapping[Path_, int]) -> int | None:
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


# --- space ------------------------------------------------------------------------------------------


def _space(raw: object, found: list[tuple[Path_, str]]) -> Space:
    """The space that the file describes; its mistakes are added to `found`."""
    if not isinstance(raw, dict):
        found.append((("space",), f"is {_short(raw)}; must have hyperparameters as keys"))
        return Space(domains={})
    table = hyperparameters()
    domains: dict[str, Domain] = {}
    for key, value in raw.items():
        if key not in table:
            found.append((("space", str(key)), f"unknown hyperparameter{_hint(key, table)}"))
            continue
        try:
            domain = _domain(table[key], value)
        except _WrongError as wrong:
            found.extend((("space", key, *path), message) for path, message in wrong.found)
        else:
            domains[key] = domain
    space = Space(domains=domains)
    try:
        space.order()
    except CycleError as error:
        circle = list(dict.fromkeys(error.args[1]))
        found.append(
            (("space", circle[0], "when"), f"the conditions of {', '.join(circle)} wait for each other in a circle")
        )
    return space


_DOMAIN_KEYS = (("choices", "when"), ("value", "when"), ("low", "high", "log", "step", "when"))


class _WrongError(Exception):
    """Mistakes of one domain: (path below the hyperparameter, message)."""

    def __init__(self, *found: tuple[Path_, str]) -> None:
        super().__init__(*found)
        self.found = found


def _domain(parameter: Hyperparameter, raw: object) -> Domain:
    if isinstance(raw, list):
        raw = {"choices": raw}
    if not isinstance(raw, dict):
        return Fixed(value=_value(parameter, raw, ()))
    keys = next((keys for keys in _DOMAIN_KEYS if keys[0] in raw), _DOMAIN_KEYS[-1])
    unknown = [key for key in raw if key not in keys]
    if unknown:
        raise _WrongError(*(((str(key),), f"unknown key{_hint(key, keys)}") for key in unknown))
    when = _when(raw.get("when", {}))
    if "value" in raw:
        return Fixed(value=_value(parameter, raw["value"], ("value",)), when=when)
    if "choices" in raw:
        return Choice(choices=_choices(parameter, raw["choices"]), when=when)
    return _range(parameter, raw, when)


def _range(parameter: Hyperparameter, raw: Mapping[str, Any], when: dict[str, Any]) -> Range:
    if parameter.type not in (int, float):
        raise _WrongError(
            ((), f"is no number, so it has no range; list some of its values{_hint('', parameter.allowed)}")
        )
    if parameter.allowed:
        few = ", ".join(str(value) for value in parameter.allowed)
        raise _WrongError(((), f"is one of few numbers, so it has no range; list some of its values: {few}"))
    missing = [key for key in ("low", "high") if key not in raw]
    if missing:
        raise _WrongError(
            ((), f"has no {' and no '.join(missing)}; write one value, a list of values, or low and high")
        )
    wrong: list[tuple[Path_, str]] = []
    ends: dict[str, float] = {}
    for key in ("low", "high"):
        try:
            ends[key] = float(_value(parameter, raw[key], (key,)))
        except _WrongError as error:
            wrong += error.found
    log = raw.get("log", False)
    if not isinstance(log, bool):
        wrong.append((("log",), f"is {_short(log)}; allowed: true, false"))
    step = raw.get("step")
    if step is not None and (isinstance(step, bool) or not isinstance(step, (int, float)) or not step > 0):
        wrong.append((("step",), f"is {_short(step)}; must be a number above 0"))
    elif step is not None and parameter.type is int and not isinstance(step, int):
        wrong.append((("step",), f"is {_short(step)}; {parameter.name} is a whole number"))
    elif step is not None and len(ends) == 2 and step > max(0, ends["high"] - ends["low"]):
        wrong.append((("step",), f"is {_short(step)}, longer than the range"))
    if wrong:
        raise _WrongError(*wrong)
    if ends["low"] > ends["high"]:
        raise _WrongError((("low",), f"is {raw['low']}, above high ({raw['high']})"))
    if log and ends["low"] <= 0:
        raise _WrongError((("low",), f"is {raw['low']}; a log scale needs a low above 0"))
    if log and step is not None:
        raise _WrongError((("step",), "cannot stand beside log: true"))
    return Range(
        **ends,
        integer=parameter.type is int,
        log=bool(log),
        step=float(step) if step is not None else None,
        when=when,
    )


def _choices(parameter: Hyperparameter, raw: object) -> tuple[Any, ...]:
    if not isinstance(raw, list) or not raw:
        raise _WrongError((("choices",), f"is {_short(raw)}; must be a list of at least one value"))
    if len(raw) > MAX_CHOICES:
        raise _WrongError((("choices",), f"has {len(raw):,} values; at most {MAX_CHOICES:,}"))
    values: list[Any] = []
    wrong: list[tuple[Path_, str]] = []
    for position, item in enumerate(raw):
        try:
            value = _value(parameter, item, (position,))
        except _WrongError as error:
            wrong += error.found
        else:
            if value in values:
                wrong.append(((position,), f"{_short(item)} stands here twice"))
            values.append(value)
    if wrong:
        raise _WrongError(*wrong)
    return tuple(values)


def _value(parameter: Hyperparameter, raw: object, path: Path_) -> Any:
    # YAML reads a bare `none` as text but `null` and `~` as nothing; both can only mean the choice "none".
    if raw is None and "none" in parameter.allowed:
        raw = "none"
    try:
        return parameter.validate(raw)
    except ValidationError as error:
        return _refuse(parameter, raw, path, error)


def _refuse(parameter: Hyperparameter, raw: object, path: Path_, error: ValidationError) -> Any:
    if parameter.allowed or parameter.known:
        hint = _hint(raw, parameter.allowed or parameter.known)
        others = "" if parameter.allowed else f", or {parameter.others}"
        raise _WrongError((path, f"is {_short(raw)}{hint}{others}")) from None
    raise _WrongError((path, _sentence(error.errors()[0], raw))) from None


def _when(raw: object) -> dict[str, tuple[Any, ...]]:
    if not isinstance(raw, dict):
        raise _WrongError((("when",), f"is {_short(raw)}; write it as {{family: [kan, hybrid]}}"))
    table = hyperparameters()
    when: dict[str, tuple[Any, ...]] = {}
    wrong: list[tuple[Path_, str]] = []
    for key, value in raw.items():
        if key not in table:
            wrong.append((("when", str(key)), f"unknown hyperparameter{_hint(key, table)}"))
            continue
        items = value if isinstance(value, list) else [value]
        if not items:
            wrong.append((("when", key), "is empty; name at least one value"))
            continue
        try:
            when[key] = tuple(_value(table[key], item, ("when", key)) for item in items)
        except _WrongError as error:
            wrong += error.found
    if wrong:
        raise _WrongError(*wrong)
    return when


# --- words ------------------------------------------------------------------------------------------

_SECTIONS: dict[Path_, type[Spec]] = {
    (): StudySpec,
    ("data",): DataSpec,
    ("budget",): Budget,
    ("search",): SearchSpec,
    ("launch",): LaunchSpec,
}


def _explained(error: ValidationError, raw: object) -> Iterable[tuple[Path_, str]]:
    for item in error.errors():
        context = item.get("ctx", {})
        path: Path_ = item["loc"]
        at = context.get("at")
        if at is not None:
            path = (*path, *(at if isinstance(at, tuple) else at.split(".") if isinstance(at, str) else (at,)))
        yield path, _sentence(item, _at(raw, path), path)


def _at(raw: object, path: Path_) -> object:
    for key in path:
        if isinstance(raw, dict):
            raw = raw.get(key, raw)
        elif isinstance(raw, list) and isinstance(key, int) and key < len(raw):
            raw = raw[key]
    return raw


def _sentence(item: Any, value: object, path: Path_ = ()) -> str:
    """One of pydantic's findings in our words: what is wrong, then what is allowed."""
    kind, context = item["type"], item.get("ctx", {})
    shown = "is no text" if path[:1] and path[0] in PLACES else f"is {_short(value)}"
    match kind:
        case "extra_forbidden":
            section = _SECTIONS.get(path[:-1])
            return f"unknown key{_hint(path[-1], section.model_fields if section else ())}"
        case "missing":
            return "is missing"
        case "unknown_name":
            return f"is {_short(context['given'])}{_hint(context['given'], context['allowed'])}"
        case "wrong_form":
            return f"{shown}; {context['form']}"
        case "unknown_option":
            return f"unknown key{_hint(context['given'], context['allowed'])}"
        case "literal_error" | "enum":
            return f"{shown}{_hint(value, _quoted(context['expected']))}"
        case "greater_than" | "less_than":
            word = "above" if kind == "greater_than" else "below"
            return f"{shown}; must be {word} {context.get('gt', context.get('lt'))}"
        case "greater_than_equal" | "less_than_equal":
            word = "at least" if kind == "greater_than_equal" else "at most"
            return f"{shown}; must be {word} {context.get('ge', context.get('le'))}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{shown}; must be a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return f"{shown}; must be a finite number"
        case "string_type" | "string_unicode" | "path_type":
            return f"{shown}; must be a text"
        case "bool_type" | "bool_parsing":
            return f"{shown}; allowed: true, false"
        case "tuple_type" | "list_type":
            return f"{shown}; must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown}; must have keys of its own"
        case "too_long":
            return f"has {context['actual_length']} entries; at most {context['max_length']}"
        case "string_pattern_mismatch":
            return f"{shown}; allowed: at most 100 letters, digits and . _ @ -, a letter or digit first"
        case _:
            message = str(item["msg"])
            return message[:1].lower() + message[1:] if message.startswith("Input") else message


def _quoted(expected: str) -> list[str]:
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _hint(given: object, allowed: Iterable[object]) -> str:
    names = [str(item).lower() if isinstance(item, bool) else str(item) for item in allowed]
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.6)
    near = f'; did you mean "{close[0]}"?' if close else ""
    # A long list behind a near miss would only bury it.
    listed = f"; allowed: {', '.join(names)}" if names and not (near and len(names) > 12) else ""
    return near + listed


def _short(value: object) -> str:
    """A value as a message shows it: never more than a few words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = _printable(f'"{value}"' if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _printable(text: str) -> str:
    """The text in one line: line ends and what no terminal can show are escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _dots(path: Path_) -> str:
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return _printable(text if len(text) <= 200 else f"{text[:197]}...")
