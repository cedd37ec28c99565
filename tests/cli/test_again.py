"""Networks that are trained again, to be explained or exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kansearch.cli.explain import explain_trial
from kansearch.cli.export import export_trial
from kansearch.search.data import load_study_split
from kansearch.specs.study import StudySpec
from kansearch.storage.studies import StoredStudy
from kansearch.storage.trials import prune_write, rung_write, write
from tests.storage.test_trials import begin, result


def test_a_trial_pruned_before_its_last_refinement_has_the_grid_of_its_time(
    make_spec: Callable[..., StudySpec],
    make_study: Callable[..., StoredStudy],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever explains or exports its network is told what that is, not what it was to be."""
    space = (
        "space={family: kan, base_function: rbf, n_basis: 8, refinements: 2, learning_rate: {low: 0.001, high: 0.1}}"
    )
    study = make_study(space, digest=load_study_split(make_spec(space)).digest)
    trial = begin(study)
    write(study, [rung_write(study, trial, result(0, 1))])
    write(study, [prune_write(study, trial, "pruned at epoch 1", 1 / 3)])
    explain_trial(study, trial.number, 1, tmp_path)
    export_trial(study, trial.number, tmp_path / "network.safetensors")
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Trial 0 of small")]
    assert heads == ["Trial 0 of small, a KAN: width 16, depth 2, dictionary rbf K=2"] * 2
