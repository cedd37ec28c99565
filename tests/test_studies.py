"""The study files that teach the format: each is valid, commented and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kansearch.data.splits import Split, load_split
from kansearch.models.pretrained import weights
from kansearch.search.effects import check_feasible, search_warnings
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.storage.studies import create_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage
from tests.backbones import write_weights
from tests.images import write_cifar10, write_mnist
from tests.studies import copied_storage, search
from tests.texts import write_imdb, write_reviews

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Small data of all kinds, in the formats of the real files."""
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder)
    _, accept = write_cifar10(folder)
    write_weights(folder, "mobilenet_v3_small", "resnet18")
    write_imdb(folder / "aclImdb", 60, 5)
    write_reviews(folder, 120)
    rows = [f"{n},{n % 7 / 7 - 0.5},{'abc'[n % 3]},{'yes' if n % 7 > 3 else 'no'}" for n in range(120)]
    (folder / "table.csv").write_text("id,number,letter,target\n" + "\n".join(rows))
    weights.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        accept(patch)
        patch.setenv("KANSEARCH_DATA", str(folder))
        yield folder
    weights.cache_clear()


def with_small_data(spec: StudySpec, folder: Path) -> tuple[StudySpec, Split]:
    """A study whose files lie beside it, with those of the test; few images are enough for most."""
    if spec.data.path is not None:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"path": folder / spec.data.path.name})})
    split = load_split(spec.data)
    tells_batches_apart = "batch_size" in spec.space.searched()
    return spec, split.head(24) if split.image_shape and not tells_batches_apart else split


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_runs_tiny(path: Path, tmp_path: Path, folder: Path) -> None:
    """With a tiny budget each study draws, trains, prunes and completes trials of its families."""
    changes = ["budget.trials=9", "budget.epochs=4", "data.n_train=64", "search.pruner.min_epochs=1"]
    spec, split = with_small_data(load_study_file(path, changes), folder)
    check_feasible(spec, split.inputs, split.n_outputs)
    study = create_study(open_storage(copied_storage(tmp_path)), spec, digest=split.digest, data_line="", versions={})
    search(study, split)
    records = read_records(study)
    states = Counter(record.state for record in records)
    assert states["complete"] + states["pruned"] == 9
    assert states["complete"] >= 2
    assert {record.family for record in records} == set(spec.space.families())


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_searches_nothing_in_vain(path: Path, folder: Path) -> None:
    """No study of ours gives a warning of its own."""
    spec, split = with_small_data(load_study_file(path), folder)
    assert search_warnings(spec, replace(split, warnings=())) == ()  # small data have warnings of their own


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_file_says_how_it_is_run(path: Path) -> None:
    """Its comments show the command, with the file's own name."""
    assert f"#   kansearch optimize studies/{path.name}" in path.read_text()
