"""A trial's network, trained again from its seed."""

from __future__ import annotations

from pathlib import Path

import torch

from kansearch.data.splits import Split
from kansearch.errors import UserError
from kansearch.interpret.explain import train_again
from kansearch.models.network import Network
from kansearch.report.architecture import describe_architecture
from kansearch.search.data import load_known_split
from kansearch.search.suggest import trial_spec
from kansearch.specs.trial import End, ModelSpec, TrialRecord
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import read_records
from kansearch.training.refinement import model_during


def finished_trial(study: StoredStudy, number: int) -> TrialRecord:
    """A trial that has a network with numbers in it.

    Raises:
        UserError: If there is no such trial.
    """
    records = read_records(study)
    if number >= len(records):
        allowed = f"0 to {len(records) - 1}" if records else "none yet"
        raise UserError(f'study "{study.spec.name}" has no trial {number}; its trials: {allowed}')
    record = records[number]
    if record.end is End.DIVERGED:
        raise UserError(f"trial {number} diverged: its network holds no numbers; allowed: trials that did not")
    if record.state not in ("complete", "pruned") or not record.epochs:
        raise UserError(f"trial {number} is {record.state}, without a result; allowed: complete and pruned trials")
    return record


def network_of(
    study: StoredStudy, record: TrialRecord, place: Path | None = None
) -> tuple[Network, ModelSpec, Split, dict[str, float]]:
    """The trial's network, what it is, the data it learned from, and its metrics of today.

    Args:
        study: Of the trial.
        record: Of the trial.
        place: Of the data, where they lie elsewhere than the study says.

    Raises:
        DataError: If the data are nowhere, or changed since the study began.
        UserError: If it diverges today, or memory does not suffice.
    """
    split = load_known_split(study, place)
    spec = trial_spec(study.spec, record.params)
    if record.seed is not None:
        spec = spec.model_copy(update={"seed": record.seed})
    # As a worker has it, for the same sums.
    torch.set_num_threads(1)
    network, result = train_again(spec, split, record.epochs)
    if result.end is End.OUT_OF_MEMORY:
        raise UserError(f"memory does not suffice to train trial {record.number} again here; try a machine with more")
    if result.end is End.DIVERGED or not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise UserError(f"trial {record.number} diverged when it was trained again: its network holds no numbers")
    # A trial that was pruned may have a network that is not yet as fine as it was to be.
    model = model_during(spec.model, spec.training, record.epochs - 1)
    return network, model, split, result.metrics


def architecture_of(study: StoredStudy, record: TrialRecord, model: ModelSpec) -> str:
    """The architecture of the trial's network, as `network_of` gives it, in one line."""
    return describe_architecture({**record.params, "n_basis": model.n_basis}, study.spec)
