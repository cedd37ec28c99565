"""Files of trained networks: weights by name, and beside them what network they belong to."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kansearch.errors import DataError
from kansearch.specs.base import Spec
from kansearch.specs.data import ImageShape, Inputs, TextShape
from kansearch.specs.trial import NETWORK_SUFFIX, ModelSpec

KEY = "kansearch"


class SavedNetwork(Spec):
    """What stands in a file beside the weights.

    Attributes:
        format: Raised when files are laid out in another way.
        model: The network's architecture.
        images: Shape of the images that it was built for; None where it was not for images.
        texts: Likewise of texts.
        n_inputs: Numbers in a row.
        n_outputs: Classes, or 1.
        task: classification or regression.
        feature_names: Of the inputs.
        class_names: In the order of the outputs; () in regression.
        target_mean: Added to `target_scale` times an output it gives the value; 0 in classification.
        target_scale: 1 in classification.
        target_transform: `log` where that value is the target's natural logarithm.
        encoder: How rows became numbers.
        study: Of the trial.
        trial: Its number.
        metrics: What was measured of it on the validation rows.
    """

    format: Literal[1] = 1
    model: ModelSpec
    images: ImageShape | None = None
    texts: TextShape | None = None
    n_inputs: int
    n_outputs: int
    task: str
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    target_mean: float
    target_scale: float
    target_transform: Literal["none", "log"] = "none"
    encoder: dict[str, Any]
    study: str
    trial: int
    metrics: dict[str, float]

    @property
    def inputs(self) -> Inputs:
        """What the network was built for."""
        return self.images or self.texts or self.n_inputs


def save_network(path: Path, network: nn.Module, about: SavedNetwork) -> None:
    """Write a network into a file; all or nothing.

    Raises:
        OSError: If that is not possible.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(save(tensors, metadata={KEY: about.model_dump_json()}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_about(path: str) -> SavedNetwork:
    """What network a file holds.

    Raises:
        DataError: If it is no file that kansearch wrote, or a broken one; if it begins with itself.
    """
    for _ in backbones_from(path):
        pass
    return _read(path, _stamp(path))[0]


def backbones_from(backbone: str) -> Iterator[str]:
    """A backbone, that with which this one begins, and so on: files, and last perhaps a name of torchvision's.

    Raises:
        DataError: As `read_about`.
    """
    seen = {backbone}
    yield backbone
    while backbone.endswith(NETWORK_SUFFIX):
        model = _read(backbone, _stamp(backbone))[0].model
        if model.stem != "backbone":
            return
        if model.backbone in seen:
            raise DataError(
                f"the network in {model.backbone} has itself as its backbone; allowed: a file of another one"
            )
        backbone = model.backbone
        seen.add(backbone)
        yield backbone


def read_tensors(path: str) -> Mapping[str, Tensor]:
    """The weights; nobody may write into them.

    Raises:
        DataError: As `read_about`.
    """
    return _read(path, _stamp(path))[1]


def _stamp(path: str) -> tuple[int, int]:
    """Changes when the file does."""
    try:
        state = Path(path).stat()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}; allowed: a file that kansearch export wrote"
        ) from None
    if stat.S_ISDIR(state.st_mode):
        raise DataError(f"{path} is a folder; allowed: a file that kansearch export wrote")
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=8)
def _read(path: str, _: tuple[int, int]) -> tuple[SavedNetwork, Mapping[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DataError(f"{path} is no whole {NETWORK_SUFFIX} file: {error}") from None
    if header is None:
        raise DataError(f"{path} holds no network of kansearch; allowed: a file that kansearch export wrote")
    try:
        about = SavedNetwork.model_validate_json(header)
    except ValidationError as error:
        reason = error.errors()[0]
        raise DataError(
            f"{path} holds a network that this version of kansearch cannot read: "
            f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}"
        ) from None
    return about, tensors
