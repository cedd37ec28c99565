"""The study files that teach the format: each is valid, commented and runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kansearch.data.splits import load_split
from kansearch.models.pretrained import weights
from kansearch.search.effects import check_feasible, search_warnings
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import create_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.backbones import write_weights
from tests.images import write_cifar10, write_mnist
from tests.studies import search
from tests.texts import write_imdb, write_reviews

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))


@pytest.fixture(autouse=True)
def image_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones, in the format of the real files."""
    write_mnist(tmp_path)
    _, accept = write_cifar10(tmp_path)
    accept(monkeypatch)
    monkeypatch.setenv("KANSEARCH_DATA", str(tmp_path))
    write_weights(tmp_path, "mobilenet_v3_small", "resnet18")
    weights.cache_clear()
    write_imdb(tmp_path / "aclImdb", 60, 5)
    write_reviews(tmp_path, 120)
    rows = [f"{n},{n % 7 / 7 - 0.5},{'abc'[n % 3]},{'yes' if n % 7 > 3 else 'no'}" for n in range(120)]
    (tmp_path / "table.csv").write_text("id,number,letter,target\n" + "\n".join(rows))


def with_small_data(spec: StudySpec, folder: Path) -> StudySpec:
    """A study whose files lie beside it, with those of the test."""
    if spec.data.path is None:
        return spec
    return spec.model_copy(update={"data": spec.data.model_copy(update={"path": folder / spec.data.path.name})})


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_runs_tiny(path: Path, storage_url: str, tmp_path: Path) -> None:
    """With a tiny budget each study draws, trains, prunes and completes trials of its families."""
    spec = with_small_data(
        load_study_file(path, ["budget.trials=12", "budget.epochs=4", "data.n_train=64", "search.pruner.min_epochs=1"]),
        tmp_path,
    )
    split = load_split(spec.data)
    check_feasible(spec, split.inputs, split.n_outputs)
    study = create_study(open_storage(storage_url), spec, digest=split.digest, data_line="", versions={})
    search(study, split)
    records = read_records(study)
    states = Counter(record.state for record in records)
    assert states["complete"] + states["pruned"] == 12
    assert states["complete"] >= 2
    assert {record.family for record in records} == set(spec.space.families())


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_searches_nothing_in_vain(path: Path, tmp_path: Path) -> None:
    """No study of ours gives a warning of its own."""
    spec = with_small_data(load_study_file(path), tmp_path)
    assert search_warnings(spec, load_split(spec.data)) == ()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_says_how_it_is_run(path: Path) -> None:
    """Its comments show the command, with the file's own name."""
    assert f"#   kansearch optimize studies/{path.name}" in path.read_text()
