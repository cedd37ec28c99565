"""From a study file to a study in the storage, with everything checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from kansearch.cli.places import Places
from kansearch.cli.tables import say, table
from kansearch.errors import StudyExistsError
from kansearch.report.words import column_rows
from kansearch.specs.study import StudySpec
from kansearch.storage.artifacts import artifacts_at
from kansearch.storage.studies import StoredStudy, create_study, find_study, load_study, refuse_changes
from kansearch.storage.url import open_storage
from kansearch.versions import versions

if TYPE_CHECKING:
    from kansearch.data.splits import Split
    from kansearch.specs.constant import ConstantAnswer
    from kansearch.storage.ledger import Storage


MOST_COLUMNS = 40
"""Of a table that a terminal shows; all are in the report."""


def enter_study(spec: StudySpec, places: Places, console: Console) -> StoredStudy:
    """The study of a file in the storage: found and unchanged, or new; with the budget of the file, and not stopped.

    Args:
        spec: What the file says.
        places: Where it is kept.
        console: On which is said what the study is, and what its author should know.

    Raises:
        KansearchError: If the data, the space, the storage or a study of that name do not allow it.
    """
    # One thread for the trainings of the check, like everywhere.
    import torch

    torch.set_num_threads(1)
    # Data before storage: a study whose data cannot be read must not be created.
    from kansearch.data.splits import describe
    from kansearch.search.data import load_study_split
    from kansearch.training.metrics import constant_answer

    split = load_study_split(spec)
    constant = constant_answer(split)
    if places.artifacts is not None:
        place = artifacts_at(places.artifacts)
        place.make()
        place.check()
    storage = open_storage(places.storage)
    data_line = describe(spec.data, split)
    known = find_study(storage, spec.name)
    new = None if known else _new_study(spec, storage, split, data_line, places.artifacts, constant)
    study = new or known or load_study(storage, spec.name)
    if new is None:
        refuse_changes(study, spec, split.digest)
        before = study.spec.data.place
        study.set_budget(spec.budget, places.artifacts, spec.data, constant)
        if before != spec.data.place:
            say(
                console, f"The data of {spec.name} lie at {spec.data.place} now, and lay at {before}; they are the same"
            )
    say(console, f"Study {spec.name}{' goes on' if new is None else ''}  ({data_line})")
    if study.columns:
        header, rows, more = column_rows(study.columns, MOST_COLUMNS)
        console.print(table("Columns", header, rows))
        say(console, more)
    for warning in study.warnings:
        say(console, f"warning: {warning}", style="yellow")
    return study


def _new_study(
    spec: StudySpec, storage: Storage, split: Split, data_line: str, artifacts: str | None, constant: ConstantAnswer
) -> StoredStudy | None:
    """The study of the file, created; None where somebody else created it at the same time."""
    from kansearch.search.effects import check_feasible, search_warnings

    check_feasible(spec, split.inputs, split.n_outputs)
    warnings = search_warnings(spec, split)
    try:
        return create_study(
            storage,
            spec,
            digest=split.digest,
            data_line=data_line,
            versions=versions(),
            warnings=warnings,
            columns=split.columns,
            artifacts=artifacts,
            constant=constant,
        )
    except StudyExistsError:
        return None
