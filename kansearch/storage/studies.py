"""Studies in the storage: created once from a spec, found again by name."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from optuna.study import StudyDirection
from optuna.trial import TrialState
from pydantic import ValidationError

from kansearch.errors import StudyChangedError, UserError
from kansearch.specs.columns import Column
from kansearch.specs.constant import ConstantAnswer
from kansearch.specs.data import DataSpec
from kansearch.specs.metrics import Direction
from kansearch.specs.study import Budget, StudySpec
from kansearch.specs.trial import TrialRecord
from kansearch.storage.ledger import BUDGET, BudgetSpentError, Storage
from kansearch.storage.reading import StoredTrial
from kansearch.storage.workers import Watch

SPEC = "kansearch:spec"
DIGEST = "kansearch:data_digest"
VERSIONS = "kansearch:versions"
DATA = "kansearch:data"
WARNINGS = "kansearch:warnings"
COLUMNS = "kansearch:columns:"
"""Prefix of what was seen in the columns of a table; a number stands behind it: a text of MySQL ends at 64 KiB."""

COLUMNS_BYTES = 30_000
STOPPED = "kansearch:stopped"
ENDED = "kansearch:ended"
"""Why a study ended before its budget; null while it did not."""

ARTIFACTS = "kansearch:artifacts"
DATA_PLACES = "kansearch:data_places"
CONSTANT = "kansearch:constant_answer"
JOB = "kansearch:job:"
"""Prefix of what is noted of workers that a launcher placed; a number that stands for them follows."""

HANDED_BACK = "kansearch:handed_back"
"""The attribute of a trial that failed with its worker and has, or may have had, a second try."""

PLACES = ("data.path", "data.folder")
"""Where data lie is no part of a study; what they are is, and the digest knows that."""

MAX_PLACES = 8
"""Former places of the data that are remembered."""

METRIC_NAMES = "study:metric_names"
"""What Optuna and its dashboard call the objectives."""


class StoredStudy:
    """A study as the storage keeps it; from here on nobody reads its file again."""

    def __init__(self, storage: Storage, study_id: int, spec: StudySpec) -> None:
        self.storage = storage
        self.study_id = study_id
        self.spec = spec
        self.finished: dict[int, TrialRecord] = {}
        """Records that can no longer change, by trial number: a study is read again every second."""
        self.watch = Watch()
        """What this process knows of the signs of life of the study's workers."""

    @property
    def budget(self) -> int:
        """How many trials may count; it can be raised while workers run."""
        return int(self._attribute(BUDGET))

    @property
    def data_digest(self) -> str:
        """What the data were when the study began."""
        return str(self._attribute(DIGEST))

    @property
    def data_line(self) -> str:
        """The data in one line for people."""
        return str(self._attribute(DATA))

    @property
    def versions(self) -> dict[str, str]:
        """Of everything that decides a result, when the study began."""
        return {str(k): str(v) for k, v in self._attribute(VERSIONS).items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the study's data and space, and why it ended before its budget."""
        noted = tuple(str(text) for text in self._attribute(WARNINGS) or ())
        return noted if self.ended is None else (*noted, self.ended)

    @property
    def ended(self) -> str | None:
        """Why it ended before its budget, in a sentence; None where it did not, or goes on since."""
        why = self._attribute(ENDED)
        if why is None:
            return None
        budget = json.loads(self._attribute(SPEC))["budget"]["trials"]
        return f"{why}; the study ended after {self.budget} of {budget} trials"

    @functools.cached_property
    def constant(self) -> ConstantAnswer | None:
        """What one answer for all rows measures; None where an older version made the study."""
        stored = self._attribute(CONSTANT)
        return None if stored is None else ConstantAnswer.model_validate(stored)

    @functools.cached_property
    def columns(self) -> tuple[Column, ...]:
        """What was seen in the columns of its table when the study began; () where the data are no table in a file."""
        with self._present():
            attrs = self.storage.ledger.get_study_user_attrs(self.study_id)
        parts = {int(key.removeprefix(COLUMNS)): part for key, part in attrs.items() if key.startswith(COLUMNS)}
        return tuple(Column.model_validate(column) for _, part in sorted(parts.items()) for column in part)

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants no worker to serve it."""
        return bool(self._attribute(STOPPED))

    @functools.cached_property
    def artifacts(self) -> str | None:
        """Where its large checkpoints were kept when this process first asked; None where all lie in the database."""
        place = self._attribute(ARTIFACTS)
        return None if place is None else str(place)

    @property
    def data_places(self) -> tuple[Path, ...]:
        """Where its data lay before they were moved to where the spec says, the last place first."""
        return tuple(Path(place) for place in self._attribute(DATA_PLACES) or ())

    def stop(self) -> None:
        """Let all workers leave it, and none come, until somebody sets its budget anew.

        Raises:
            UserError: If somebody deleted it.
        """
        with self._present():
            self.storage.ledger.set_study_user_attr(self.study_id, STOPPED, value=True)

    def note_job(self, launcher: str, name: str, line: str) -> None:
        """Remember workers that a launcher placed.

        Args:
            launcher: That placed them.
            name: By which it finds them again.
            line: What they are and where to look, for people.

        Raises:
            UserError: If somebody deleted the study.
        """
        with self._present():
            self.storage.ledger.set_study_user_attr(self.study_id, _job_key(launcher, name), [launcher, name, line])

    def forget_job(self, launcher: str, name: str) -> None:
        """Forget workers that have ended.

        Args:
            launcher: That placed them.
            name: As it was noted.

        Raises:
            UserError: If somebody deleted the study.
        """
        with self._present():
            self.storage.ledger.set_study_user_attr(self.study_id, _job_key(launcher, name), None)

    def jobs(self) -> list[tuple[str, str, str]]:
        """What was noted of jobs: the launcher, the job's name and its line."""
        with self._present():
            attrs = self.storage.ledger.get_study_user_attrs(self.study_id)
        noted = [value for key, value in attrs.items() if key.startswith(JOB) and value is not None]
        return [(launcher, name, line) for launcher, name, line in noted]

    def counts(self) -> dict[str, int]:
        """Trials by state, in small letters; `broken` counts those that failed by themselves, not with their worker."""
        return self.storage.ledger.count_trials([self.study_id], HANDED_BACK)[self.study_id]

    @property
    def n_under_way(self) -> int:
        """Trials that run, or wait to go on."""
        counts = self.counts()
        return counts["running"] + counts["waiting"]

    @property
    def failures(self) -> int:
        """So many broken trials end it; like the budget it can be raised while workers run."""
        return int(json.loads(self._attribute(SPEC))["budget"]["failures"])

    @property
    def is_done(self) -> bool:
        """Whether its budget is spent and all its trials ended."""
        return _n_done(self.counts()) >= self.budget

    def end(self, why: str) -> None:
        """Let no more trials count than do now, until somebody sets its budget anew.

        Args:
            why: In a sentence without its full stop.

        Raises:
            UserError: If somebody deleted it.
        """
        with self._present():
            self.storage.ledger.set_budget(self.study_id, None, {ENDED: why})

    def set_budget(
        self,
        budget: Budget,
        artifacts: str | None = None,
        data: DataSpec | None = None,
        constant: ConstantAnswer | None = None,
    ) -> None:
        """Let so many trials count from now on, and workers serve it.

        Args:
            budget: The new one.
            artifacts: Another place for the large checkpoints of whoever begins to serve it from now on.
            data: The same data, which lie elsewhere now; where they lay is remembered.
            constant: What one answer for all rows measures, for a study that does not know it yet.

        Raises:
            UserError: If more do already, or somebody deleted it.
        """
        spec = self.spec.model_copy(update={"budget": budget, "data": data or self.spec.data})
        try:
            attrs: dict[str, Any] = {SPEC: spec.model_dump_json(), STOPPED: False, ENDED: None}
            if spec.data.place != self.spec.data.place:
                places = (self.spec.data.place, *self.data_places)
                kept = dict.fromkeys(str(place) for place in places if place not in (None, spec.data.place))
                attrs[DATA_PLACES] = list(kept)[:MAX_PLACES]
            if constant is not None and self.constant is None:
                attrs[CONSTANT] = constant.model_dump(mode="json")
                del self.constant  # it is read again
            if artifacts is not None:
                attrs[ARTIFACTS] = artifacts
            with self._present():
                self.storage.ledger.set_budget(self.study_id, budget.trials, attrs)
        except BudgetSpentError as error:
            raise UserError(
                f'budget.trials (--trials) is {budget.trials}; study "{self.spec.name}" has {error.n_counted} trials '
                f"already (complete, pruned, running or waiting to go on): at least {error.n_counted}"
            ) from None
        self.spec = spec

    def trials(self, *states: TrialState) -> list[StoredTrial]:
        """The trials as they are now, in order of their numbers; those in some states only, where any are named.

        Raises:
            UserError: If somebody deleted the study.
        """
        with self._present():
            trials = self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)
        return cast("list[StoredTrial]", trials)

    def look(self) -> Sequence[StoredTrial]:
        """All trials as they are now, as `known_trials`.

        Raises:
            UserError: If somebody deleted the study.
        """
        with self._present():
            return self.storage.look(self.study_id)

    def known_trials(self) -> Sequence[StoredTrial]:
        """The trials as this process last saw them, or wrote them itself, in order of their numbers.

        No copy: whatever this process reads and writes later changes it.
        """
        return self.storage.known_trials(self.study_id)

    def system_attrs(self) -> dict[str, Any]:
        """What Optuna and its dashboard note of the study.

        Raises:
            UserError: If somebody deleted it.
        """
        with self._present():
            return self.storage.get_study_system_attrs(self.study_id)

    def _attribute(self, key: str) -> Any:
        with self._present():
            return self.storage.ledger.study_attribute(self.study_id, key)

    @contextlib.contextmanager
    def _present(self) -> Iterator[None]:
        try:
            yield
        except KeyError:
            raise UserError(f'study "{self.spec.name}" was deleted') from None


def create_study(
    storage: Storage,
    spec: StudySpec,
    *,
    digest: str,
    data_line: str,
    versions: Mapping[str, str],
    warnings: Sequence[str] = (),
    columns: Sequence[Column] = (),
    artifacts: str | None = None,
    constant: ConstantAnswer | None = None,
) -> StoredStudy:
    """Write a new study.

    Raises:
        StudyExistsError: If the name is taken.
    """
    attributes = {
        SPEC: spec.model_dump_json(),
        DIGEST: digest,
        DATA: data_line,
        VERSIONS: dict(versions),
        WARNINGS: list(warnings),
        STOPPED: False,
        BUDGET: spec.budget.trials,
        ARTIFACTS: artifacts,
        CONSTANT: None if constant is None else constant.model_dump(mode="json"),
        **_column_attributes(columns),
    }
    names = {METRIC_NAMES: list(spec.objectives)}
    study_id = storage.ledger.create_study(spec.name, optuna_directions(spec), attributes, names)
    return StoredStudy(storage, study_id, spec)


def _column_attributes(columns: Sequence[Column]) -> dict[str, list[dict[str, Any]]]:
    """The columns of a table in as many attributes as they need."""
    parts: list[list[dict[str, Any]]] = [[]]
    n_bytes = 0
    for column in columns:
        document = column.model_dump(mode="json", exclude_defaults=True)
        n_bytes += len(json.dumps(document)) + 2
        if n_bytes > COLUMNS_BYTES and parts[-1]:
            parts.append([])
            n_bytes = len(json.dumps(document)) + 2
        parts[-1].append(document)
    return {f"{COLUMNS}{number}": part for number, part in enumerate(parts) if part}


def optuna_directions(spec: StudySpec) -> list[StudyDirection]:
    """Which way each objective gets better, as Optuna names it."""
    return [
        StudyDirection.MAXIMIZE if direction is Direction.MAXIMIZE else StudyDirection.MINIMIZE
        for direction in spec.directions
    ]


def find_study(storage: Storage, name: str) -> StoredStudy | None:
    """The study of that name; None where the storage has none.

    Raises:
        UserError: If a study of that name is not one of ours.
    """
    try:
        study_id = storage.get_study_id_from_name(name)
        attributes = storage.get_study_user_attrs(study_id)
    except KeyError:
        return None
    if SPEC not in attributes:
        raise UserError(f'study "{name}" of this storage was not made by kansearch; choose another --name')
    return _stored(storage, study_id, name, attributes)


def _stored(storage: Storage, study_id: int, name: str, attributes: Mapping[str, Any]) -> StoredStudy:
    try:
        spec = StudySpec.model_validate_json(attributes[SPEC])
    except ValidationError:
        raise UserError(f'study "{name}" was made by another version of kansearch and cannot be read by this') from None
    return StoredStudy(storage, study_id, spec)


def load_study(storage: Storage, name: str) -> StoredStudy:
    """The study of that name.

    Raises:
        UserError: If there is none; near misses are offered.
    """
    study = find_study(storage, name)
    if study is None:
        names = study_names(storage)
        close = difflib.get_close_matches(name, names, n=1)
        known = f"it holds: {', '.join(names[:20])}" if names else "it holds none yet; `kansearch optimize` makes one"
        raise UserError(f'no study "{name}" in this storage; ' + (f'did you mean "{close[0]}"?' if close else known))
    return study


def study_names(storage: Storage) -> list[str]:
    """Names of our studies, oldest first."""
    return [study.study_name for study in storage.get_all_studies() if SPEC in study.user_attrs]


def open_studies(storage: Storage) -> list[StoredStudy]:
    """Our studies that workers may serve, oldest first: not done, not stopped, and with failures below their ceiling.

    Those that another version of kansearch made are left out.
    """
    found = {
        study._study_id: (study.study_name, study.user_attrs)
        for study in storage.get_all_studies()
        if SPEC in study.user_attrs and not study.user_attrs.get(STOPPED)
    }
    counts = storage.ledger.count_trials(list(found), HANDED_BACK)
    studies = []
    for study_id, (name, attributes) in found.items():
        if _n_done(counts[study_id]) >= attributes[BUDGET]:
            continue
        with contextlib.suppress(UserError):
            study = _stored(storage, study_id, name, attributes)
            if counts[study_id]["broken"] < study.spec.budget.failures:
                studies.append(study)
    return studies


def _job_key(launcher: str, name: str) -> str:
    """Of the attribute; the job's name may be longer than keys are."""
    return f"{JOB}{hashlib.sha256(f'{launcher}:{name}'.encode()).hexdigest()[:16]}"


def _n_done(counts: Mapping[str, int]) -> int:
    return counts["complete"] + counts["pruned"]


def refuse_changes(study: StoredStudy, spec: StudySpec, digest: str) -> None:
    """Make sure that a study file still describes the study in the storage.

    The budget of trials may differ: that is how a study goes on. So may the place of its data, if the digest says that
    they are the same.

    Raises:
        StudyChangedError: Listing every difference.
    """
    differences = [
        f"  {path}: {_text(stored)} in the storage, {_text(filed)} in the file"
        for path, stored, filed in study.spec.differences(spec)
        if path not in PLACES or study.data_digest != digest
    ]
    if study.data_digest != digest and not any(line.startswith("  data") for line in differences):
        differences.append(
            "  data: the content or its split, or the weights of a backbone, are not what the study began with"
        )
    if differences:
        raise StudyChangedError(
            f'study "{spec.name}" exists and differs from the file; '
            "its trials would not be comparable\n"
            + "\n".join(differences)
            + f"\nkeep both: choose another --name (such as {spec.name}-2), or undo the change to go on"
        )


def _text(value: object) -> str:
    return "nothing" if value is None else str(value)
