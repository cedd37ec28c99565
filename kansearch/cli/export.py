"""`kansearch export`: a trial's network as a file."""

from __future__ import annotations

from pathlib import Path

from kansearch.cli.again import architecture_of, finished_trial, network_of
from kansearch.cli.tables import console, say
from kansearch.errors import UserError
from kansearch.models.cost import cost
from kansearch.models.saved import SavedNetwork, backbones_from, save_network
from kansearch.report.architecture import family_name
from kansearch.report.comparison import best_of
from kansearch.report.progress import front_of, objectives_of
from kansearch.report.render import check_writable
from kansearch.report.words import format_value
from kansearch.search.data import backbones_of
from kansearch.specs.trial import NETWORK_SUFFIX
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records
from kansearch.training.metrics import constant_answer


def export_trial(study: StoredStudy, number: int | None, output: Path | None, data: Path | None = None) -> None:
    """Train a trial's network again, write it into a file, and say where.

    Args:
        study: Of the trial.
        number: Of the trial; None takes that of the front which is best in the first objective.
        output: The file; None is `reports/NAME/trial-N.safetensors`.
        data: Where they lie, if elsewhere than the study says.

    Raises:
        DataError: If the data are nowhere, or changed since the study began.
        UserError: If there is no such trial, or the file cannot be written.
    """
    if output is not None and output.suffix != NETWORK_SUFFIX:
        raise UserError(f"--output is {output}; allowed: a file that ends in {NETWORK_SUFFIX}")
    record = finished_trial(study, _best(study) if number is None else number)
    path = output or Path("reports") / study.spec.name / f"trial-{record.number}{NETWORK_SUFFIX}"
    if path.is_dir():
        raise UserError(f"--output is {path}, a folder; name a file in it")
    needed = (file for backbone in backbones_of(study.spec) for file in backbones_from(backbone))
    if path.resolve() in {Path(file).resolve() for file in needed}:
        raise UserError(f"--output is {path}, a backbone of this study; name another file")
    check_writable(path.parent, "network")
    network, model, split, measured = network_of(study, record, data)
    # A trial that was pruned may have a network that is not yet as fine as the recorded costs say.
    costs = cost(model, split.inputs, split.n_outputs)
    own = {"parameters": float(costs.parameters), "flops": float(costs.flops)}
    about = SavedNetwork(
        model=model,
        images=split.image_shape,
        texts=split.text_shape,
        n_inputs=split.n_inputs,
        n_outputs=split.n_outputs,
        task=split.task.value,
        feature_names=split.feature_names,
        class_names=split.class_names,
        target_mean=split.target_mean,
        target_scale=split.target_scale,
        target_transform=split.target_transform,
        encoder=split.encoder.model_dump(mode="json"),
        study=study.spec.name,
        trial=record.number,
        metrics={**measured, **own},
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_network(path, network, about)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; name another --output") from None
    quality = study.spec.objectives[0]
    constant = constant_answer(split).metrics
    now, then, bar = (format_value(quality, metrics.get(quality)) for metrics in (measured, record.metrics, constant))
    out = console()
    architecture = architecture_of(study, record, model)
    say(
        out, f"Trial {record.number} of {study.spec.name}, a {family_name(record.family)}: {architecture}", style="bold"
    )
    say(out, f"{quality} {now}, recorded {then}; a constant answer has {bar}")
    out.print(f"File: {path}", soft_wrap=True)


def _best(study: StoredStudy) -> int:
    records = read_records(study)
    objectives = objectives_of(study.spec.objectives, records)
    best = best_of(front_of(records, objectives), objectives[0])
    if best is None:
        raise UserError(f'study "{study.spec.name}" has no complete trial yet; name one with --trial')
    return best.number
