"""What a reviewer of networks sees in Optuna's dashboard beside what that shows of any study.

Of a study with several objectives the dashboard shows neither learning curves nor families, and it does not know what
a trial's network looks like, why it ended or which constraints it breaks. All of this is worked out from the records
when somebody looks, and put into what the dashboard answers: a search pays nothing for it, nothing of it can be out of
date, and a storage that is only looked at stays as it is.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

from bottle import HTTPResponse, Route, response
from optuna.storages._rdb import models
from optuna.trial import TrialState
from optuna_dashboard._serializer import serialize_frozen_trial
from sqlalchemy import literal, select

from kansearch.errors import KansearchError, UserError
from kansearch.report.architecture import describe_architecture, family_name
from kansearch.report.figures import Plot, activation_plots, curves_plot, front_plot, hypervolume_plot
from kansearch.report.page import to_html
from kansearch.report.summary import Summary, summarize, thinned
from kansearch.report.words import CAVEAT, count, finding, format_value, short_label, verdict_sentences
from kansearch.search.importance import importances
from kansearch.specs.trial import TrialRecord
from kansearch.storage.artifacts import Artifacts
from kansearch.storage.deletion import delete_study
from kansearch.storage.ledger import Storage
from kansearch.storage.studies import StoredStudy, find_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import as_storage_error

DETAIL = "/api/studies/<study_id:int>"
"""The dashboard's route of a study, whose answer we add to; the browser tests fail where it is another."""

REPORT = "/report/<study_id:int>"
"""Our route of a study's report."""

ASKING = ("/api/", "/csv/", "/artifacts/", "/report/")
"""Beginnings of the routes whose views ask the storage."""

OURS = "kansearch:"
"""Prefix of the attributes that are for workers, not for readers."""

MAX_ID = 2**31 - 1
"""Of a study; databases refuse to look for a larger one."""

MAX_MARKS = 400
"""Trials beside the front that a figure shows; figures are sent again every few seconds."""

CARD_PX = 440
"""Height of a figure: the dashboard's cards have 450 pixels."""

REFRESH_S = 10.0
"""A review is at least so old before it is made anew; a page asks as often."""

MAX_SHARE = 0.05
"""Share of the time that making reviews may take where a study has thousands of trials."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Review:
    """What is shown of a study as a whole, as it was when somebody looked.

    Attributes:
        figures: As the dashboard sends figures that were saved with a study.
        note: On the study, in Markdown.
        front: Numbers of the trials on the front.
        made_at: When it was made, by a clock that only goes ahead.
        seconds: How long that took.
    """

    figures: list[dict[str, str]]
    note: str
    front: frozenset[int]
    made_at: float
    seconds: float

    @property
    def is_old(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self.made_at > max(REFRESH_S, self.seconds / MAX_SHARE)


@dataclass
class _Watched:
    """A study that somebody looks at.

    Attributes:
        study: The study.
        review: The latest one.
        renewing: Held by whoever makes the next one.
        details: What we add to each trial that ended, by its number.
        attributes: Names of what can be sorted by, and of what cannot.
    """

    study: StoredStudy
    review: Review
    renewing: threading.Lock = field(default_factory=threading.Lock)
    details: dict[int, dict[str, Any]] = field(default_factory=dict)
    attributes: dict[str, bool] = field(default_factory=dict)


class Reviewer:
    """A plugin of the dashboard's web application that adds reviews to its answers.

    Args:
        storage: Of the studies.
        place: Of what people lay beside them; None where nobody can.
    """

    name = "kansearch-reviewer"
    api = 2

    def __init__(self, storage: Storage, place: Artifacts | None) -> None:
        self._storage = storage
        self._place = place
        self._watched: dict[int, _Watched] = {}
        self._is_away = False

    def apply(self, callback: Callable[..., Any], route: Route) -> Callable[..., Any]:
        """The view of a route with what we add to it, as Bottle asks its plugins for it."""
        if route.rule == DETAIL and route.method == "GET":
            callback = self._adding(callback)
        if route.rule == DETAIL and route.method == "DELETE":
            callback = self._deleting(callback)
        return self._answering(callback) if route.rule.startswith(ASKING) else callback

    def report(self, study_id: int) -> HTTPResponse:
        """The page that `kansearch report` would write of a study now."""
        study = self._find(study_id)
        if study is None:
            return _refusal(HTTPStatus.NOT_FOUND, f"study {study_id} is none of kansearch's")
        page = to_html(replace(_summary(study), importances=importances(study)), datetime.now().astimezone())
        return HTTPResponse(page, Content_Type="text/html; charset=UTF-8", Cache_Control="no-store")

    # --- answers -----------------------------------------------------------------------------------------

    def _answering(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """A view that says in one line what is wrong with the storage, and of which study it knows nothing."""

        def view(**named: Any) -> Any:
            try:
                # Before the dashboard's own views ask it: they would answer any fault of it with a traceback.
                if not self._is_there(named.get("study_id")):
                    return _refusal(HTTPStatus.NOT_FOUND, f"there is no study {named['study_id']}")
                answer = callback(**named)
            except UserError as error:  # somebody else deleted it at this moment
                return _refusal(HTTPStatus.NOT_FOUND, str(error))
            except Exception as error:
                known = error if isinstance(error, KansearchError) else as_storage_error(error)
                if known is None:
                    raise
                return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(known))
            # Its pages read JSON from whatever succeeded; an answer without content passes for a failure.
            if response.status_code == HTTPStatus.NO_CONTENT:
                response.status = HTTPStatus.OK
            return answer

        return view

    def _is_there(self, study_id: int | None) -> bool:
        """Whether the storage has that study, or answers where none is asked for; past Optuna's cache of names."""
        ledger = self._storage.ledger

        def ask() -> bool:
            with ledger.session() as session:
                wanted = select(literal(1))
                if study_id is not None:
                    wanted = wanted.select_from(models.StudyModel).filter_by(study_id=study_id)
                return session.scalar(wanted) is not None

        if study_id is not None and study_id > MAX_ID:
            return False
        try:
            is_there = ledger.patiently(ask)
        except Exception as error:
            known = as_storage_error(error)
            if known is None:
                raise
            if not self._is_away:
                _logger.error("%s; the dashboard waits for it", known)  # noqa: TRY400 - its operator can mend it
            self._is_away = True
            raise known from None
        if self._is_away:
            _logger.warning("the storage answers again")
        self._is_away = False
        return is_there

    def _deleting(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """A view that deletes a study of ours once its workers have left, with its checkpoints and artifacts."""

        def delete(study_id: int) -> Any:
            study = self._find(study_id)
            if study is None:
                return callback(study_id=study_id)
            if n_left := delete_study(study, place=self._place):
                _logger.warning("study %s: %s could not be removed", study.spec.name, count(n_left, "artifact"))
            self._watched.pop(study_id, None)
            return {}

        return delete

    def _adding(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """A view of a study with what we know of it."""

        def detail(study_id: int) -> Any:
            answer = callback(study_id=study_id)
            if isinstance(answer, dict) and "trials" in answer and (study := self._find(study_id)) is not None:
                _add(answer, self._look(study))
            return answer

        return detail

    # --- studies -----------------------------------------------------------------------------------------

    def _find(self, study_id: int) -> StoredStudy | None:
        """A study of ours; None where it is somebody else's, or gone."""
        watched = self._watched.get(study_id)
        if watched is not None:
            return watched.study
        try:
            study = find_study(self._storage, self._storage.ledger.get_study_name_from_id(study_id))
        except (KeyError, UserError):
            return None  # Optuna's own studies are shown as they are
        return study if study is not None and study.study_id == study_id else None

    def _look(self, study: StoredStudy) -> _Watched:
        """A study with its review: made at once for the first look, and in the background for later ones."""
        watched = self._watched.get(study.study_id)
        if watched is None or watched.study is not study:
            watched = self._watched[study.study_id] = _Watched(study, _review(study))
        elif watched.review.is_old and watched.renewing.acquire(blocking=False):
            threading.Thread(target=_renew, args=(watched,), daemon=True).start()
        return watched


def _refusal(status: HTTPStatus, reason: str) -> HTTPResponse:
    """An answer as the dashboard's pages expect it of what failed."""
    return HTTPResponse(json.dumps({"reason": reason}), status, Content_Type="application/json")


def _renew(watched: _Watched) -> None:
    try:
        watched.review = _review(watched.study)
    except Exception as error:  # noqa: BLE001 - whoever looks next tries again
        _logger.warning("the review of %s could not be renewed: %s", watched.study.spec.name, error)
    finally:
        watched.renewing.release()


def _add(answer: dict[str, Any], watched: _Watched) -> None:
    """Add what we know to the dashboard's answer about a study."""
    study, review = watched.study, watched.review
    shown = {trial["number"]: trial for trial in (*answer["best_trials"], *answer["trials"])}
    records = read_records(study)
    complete = {trial.number: trial for trial in study.trials(TrialState.COMPLETE)}
    # What the page has is not in the answer, nor what infeasible trials keep from the front as Optuna has it.
    noted = study.system_attrs()
    for number in (review.front - shown.keys()) & complete.keys():
        shown[number] = serialize_frozen_trial(study.study_id, complete[number], noted)
    for record in records:
        if (trial := shown.get(record.number)) is None:
            continue
        details = watched.details.get(record.number)
        if details is None:
            attributes = _attributes(record, study)
            watched.attributes |= {key: not isinstance(value, str) for key, value in attributes.items()}
            details = {
                "user_attrs": [{"key": key, "value": str(value)} for key, value in attributes.items()],
                # What Optuna's samplers see of it; of a pruned trial that says only that it was pruned.
                "constraints": list(complete[record.number].constraints.values()) if record.number in complete else [],
                "note": _note(_trial_note(record, study, attributes)),
            }
            if record.state not in ("running", "waiting"):
                watched.details[record.number] = details
        trial |= {**details, "note": trial["note"] if trial["note"]["version"] else details["note"]}
    answer |= {
        "best_trials": [shown[number] for number in sorted(review.front & shown.keys())],
        "note": answer["note"] if answer["note"]["version"] else _note(review.note),
        "plotly_graph_objects": [*review.figures, *answer["plotly_graph_objects"]],
        "union_user_attrs": [{"key": key, "sortable": sortable} for key, sortable in list(watched.attributes.items())],
        "user_attrs": [*_facts(study), *(row for row in answer["user_attrs"] if not row["key"].startswith(OURS))],
    }


def _facts(study: StoredStudy) -> list[dict[str, str]]:
    """What a reader asks of a study, as the dashboard shows attributes."""
    spec = study.spec
    facts = {
        "data": study.data_line,
        "budget": f"{count(study.budget, 'trial')} of at most {count(spec.budget.epochs, 'epoch')}",
        **({"constraints": ", ".join(map(str, spec.constraints))} if spec.constraints else {}),
        "sampler": spec.search.sampler.name,
        "pruner": spec.search.pruner.name,
        "seed": str(spec.search.seed),
        **{f"version of {name}": version for name, version in study.versions.items()},
    }
    return [{"key": key, "value": value} for key, value in facts.items()]


def _note(body: str) -> dict[str, Any]:
    """A note that nobody has written: whoever edits it writes the first version."""
    return {"version": 0, "body": body}


def _attributes(record: TrialRecord, study: StoredStudy) -> dict[str, Any]:
    """What a reader asks of a trial, where the storage has what its workers noted."""
    architecture = describe_architecture(record.params, study.spec)
    return {"architecture": architecture, "end": _end(record), "epochs": record.epochs, **record.metrics}


def _trial_note(record: TrialRecord, study: StoredStudy, attributes: Mapping[str, Any]) -> str:
    measured = ", ".join(f"{short_label(name)} {format_value(name, v)}" for name, v in record.metrics.items())
    lines = [f"**{family_name(record.family)}**: {attributes['architecture']}", attributes["end"]]
    if measured:
        lines.append(measured)
    if record.curves:
        lines.append(f"What it has learned: `kansearch explain {study.spec.name} --trial {record.number}`")
    return "\n\n".join(lines)


def _end(record: TrialRecord) -> str:
    """How far a trial came, and why no further."""
    if record.state in ("running", "waiting"):
        return f"{record.state}, {count(record.epochs, 'epoch')} so far"
    reason = f": {record.reason}" if record.reason else ""
    broken = "" if record.feasible or record.state != "complete" else ", but it breaks a constraint"
    return (
        f"{'failed' if record.state == 'fail' else record.state} after {count(record.epochs, 'epoch')}{reason}{broken}"
    )


def _summary(study: StoredStudy) -> Summary:
    records = read_records(study)
    return summarize(study.spec, records, {}, study.versions, study.data_line, study.warnings, study.constant)


def _review(study: StoredStudy) -> Review:
    begin = time.monotonic()
    summary = _summary(study)
    note = [
        f"**{study.spec.name}**: {study.data_line}",
        finding(summary),
        *verdict_sentences(summary),
        *([CAVEAT] if summary.counts["complete"] else []),
        *(f"Warning: {warning}" for warning in study.warnings),
        f"[The report of this study]({REPORT.partition('<')[0]}{study.study_id})",
    ]
    return Review(
        list(_figures(summary)),
        "\n\n".join(note),
        frozenset(member.trial for member in summary.front),
        begin,
        time.monotonic() - begin,
    )


def _figures(summary: Summary) -> Iterable[dict[str, str]]:
    """The figures of the report that the dashboard has not got itself."""
    front = {member.trial for member in summary.front}
    marks = set(thinned([record.number for record in summary.records if record.number not in front], MAX_MARKS))
    few = replace(summary, records=tuple(record for record in summary.records if record.number in front | marks))
    activations = summary.activations
    whose = "" if activations is None else f"what trial {activations.network.trial} has learned, "
    plots = [
        ("the front by family", front_plot(few)),
        ("learning curves", curves_plot(summary)),
        ("hypervolume", hypervolume_plot(summary)),
        *((f"{whose}{plot.title.lower()}", plot) for plot in activation_plots(summary)),
    ]
    for title, plot in plots:
        if plot is not None:
            yield {"id": f"kansearch-{plot.name}", "graph_object": _drawn(plot, title)}


def _drawn(plot: Plot, title: str) -> str:
    """A figure of the report as a card of the dashboard shows it."""
    figure = plot.figure
    figure.update_layout(
        title={"text": f"{title[0].upper()}{title[1:]}", "x": 0.01, "xanchor": "left", "y": 0.98, "yanchor": "top"},
        height=CARD_PX,
        margin={"t": 104, "b": 50, "l": 60, "r": 16},
        meta=None,
    )
    return str(figure.to_json())
