"""Study files: what is read from them, and what a person reads about a broken one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kansearch.errors import StudyFileError, UserError
from kansearch.specs.space import Choice, Fixed, Range
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import MAX_BYTES, load_study_file

from .documents import Document, documents, write_study

STUDIES = Path(__file__).parents[2] / "studies"
PLAIN: Document = {"data": "digits", "space": {"width": {"low": 4, "high": 8}}}

quickly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- what is read -----------------------------------------------------------------------------------


def test_names_of_columns_are_taken_as_they_stand(tmp_path: Path) -> None:
    """YAML would make truth values and numbers of some words; as a name of a column a word is a word."""
    path = tmp_path / "study.yaml"
    path.write_text(
        "data: {path: t.csv, target: no, task: regression, ignore: [on, 2024, 'Off'], categories: [1e3],\n"
        "  numbers: {yes: 1234.5, 7: ''}}\n"
        "space: {family: mlp}\n"
    )
    data = load_study_file(path, ["data.target=true"]).data
    assert data.target == "true"
    assert load_study_file(path).data.target == "no"
    assert data.ignore == ("on", "2024", "Off")
    assert data.categories == ("1e3",)
    assert data.numbers == {"yes": "1234.5", "7": ""}


@quickly
@given(document=documents())
def test_a_study_survives_as_json(tmp_path: Path, document: Document) -> None:
    """A study read back from the JSON that the storage keeps is the same study."""
    spec = load_study_file(write_study(tmp_path, document))
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert StudySpec.model_validate(spec.model_dump()) == spec
    assert spec.differences(StudySpec.model_validate_json(spec.model_dump_json())) == ()


@quickly
@given(document=documents())
def test_yaml_and_json_are_the_same_study(tmp_path: Path, document: Document) -> None:
    """A file written by a YAML library in block style is read as its JSON is."""
    document.pop("name", None)  # YAML libraries do not quote the text 1e5, which is a number here
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    spec = load_study_file(write_study(tmp_path, text))
    assert spec == load_study_file(write_study(tmp_path, document))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_studies(path: Path) -> None:
    """Every study file that comes with the package can be read, and is named after itself."""
    assert load_study_file(path).name == path.stem


def test_what_is_left_out_has_defaults(tmp_path: Path) -> None:
    """A name and a space of one line are a whole study, called like its file."""
    spec = load_study_file(write_study(tmp_path, PLAIN, "first-try.yaml"))
    assert spec.name == "first-try"
    assert spec.objectives == ("accuracy", "parameters")
    assert (spec.search.sampler.name, spec.search.pruner.name, spec.search.families) == ("tpe", "pareto", "balanced")
    assert spec.space.domains == {"width": Range(low=4, high=8, integer=True)}
    assert load_study_file(write_study(tmp_path, {**PLAIN, "data": "diabetes"})).objectives == ("rmse", "parameters")


def test_shorthands_mean_what_they_abbreviate(tmp_path: Path) -> None:
    """A name alone, options beside a name, one objective and a constraint as text are the long forms."""
    short = {
        **PLAIN,
        "objectives": "accuracy",
        "constraints": ["parameters<=1_000"],
        "search": {"sampler": "random", "pruner": {"name": "median", "n_min_trials": 2, "min_epochs": 3}},
    }
    long = {
        "data": {"name": "digits"},
        "space": {"width": {"low": 4, "high": 8, "log": False, "when": {}}},
        "objectives": ["accuracy"],
        "constraints": [{"metric": "parameters", "sign": "<=", "bound": 1000}],
        "search": {
            "sampler": {"name": "random"},
            "pruner": {"name": "median", "options": {"n_min_trials": 2}, "min_epochs": 3},
        },
    }
    assert load_study_file(write_study(tmp_path, short)) == load_study_file(write_study(tmp_path, long))


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("width: 4", Fixed(value=4)),
        ("width: +1_0", Fixed(value=10)),
        ("learning_rate: 1e-3", Fixed(value=0.001)),
        ("learning_rate: 1", Fixed(value=1.0)),
        ("learning_rate: {low: 1e-4, high: .1, log: true}", Range(low=1e-4, high=0.1, log=True)),
        ("dropout: {low: 0, high: 0.3, step: 1e-1}", Range(low=0, high=0.3, step=0.1)),
        ("depth: {low: 2, high: 2}", Range(low=2, high=2, integer=True)),
        ("family: [mlp, kan]", Choice(choices=("mlp", "kan"))),
        ("layer_norm: [true, false]", Choice(choices=(True, False))),
        ("base_branch: [silu, null]", Choice(choices=("silu", "none"))),
        ("unfreeze: none", Fixed(value="none")),
        ("width: {value: 4, when: {family: kan}}", Fixed(value=4, when={"family": ("kan",)})),
        ("width: {choices: [4], when: {depth: [1, 2]}}", Choice(choices=(4,), when={"depth": (1, 2)})),
    ],
)
def test_a_domain_as_people_write_it(tmp_path: Path, text: str, domain: Fixed | Range | Choice) -> None:
    """One value, a list or an object; 1e-3 is a number."""
    spec = load_study_file(write_study(tmp_path, f"data: digits\nspace:\n  {text}\n"))
    (read,) = spec.space.domains.values()
    assert read == domain
    assert [type(value) for value in vars(read).values()] == [type(value) for value in vars(domain).values()]


def test_names_that_look_like_something_else_are_texts(tmp_path: Path) -> None:
    """A study may be called like a day."""
    assert load_study_file(write_study(tmp_path, "name: 2026-01-31\ndata: iris\nspace: {}\n")).name == "2026-01-31"
    assert load_study_file(write_study(tmp_path, "\ufeffname: x\ndata: iris\nspace: {}\n")).name == "x"


def test_a_table_is_looked_for_beside_the_study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path counts from the study file, wherever the command is run; the home folder is known."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, expected in (
        ("a.csv", tmp_path / "studies" / "a.csv"),
        ("../a.csv", tmp_path / "a.csv"),
        ("/data/a.csv", Path("/data/a.csv")),
        ("~/a.csv", tmp_path / "home" / "a.csv"),
    ):
        (tmp_path / "studies").mkdir(exist_ok=True)
        data = {"path": name, "target": "y", "task": "regression"}
        spec = load_study_file(write_study(tmp_path / "studies", {**PLAIN, "data": data}))
        assert spec.data.path == expected


# --- --set ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("budget.trials=7", ("budget", "trials"), 7),
        ("data=iris", ("data", "name"), "iris"),
        ("data.seed=3", ("data", "seed"), 3),
        ("search.sampler=random", ("search", "sampler", "name"), "random"),
        ("search.sampler.n_startup_trials=3", ("search", "sampler", "options"), {"n_startup_trials": 3}),
        ("search.pruner.min_epochs=3", ("search", "pruner", "min_epochs"), 3),
        ("objectives=[accuracy]", ("objectives",), ("accuracy",)),
        ("space.width.high=64", ("space", "domains", "width", "high"), 64.0),
        ("space.width=[1, 2]", ("space", "domains", "width", "choices"), (1, 2)),
        ("space.learning_rate={low: 1e-4, high: 1e-2}", ("space", "domains", "learning_rate", "low"), 1e-4),
        (" name = set-by-hand", ("name",), "set-by-hand"),
        ("name=a=b", ("name",), None),
    ],
)
def test_an_override_stands_for_what_the_file_says(
    tmp_path: Path, override: str, place: tuple[str, ...], value: object
) -> None:
    """A value set on the command line is checked like one in the file, and goes before it."""
    path = write_study(tmp_path, {**PLAIN, "search": {"sampler": "tpe"}, "budget": {"trials": 5}})
    if value is None:
        with pytest.raises(StudyFileError, match='is "a=b"; allowed: at most 100 letters'):
            load_study_file(path, [override])
        return
    found: Any = load_study_file(path, [override]).model_dump()
    for key in place:
        found = found[key]
    assert found == value


def test_later_overrides_go_before_earlier_ones(tmp_path: Path) -> None:
    """In the order in which they are typed; a name of its own goes before all."""
    path = write_study(tmp_path, PLAIN)
    spec = load_study_file(path, ["budget.trials=1", "budget.trials=2", "name=a"], name="b")
    assert (spec.budget.trials, spec.name) == (2, "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.trials", "--set budget.trials: write it as PATH=VALUE, for example space.width.high=64"),
        ("=3", "--set =3: write it as PATH=VALUE"),
        ("budget..trials=3", "--set budget..trials=3: write it as PATH=VALUE"),
        ("budget.trials.more=3", "--set budget.trials.more=3: budget.trials is 5, which has no key more"),
        ("objectives.0=rmse", '--set objectives.0=rmse: objectives is ["accuracy"], which has no key 0'),
        ("name.x=3", '--set name.x=3: name is "n", which has no key x'),
        ("budget.trials=[1, 2", "--set budget.trials=[1, 2, line 1 is not YAML: while parsing a flow sequence"),
        ("data=!!bool x", "--set data=!!bool x, line 1: !!bool is a YAML tag; write a plain value"),
        ("data=*a", "--set data=*a, line 1: *a is a YAML alias; write the values out"),
        ("data={a: 1, a: 2}", "--set data={a: 1, a: 2}, line 1: data.a stands here twice"),
        ("budget.trials=0", "budget.trials  is 0; must be at least 1"),
        ("budget.trials=", "budget.trials  is empty; must be a whole number"),
        ("budget.trails=3", 'budget.trails  unknown key; did you mean "trials"?'),
        ("buget.trials=3", 'buget  unknown key; did you mean "budget"?'),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    """A mistake on the command line is shown as it was typed, or by its place in the study."""
    path = write_study(tmp_path, {**PLAIN, "name": "n", "budget": {"trials": 5}, "objectives": ["accuracy"]})
    with pytest.raises(UserError) as error:
        load_study_file(path, [override])
    assert message.replace('["accuracy"]', "['accuracy']") in str(error.value)
    assert error.value.exit_code == 2


# --- broken files -----------------------------------------------------------------------------------

NO_STUDY: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "{path} is no study file: it has no keys; it begins with `name: ...`, `data: ...`"),
    "only a comment": ("# nothing\n\n", "{path} is no study file: it has no keys"),
    "null": ("null", "{path} is no study file: it has no keys"),
    "list at the top": ("- data: digits\n", "{path} is no study file: it has no keys"),
    "text at the top": ("digits", "{path} is no study file: it has no keys"),
    "number at the top": ("42", "{path} is no study file: it has no keys"),
    "picture": (b"\x89PNG\r\n\x1a\n\x00\xff", "{path} is no text in UTF-8; a study file is YAML"),
    "zeros": (b"\0" * 100, "{path} is not YAML: unacceptable character #x0000"),
    "control character": ("data: \x07", "{path} is not YAML: unacceptable character #x0007"),
    "UTF-16": ("data: digits".encode("utf-16"), "{path} is no text in UTF-8"),
    "surrogate": ("data: \ud800", "{path} is no text in UTF-8"),
    "10 MB": ("x: " + "y" * 10_000_000, "{path} has more than 100,000 bytes; a study file has at most that"),
    "open bracket": ("data: [1, 2\n", "{path}, line 2 is not YAML: while parsing a flow sequence, expected ',' or ']'"),
    "tab": ("data: digits\nspace:\n\twidth: 4", "{path}, line 3 is not YAML: while scanning for the next token"),
    "indentation": ("data: digits\n  space: {}", "{path}, line 2 is not YAML: mapping values are not allowed here"),
    "two documents": ("data: iris\n---\ndata: wine", "{path}, line 2 is not YAML: expected a single document"),
    "alias bomb": (
        "a: &a [x, x]\n" + "\n".join(f"b{i}: &b{i} [{'*a, ' * 9}]" for i in range(9)),
        "{path}, line 2: *a is a YAML alias; write the values out",
    ),
    "alias to itself": ("data: &a [*a]", "{path}, line 1: *a is a YAML alias"),
    "python object": (
        "data: !!python/object/apply:os.system ['true']",
        "{path}, line 1: !!python/object/apply:os.system is a YAML tag; write a plain value",
    ),
    "own tag": ("space: {}\ndata: !digits x", "{path}, line 2: !digits is a YAML tag; write a plain value"),
    "tag of a date": ("data: !!timestamp x", "{path}, line 1: !!timestamp is a YAML tag"),
    "tag of a key": ("!!bool x: 1", "{path}, line 1: !!bool is a YAML tag"),
    "deep lists": ("data: " + "[" * 2000 + "]" * 2000, "{path}, line 1 is nested too deeply for a study file"),
    "deep keys": ("data: " + "{a: " * 2000 + "}" * 2000, "{path}, line 1 is nested too deeply for a study file"),
    "deep blocks": (
        "\n".join(" " * i + "a:" for i in range(400)),
        "{path}, line 21 is nested too deeply for a study file",
    ),
    "a key twice": ("data: iris\nspace: {}\ndata: wine", "{path}, line 3: data stands here twice"),
    "a hyperparameter twice": (
        "data: iris\nspace:\n  width: 1\n  depth: 1\n  width: 2",
        "{path}, line 5: space.width stands here twice",
    ),
    "a list as key": (
        "data: iris\n[a, b]: 1",
        "{path}, line 2: a key is a list or has keys of its own; a key is a text",
    ),
    "keys as key": ("? {a: b}\n: 1", "{path}, line 1: a key is a list or has keys of its own; a key is a text"),
    "half a character": ('data: "\\ud800"', '{path}, line 1: "\\ud800" has half a character in it; write it whole'),
    "endless number": (
        f"budget: {{trials: 1{'0' * 5000}}}",
        "{path}, line 1: a value has 5,001 characters; at most 1,000",
    ),
}


@pytest.mark.parametrize(("content", "message"), NO_STUDY.values(), ids=NO_STUDY.keys())
def test_a_file_that_is_no_study(tmp_path: Path, content: str | bytes, message: str) -> None:
    """One line says which file, where in it, and what is wrong."""
    path = write_study(tmp_path, content)
    with pytest.raises(UserError) as error:
        load_study_file(path)
    assert str(error.value).startswith(message.format(path=path))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def in_space(text: str) -> str:
    return f"data: digits\nspace: {{{text}}}"


def with_plain(text: str) -> str:
    return f"data: digits\nspace: {{width: {{low: 4, high: 8}}}}\n{text}"


def with_data(text: str) -> str:
    return f"space: {{width: 4}}\ndata: {text}"


WRONG: dict[str, tuple[str, str, str]] = {
    # keys
    "unknown key": (with_plain("serach: {}"), "serach", 'unknown key; did you mean "search"?; allowed: name, data'),
    "unknown key of a section": (with_plain("budget: {trial: 6}"), "budget.trial", 'did you mean "trials"?'),
    "number as key": (with_plain("1: 2"), "1", "unknown key; allowed: name, data, objectives"),
    "null as key": (in_space("null: 2"), "space.null", "unknown hyperparameter; allowed: family, depth"),
    "date as key": (with_plain("2020-01-01: x"), "2020-01-01", "unknown key"),
    "line end in a key": (in_space('"wid\\nth": 4'), "space.wid\\nth", 'did you mean "width"?'),
    "merge key": (with_plain("<<: {budget: {trials: 5}}"), "<<", "unknown key"),
    "no data": ("space: {width: 4}", "data", "is missing"),
    # sections without anything in them
    "data empty": ("data:\nspace: {width: 4}", "data", "is empty; must have keys of its own"),
    "space empty": ("data: digits\nspace:", "space", "is empty; must have hyperparameters as keys"),
    "space a list": ("data: digits\nspace: [width]", "space", "is ['width']; must have hyperparameters as keys"),
    "budget empty": (with_plain("budget: null"), "budget", "is empty; must have keys of its own"),
    "search empty": (with_plain("search:"), "search", "is empty; must have keys of its own"),
    "sampler empty": (with_plain("search: {sampler: ~}"), "search.sampler", "is empty"),
    "objectives empty": (with_plain("objectives:"), "objectives", "is empty; must be a list"),
    "name empty": (with_plain("name:"), "name", "is empty; must be a text"),
    # names
    "name with blanks": (with_plain("name: my study"), "name", 'is "my study"; allowed: at most 100 letters'),
    "name leads elsewhere": (with_plain("name: ../up"), "name", 'is "../up"; allowed'),
    "endless name": (with_plain(f"name: {'a' * 101}"), "name", "aaa...; allowed: at most 100 letters"),
    # data
    "misspelt set": (with_data("digitz"), "data.name", 'is "digitz"; did you mean "digits"?'),
    "data a number": (with_data("5"), "data", "is 5; must have keys of its own"),
    "name and path": (with_data("{name: iris, path: a.csv}"), "data", "needs either a name"),
    "neither name nor path": (with_data("{seed: 1}"), "data", "needs either a name"),
    "path without target": (with_data("{path: a.csv}"), "data", "a path also needs target and task"),
    "path without task": (
        with_data("{path: a.csv, target: y}"),
        "data",
        "a path also needs task (task is classification",
    ),
    "name with target": (with_data("{name: iris, target: y}"), "data", "target, ignore and text belong to a path"),
    "other suffix": (
        with_data("{path: a.xlsx, target: y, task: regression}"),
        "data.path",
        "ends in .csv, .tsv, .parquet",
    ),
    "path a number": (with_data("{path: 5, target: y, task: regression}"), "data.path", "is 5; must be a text"),
    "path with a NUL": (
        with_data('{path: "a\\0.csv", target: y, task: regression}'),
        "data.path",
        "holds a NUL character",
    ),
    "unknown home": (
        with_data("{path: ~no-such-user-here/a.csv, target: y, task: regression}"),
        "data.path",
        "is ~no-such-user-here/a.csv, and there is no such user",
    ),
    "misspelt task": (
        with_data("{path: a.csv, target: y, task: regresion}"),
        "data.task",
        'is "regresion"; did you mean "regression"?; allowed: classification, regression',
    ),
    "another task": (
        with_data("{name: iris, task: regression}"),
        "data.task",
        "iris is a classification set; leave task out",
    ),
    "ignore one": (
        with_data("{path: a.csv, target: y, task: regression, ignore: x}"),
        "data.ignore",
        'is "x"; must be a list',
    ),
    "two targets": (
        with_data("{path: a.csv, target: [u, v], task: regression}"),
        "data.target",
        "names several columns; a study predicts one: name it, and the others under data.ignore",
    ),
    "form of numbers": (
        with_data("{path: a.csv, target: y, task: regression, numbers: {a: '1.000,0'}}"),
        "data.numbers.a",
        "is 1.000,0; say how 1234.5 is written there: '1234.5', '1234,5', '1,234.5'",
    ),
    "form of dates": (
        with_data("{path: a.csv, target: y, task: regression, dates: {a: '%d/%m'}}"),
        "data.dates.a",
        "is %d/%m; allowed: directives of strptime with a year",
    ),
    "numbers a text": (
        with_data("{path: a.csv, target: y, task: regression, numbers: a}"),
        "data.numbers",
        "must be a list of columns, or have columns as keys",
    ),
    "said twice": (
        with_data("{path: a.csv, target: y, task: regression, ignore: [a], categories: [a]}"),
        "data.categories",
        "a stands under ignore too",
    ),
    "target a category": (
        with_data("{path: a.csv, target: y, task: classification, categories: [y]}"),
        "data.categories",
        "y is the target, whose values data.task tells",
    ),
    "categories of a set": (
        with_data("{name: iris, categories: [a]}"),
        "data.categories",
        "categories belongs to a table in a file",
    ),
    "ignore the target": (
        with_data("{path: a.csv, target: y, task: regression, ignore: [y]}"),
        "data.ignore",
        "the target column is also ignored",
    ),
    "nothing to train on": (
        with_data("{name: iris, validation: 0.5, test: 0.4}"),
        "data",
        "validation + test is 0.9; must be below 0.9",
    ),
    "no validation": (with_data("{name: iris, validation: 0}"), "data.validation", "is 0; must be above 0"),
    "per cent": (with_data("{name: iris, test: 20}"), "data.test", "is 20; must be below 1"),
    "share as text": (with_data("{name: iris, test: '0.2'}"), "data.test", 'is "0.2"; must be a finite number'),
    "share true": (with_data("{name: iris, test: true}"), "data.test", "is true; must be a finite number"),
    "few samples": (with_data("{name: multi_sine, n_train: 3}"), "data.n_train", "is 3; must be at least 8"),
    "infinite noise": (with_data("{name: multi_sine, noise: .inf}"), "data.noise", "is inf; must be a finite number"),
    "negative noise": (with_data("{name: multi_sine, noise: -1}"), "data.noise", "is -1; must be at least 0"),
    "huge seed": (with_data("{name: iris, seed: 4294967296}"), "data.seed", "must be below 4294967296"),
    # objectives and constraints
    "misspelt objective": (
        with_plain("objectives: [accuracy, flop]"),
        "objectives[1]",
        'is "flop"; did you mean "flops"?',
    ),
    "objective of another task": (
        with_plain("objectives: [rmse, parameters]"),
        "objectives[0]",
        "rmse does not exist for classification; allowed: accuracy, cross_entropy, balanced_accuracy, f1, roc_auc",
    ),
    "cost first": (with_plain("objectives: [parameters]"), "objectives[0]", "a cost; name a quality first: accuracy"),
    "objective twice": (with_plain("objectives: [accuracy, accuracy]"), "objectives[1]", "accuracy stands here twice"),
    "five objectives": (
        with_plain("objectives: [accuracy, parameters, flops, latency_ms, train_seconds]"),
        "objectives",
        "has 5 entries; at most 4",
    ),
    "objectives as keys": (with_plain("objectives: {accuracy: 1}"), "objectives", "must be a list"),
    "objective a list": (with_plain("objectives: [[accuracy]]"), "objectives[0]", "must be a text"),
    "constraint with <": (with_plain("constraints: [flops < 3]"), "constraints[0]", "write it as NAME <= NUMBER"),
    "constraint a number": (with_plain("constraints: [3]"), "constraints[0]", "is 3; write it as NAME <= NUMBER"),
    "constraint without number": (with_plain("constraints: [flops <= many]"), "constraints[0]", "which is no number"),
    "constraint on nan": (with_plain("constraints: [flops <= nan]"), "constraints[0].bound", "must be a finite number"),
    "constraint misspelt": (
        with_plain("constraints: [parametrs <= 3]"),
        "constraints[0].metric",
        'is "parametrs"; did you mean "parameters"?',
    ),
    "constraint of another task": (
        with_plain("constraints: [flops <= 1, r2 >= 0.9]"),
        "constraints[1]",
        "r2 does not exist",
    ),
    "constraint half": (with_plain("constraints: [{metric: flops, bound: 3}]"), "constraints[0].sign", "is missing"),
    "one constraint": (with_plain("constraints: flops <= 3"), "constraints", 'is "flops <= 3"; must be a list'),
    # budget
    "no trials": (with_plain("budget: {trials: 0}"), "budget.trials", "is 0; must be at least 1"),
    "trials as text": (with_plain("budget: {trials: '60'}"), "budget.trials", 'is "60"; must be a whole number'),
    "trials true": (with_plain("budget: {trials: true}"), "budget.trials", "is true; must be a whole number"),
    "half a trial": (with_plain("budget: {trials: 1.5}"), "budget.trials", "is 1.5; must be a whole number"),
    "trials nan": (with_plain("budget: {trials: .nan}"), "budget.trials", "is nan; must be a whole number"),
    "trials a date": (
        with_plain("budget: {trials: 2020-01-01}"),
        "budget.trials",
        'is "2020-01-01"; must be a whole number',
    ),
    "huge trials": (with_plain(f"budget: {{trials: 1{'0' * 30}}}"), "budget.trials", "must be at most 1000000"),
    "huge failures": (with_plain(f"budget: {{failures: 1{'0' * 30}}}"), "budget.failures", "must be at most 1000000"),
    "budget a number": (with_plain("budget: 60"), "budget", "is 60; must have keys of its own"),
    # search
    "misspelt sampler": (with_plain("search: {sampler: tep}"), "search.sampler.name", 'is "tep"; did you mean "tpe"?'),
    "sampler a list": (
        with_plain("search: {sampler: [tpe]}"),
        "search.sampler",
        "is ['tpe']; must have keys of its own",
    ),
    "misspelt option": (
        with_plain("search: {sampler: {name: tpe, multivariat: true}}"),
        "search.sampler.multivariat",
        'unknown key; did you mean "multivariate"?',
    ),
    "option of another sampler": (
        with_plain("search: {sampler: {name: random, multivariate: true}}"),
        "search.sampler.multivariate",
        "unknown key",
    ),
    "option as text": (
        with_plain("search: {sampler: {n_startup_trials: ten}}"),
        "search.sampler.n_startup_trials",
        "is 'ten'; tpe needs a whole number here",
    ),
    "option true": (
        with_plain("search: {sampler: {n_startup_trials: true}}"),
        "search.sampler.n_startup_trials",
        "is true; tpe needs a whole number here",
    ),
    "option empty": (
        with_plain("search: {sampler: {n_startup_trials: }}"),
        "search.sampler.n_startup_trials",
        "is empty; tpe needs a whole number here",
    ),
    "option a list": (
        with_plain("search: {sampler: {n_startup_trials: [1]}}"),
        "search.sampler.n_startup_trials",
        "is [1]; tpe needs a whole number here",
    ),
    "option nan": (
        with_plain("search: {sampler: {name: nsga2, mutation_prob: .nan}}"),
        "search.sampler.mutation_prob",
        "is nan; nsga2 needs a number here",
    ),
    "option out of range": (
        with_plain("search: {sampler: {name: nsga2, crossover_prob: 1.5}}"),
        "search.sampler.crossover_prob",
        "is 1.5; must be from 0 to 1",
    ),
    "option infinite": (
        with_plain("search: {sampler: {name: cmaes, sigma0: .inf}}\nobjectives: accuracy"),
        "search.sampler.sigma0",
        "is inf; must be from 1e-06 to 1,000,000",
    ),
    "random share of a random sampler": (
        with_plain("search: {sampler: {name: random, random_fraction: 0.5}}"),
        "search.sampler.random_fraction",
        "unknown key",
    ),
    "option of few texts": (
        with_plain("search: {sampler: {name: qmc, qmc_type: sobl}}"),
        "search.sampler.qmc_type",
        'is "sobl"; did you mean "sobol"?; allowed: sobol, halton',
    ),
    "options that exclude each other": (
        with_plain("search: {sampler: {multivariate: false}}"),
        "search.sampler.group",
        "needs multivariate: true; write group: false beside it",
    ),
    "options no keys": (
        with_plain("search: {sampler: {name: tpe, options: 3}}"),
        "search.sampler.options",
        "must have keys",
    ),
    "pruner for one objective": (
        with_plain("search: {pruner: median}"),
        "search.pruner.name",
        "is median, which knows one objective only; with 2 objectives: pareto or none",
    ),
    "sampler for one objective": (
        with_plain("search: {sampler: cmaes}"),
        "search.sampler.name",
        "knows one objective only",
    ),
    "rung after the end": (
        with_plain("search: {pruner: {min_epochs: 40}}"),
        "search.pruner.min_epochs",
        "is 40, after the last epoch (27, budget.epochs)",
    ),
    "rung true": (
        with_plain("search: {pruner: {min_epochs: true}}"),
        "search.pruner.min_epochs",
        "must be a whole number",
    ),
    "no reduction": (
        with_plain("search: {pruner: {reduction_factor: 1}}"),
        "search.pruner.reduction_factor",
        "at least 2",
    ),
    "misspelt mode": (with_plain("search: {families: balance}"), "search.families", 'did you mean "balanced"?'),
    "negative seed": (with_plain("search: {seed: -1}"), "search.seed", "is -1; must be at least 0"),
    # space
    "misspelt hyperparameter": (in_space("widht: 4"), "space.widht", 'unknown hyperparameter; did you mean "width"?'),
    "negative width": (in_space("width: -4"), "space.width", "is -4; must be at least 1"),
    "width as text": (in_space("width: '4'"), "space.width", 'is "4"; must be a whole number'),
    "width true": (in_space("width: true"), "space.width", "is true; must be a whole number"),
    "width 4.0": (in_space("width: 4.0"), "space.width", "is 4.0; must be a whole number"),
    "width octal": (in_space("width: 010"), "space.width", 'is "010"; must be a whole number'),
    "width in minutes": (in_space("width: 1:30"), "space.width", 'is "1:30"; must be a whole number'),
    "width huge": (in_space(f"width: {'9' * 400}"), "space.width", "999...; must be at most 4096"),
    "width empty": (in_space("width: "), "space.width", "is empty; must be a whole number"),
    "rate true": (in_space("l1: true"), "space.l1", "is true; must be a finite number"),
    "rate as text": (in_space("l1: '0.5'"), "space.l1", 'is "0.5"; must be a finite number'),
    "rate nan": (in_space("l1: .nan"), "space.l1", "is nan; must be a finite number"),
    "rate infinite": (in_space("learning_rate: 9e999"), "space.learning_rate", "is inf; must be a finite number"),
    "rate 0": (in_space("learning_rate: 0"), "space.learning_rate", "is 0; must be above 0"),
    "no dropout": (in_space("dropout: 1"), "space.dropout", "is 1; must be below 1"),
    "misspelt choice": (
        in_space("family: [kan, mpl]"),
        "space.family[1]",
        'is "mpl"; did you mean "mlp"?; allowed: mlp',
    ),
    "no backbone": (
        in_space("backbone: resnet81"),
        "space.backbone",
        'is "resnet81"; did you mean "resnet18"?; allowed: resnet18, resnet34, resnet50',
    ),
    "backbone of nobody": (in_space("backbone: ~nobody-here/a.safetensors"), "space.backbone", "a user who does not"),
    "yes for a text": (in_space("family: yes"), "space.family", "is true; allowed: mlp, kan, hybrid"),
    "1 for true": (in_space("layer_norm: 1"), "space.layer_norm", "is 1; allowed: true, false"),
    "no choices": (in_space("width: []"), "space.width.choices", "is []; must be a list of at least one value"),
    "choice twice": (in_space("width: [4, 8, 4]"), "space.width[2]", "4 stands here twice"),
    "list in a list": (in_space("width: [[4]]"), "space.width[0]", "is [4]; must be a whole number"),
    "endless choices": (
        in_space(f"width: {list(range(1, 1002))}"),
        "space.width.choices",
        "has 1,001 values; at most 1,000",
    ),
    "nothing in a domain": (in_space("width: {}"), "space.width", "has no low and no high; write one value, a list"),
    "no high": (in_space("width: {low: 4}"), "space.width", "has no high"),
    "misspelt end": (in_space("width: {low: 4, hihg: 8}"), "space.width.hihg", 'unknown key; did you mean "high"?'),
    "two kinds of domain": (
        in_space("width: {value: 3, choices: [4]}"),
        "space.width.value",
        "unknown key; allowed: choices, when",
    ),
    "empty range": (in_space("width: {low: 8, high: 4}"), "space.width.low", "is 8, above high (4)"),
    "low 0": (in_space("width: {low: 0, high: 4}"), "space.width.low", "is 0; must be at least 1"),
    "high infinite": (in_space("width: {low: 1, high: .inf}"), "space.width.high", "is inf; must be a whole number"),
    "log from 0": (
        in_space("dropout: {low: 0, high: 0.5, log: true}"),
        "space.dropout.low",
        "is 0; a log scale needs a low above 0",
    ),
    "log 1": (in_space("width: {low: 1, high: 8, log: 1}"), "space.width.log", "is 1; allowed: true, false"),
    "step beside log": (
        in_space("width: {low: 1, high: 8, log: true, step: 2}"),
        "space.width.step",
        "cannot stand beside log: true",
    ),
    "step 0": (in_space("width: {low: 1, high: 8, step: 0}"), "space.width.step", "is 0; must be a number above 0"),
    "step half": (
        in_space("width: {low: 1, high: 8, step: 1.5}"),
        "space.width.step",
        "is 1.5; width is a whole number",
    ),
    "step infinite": (
        in_space("dropout: {low: 0, high: .5, step: .inf}"),
        "space.dropout.step",
        "is inf, longer than the range",
    ),
    "step huge": (
        in_space(f"width: {{low: 1, high: 8, step: 1{'0' * 400}}}"),
        "space.width.step",
        "longer than the range",
    ),
    "range of texts": (
        in_space("family: {low: 1, high: 2}"),
        "space.family",
        "is no number, so it has no range; list some",
    ),
    "range of few numbers": (
        in_space("kernel_size: {low: 1, high: 7}"),
        "space.kernel_size",
        "is one of few numbers, so it has no range; list some of its values: 1, 3, 5, 7",
    ),
    "condition a number": (in_space("width: {value: 4, when: 5}"), "space.width.when", "is 5; write it as {family: ["),
    "condition empty": (
        in_space("width: {value: 4, when: {family: []}}"),
        "space.width.when.family",
        "is empty; name at least",
    ),
    "condition misspelt": (
        in_space("width: {value: 4, when: {famly: kan}}"),
        "space.width.when.famly",
        'did you mean "family"?',
    ),
    "condition never true": (
        in_space("width: {value: 4, when: {family: kna}}"),
        "space.width.when.family",
        'did you mean "kan"?',
    ),
    "condition on itself": (
        in_space("width: {value: 4, when: {width: 4}}"),
        "space.width.when",
        "the conditions of width wait for each other in a circle",
    ),
    "conditions in a circle": (
        in_space("width: {value: 4, when: {depth: 2}}, depth: {value: 3, when: {width: 4}}"),
        "space.width.when",
        "the conditions of width, depth wait for each other in a circle",
    ),
    "conditions in a hidden circle": (
        in_space("family: {choices: [kan, mlp], when: {n_basis: 4}}, n_basis: [4, 8]"),
        "space.family.when",
        "in a circle",
    ),
}


@pytest.mark.parametrize(("content", "place", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_named_by_its_place(tmp_path: Path, content: str, place: str, message: str) -> None:
    """One mistake is one line: where it is, what stands there, and what is allowed."""
    path = write_study(tmp_path, content)
    with pytest.raises(StudyFileError) as error:
        load_study_file(path)
    (mistake,) = error.value.mistakes
    assert mistake.path == place
    assert message in mistake.message
    assert str(error.value).startswith(f"{path} has 1 mistake\n  ")
    assert str(error.value).count("\n") == 1
    assert error.value.exit_code == 2
    str(error.value).encode()  # a terminal can show it
    if place != "data" or mistake.message != "is missing":
        assert mistake.line is not None


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """In the order of the file, each with its line, so that one reading mends all."""
    text = """\
name: my study
data: {name: digitz, validation: true}
objectives: [accuracy, flop]
budget:
  trials: -3
  epoch: 27
search:
  sampler: tep
space:
  family: [mlp, mpl]
  widht: 4
  width:
    low: 0
    high: many
  learning_rate: {low: 0.1, high: 0.01}
  n_basis: {choices: [4, 8], when: {famly: kan}}
"""
    with pytest.raises(StudyFileError) as error:
        load_study_file(write_study(tmp_path, text))
    found = [(mistake.line, mistake.path) for mistake in error.value.mistakes]
    assert found == [
        (1, "name"),
        (2, "data.name"),
        (2, "data.validation"),
        (3, "objectives[1]"),
        (5, "budget.trials"),
        (6, "budget.epoch"),
        (8, "search.sampler.name"),
        (10, "space.family[1]"),
        (11, "space.widht"),
        (13, "space.width.low"),
        (14, "space.width.high"),
        (15, "space.learning_rate.low"),
        (16, "space.n_basis.when.famly"),
    ]
    lines = str(error.value).splitlines()
    assert lines[0].endswith("study.yaml has 13 mistakes")
    assert lines[1].startswith("  line  1  name ")
    assert lines[13].startswith("  line 16  space.n_basis.when.famly  unknown hyperparameter")


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder and one without permission are told apart."""
    with pytest.raises(UserError, match=r"none.yaml does not exist; name a study file \(YAML\)$"):
        load_study_file(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"is a folder; name a study file \(YAML\)$"):
        load_study_file(tmp_path)
    path = write_study(tmp_path, PLAIN)

    def refuse(self: Path, *_: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"study.yaml cannot be read: Permission denied$"):
        load_study_file(path)


def test_a_file_as_large_as_allowed_is_judged_in_a_moment(tmp_path: Path) -> None:
    """Thousands of mistakes, of choices or of brackets cost no more than seconds."""
    for text in (
        "\n".join(f"key{i}: 1" for i in range(MAX_BYTES // 14)),
        "space: {width: [" + "1, " * 30_000 + "]}",
        "space: {" + "".join(f"w{i}: 1, " for i in range(8_000)) + "}",
    ):
        with pytest.raises(StudyFileError):
            load_study_file(write_study(tmp_path, text))


KEYS = [
    *("name", "data", "objectives", "constraints", "budget", "search", "space"),
    *("path", "target", "sampler", "pruner", "options", "trials"),
    *("width", "family", "low", "high", "step", "when"),
]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200),
        st.recursive(
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(max_size=8),
                st.sampled_from(["kan", "tpe"]),
            ),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(KEYS),
                    inner,
                    max_size=6,
                ),
            ),
            max_leaves=20,
        ).map(json.dumps),
    )
)
def test_no_content_whatsoever_ends_in_another_error(tmp_path: Path, content: str | bytes) -> None:
    """Any bytes in a file are a study or a message."""
    try:
        load_study_file(write_study(tmp_path, content))
    except UserError as error:
        str(error).encode()
