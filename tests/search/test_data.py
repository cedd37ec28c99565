"""The data of a study, and the backbones that its trials begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kansearch.data.splits import load_split
from kansearch.errors import DataError, StudyFileError
from kansearch.models.build import build
from kansearch.models.saved import SavedNetwork, read_about, save_network
from kansearch.search.data import load_study_split
from kansearch.search.effects import check_feasible
from kansearch.search.suggest import trial_spec
from kansearch.specs.data import DataSpec, TextShape
from kansearch.specs.study import StudySpec
from kansearch.specs.study_file import load_study_file
from kansearch.specs.trial import ModelSpec
from tests.texts import write_reviews

STUDY = """
data: {data}
objectives: [accuracy]
budget: {{trials: 2, epochs: 2}}
space: {{family: mlp, stem: backbone, backbone: net.safetensors, depth: 1}}
"""


def study(folder: Path, data: str) -> StudySpec:
    (folder / "study.yaml").write_text(STUDY.format(data=data))
    return load_study_file(folder / "study.yaml")


def write_network(folder: Path, data: DataSpec, seed: int = 0, name: str = "net", **fields: Any) -> None:
    """A network for these data."""
    split = load_split(data)
    stem = "embedding" if isinstance(split.inputs, TextShape) else "none"
    model = ModelSpec(**{"family": "mlp", "stem": stem, "depth": 2, "width": 5, **fields})
    network = build(model, split.inputs, split.n_outputs, torch.Generator().manual_seed(seed))
    about = SavedNetwork(
        model=model, images=split.image_shape, texts=split.text_shape, n_inputs=split.n_inputs, study="s", trial=0,
        n_outputs=split.n_outputs, task=split.task.value, feature_names=split.feature_names, metrics={},
        class_names=split.class_names, target_mean=0.0, target_scale=1.0, encoder=split.encoder.model_dump(mode="json"),
    )  # fmt: skip
    save_network(folder / f"{name}.safetensors", network, about)


def test_other_weights_are_another_study(tmp_path: Path) -> None:
    """The digest changes with the content of the file, and is not that of the data alone."""
    digests = [load_split(DataSpec(name="iris")).digest]
    for seed in (0, 0, 1):
        write_network(tmp_path, DataSpec(name="iris"), seed)
        digests.append(load_study_split(study(tmp_path, "iris")).digest)
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_what_a_backbone_begins_with_counts_too(tmp_path: Path) -> None:
    """A network that stands behind another one: its file holds but a part of it."""
    iris, digests = DataSpec(name="iris"), []
    for seed in (0, 1, 0):
        write_network(tmp_path, iris, seed, name="first")
        first = str(tmp_path / "first.safetensors")
        write_network(tmp_path, iris, stem="backbone", backbone=first)
        digests.append(load_study_split(study(tmp_path, "iris")).digest)
    assert digests[0] == digests[2] != digests[1]


def test_the_same_study_in_another_folder_has_the_same_seeds(tmp_path: Path) -> None:
    """Where the file of a backbone lies does not matter."""
    seeds = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        write_network(folder, DataSpec(name="iris"))
        seeds.append(trial_spec(study(folder, "iris"), {}).seed)
    assert seeds[0] == seeds[1]


def test_broken_backbones_are_found_before_there_is_a_study(tmp_path: Path) -> None:
    """Weights of another network, and weights that are no numbers."""
    spec = study(tmp_path, "iris")
    split = load_split(DataSpec(name="iris"))
    write_network(tmp_path, DataSpec(name="iris"))
    check_feasible(spec, split.inputs, split.n_outputs)
    path = tmp_path / "net.safetensors"
    header = path.read_bytes()
    path.write_bytes(header.replace(b'"layers.0.weight"', b'"layers.0.weighs"'))
    with pytest.raises(DataError, match="holds weights of another network than it says"):
        check_feasible(spec, split.inputs, split.n_outputs)
    about, tensors = read_about(str(path)), torch.full((5, 4), torch.nan)
    network = build(about.model, 4, 3)
    network.load_state_dict({**network.state_dict(), "layers.0.weight": tensors})
    save_network(path, network, about)
    with pytest.raises(DataError, match="are not all numbers"):
        check_feasible(spec, split.inputs, split.n_outputs)


def test_one_file_by_two_paths_is_one_backbone(tmp_path: Path) -> None:
    """And stands twice."""
    text = STUDY.format(data="iris").replace("net.safetensors", "[net.safetensors, x/../net.safetensors]")
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(StudyFileError, match="stands here twice"):
        load_study_file(tmp_path / "study.yaml")


def test_a_network_of_other_columns_is_refused(tmp_path: Path) -> None:
    """As many, but with other names."""
    rows = "".join(f"{n % 5},{n % 3},{n % 7},{n % 11},{'ab'[n % 2]}\n" for n in range(60))
    (tmp_path / "t.csv").write_text("a,b,c,d,y\n" + rows)
    write_network(tmp_path, DataSpec(name="iris"))
    spec = study(tmp_path, "{path: t.csv, target: y, task: classification}")
    with pytest.raises(DataError, match=r"was trained on the columns sepal length.*, and these data have a, b, c, d"):
        load_study_split(spec)


def test_a_network_of_other_words_is_refused(tmp_path: Path) -> None:
    """As many, but numbered in another way."""
    write_reviews(tmp_path, 120)
    reviews = "{path: reviews.csv, text: review, target: mood, task: classification, max_words: 8, vocabulary: 9}"
    given = study(tmp_path, reviews)
    write_network(tmp_path, given.data)
    load_study_split(given)
    text = (tmp_path / "reviews.csv").read_text()
    (tmp_path / "reviews.csv").write_text(text.replace("a", "b"))
    with pytest.raises(DataError, match="knows other words than these texts"):
        load_study_split(given)


@pytest.mark.parametrize("asks", ["objectives: [r2]", "objectives: [rmse]\nconstraints: [r2 >= 0.5]"])
def test_a_metric_that_cannot_exist_is_refused_before_any_trial(asks: str, tmp_path: Path) -> None:
    """Of a constant there is no coefficient of determination; the other errors there are."""
    rows = [f"{n},{n % 7},{float(n in (4, 50))}" for n in range(60)]
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(rows))

    def spec(asks: str) -> StudySpec:
        text = f"data: {{path: t.csv, target: y, task: regression}}\nspace: {{width: [4, 8]}}\n{asks}"
        (tmp_path / "study.yaml").write_text(text)
        return load_study_file(tmp_path / "study.yaml")

    with pytest.raises(
        DataError, match="r2 does not exist on the validation rows: all 12 of them have the same target; allowed: rmse"
    ):
        load_study_split(spec(asks))
    assert load_study_split(spec("objectives: [rmse, mae]")).n_validation == 12
