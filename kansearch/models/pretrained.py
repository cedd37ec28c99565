"""Networks of torchvision that were trained on ImageNet, in stages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kansearch.errors import DataError
from kansearch.models.flops import Cost
from kansearch.specs.trial import Pretrained
from kansearch.vision import cache_folder, import_torchvision

NAMES: tuple[str, ...] = get_args(Pretrained)

_STAGE_ENDS = {
    "mobilenet_v3_small": (2, 4, 9, 13),
    "mobilenet_v3_large": (4, 7, 13, 17),
    "efficientnet_b0": (3, 4, 6, 9),
    "convnext_tiny": (2, 4, 6, 8),
}
"""Of networks that are one row of parts: behind which parts their stages end. ResNets name their stages."""


_CLASSIFIERS = ("fc.", "classifier.")

SMALLEST = {"convnext_tiny": 32}
"""Height and width that some networks need to have a map left at their end; others take what there is."""


@dataclass(frozen=True)
class Sizes:
    """How large a backbone is for images of one size.

    Attributes:
        seen: What each stage sees of one image, and what comes out of the last.
        cost: Parameters of all stages; operations of convolutions and matrix products alone.
        widest: Numbers of the largest tensor of one image.
    """

    seen: tuple[tuple[int, ...], ...]
    cost: Cost
    widest: int

    @property
    def n_features(self) -> int:
        """What it gives."""
        return math.prod(self.seen[-1])


@lru_cache(maxsize=64)
def sizes(name: str, height: int, width: int) -> Sizes:
    """How large a network is, without its weights.

    Args:
        name: One of NAMES.
        height: Of the images that it sees.
        width: Likewise.
    """
    with torch.device("meta"):
        stages = _stages(name, _bare(name))
        x = torch.empty(1, 3, height, width)
    largest = x.numel()

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    seen = [tuple(x.shape[1:])]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for stage in stages:
            for module in stage.modules():
                module.register_forward_hook(note)
            x = stage.eval()(x)
            seen.append(tuple(x.shape[1:]))
    parameters = sum(parameter.numel() for stage in stages for parameter in stage.parameters())
    return Sizes(tuple(seen), Cost(parameters, int(counter.get_total_flops())), largest)


def pretrained_stages(name: str) -> list[nn.Sequential]:
    """The network with its weights, without its classifier; all stages share the memory of `weights`.

    Raises:
        DataError: As `weights`; or if they are those of another network.
    """
    # A classifier is of no use here, and one's own may be for other classes.
    state = {key: tensor for key, tensor in weights(name).items() if not key.startswith(_CLASSIFIERS)}
    with torch.device("meta"):
        network = _bare(name)
    try:
        network.load_state_dict(state, assign=True, strict=False)
        # torch itself fills in the counters, which the oldest files lack.
        needed = [key for key in network.state_dict() if not key.startswith(_CLASSIFIERS)]
        missing = [key for key in needed if key not in state and not key.endswith("num_batches_tracked")]
        if missing:
            raise RuntimeError(f"{missing[0]} is missing")
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"{_own_file(name)} does not hold the weights of a {name}: {reason}") from None
    return _stages(name, network)


@lru_cache(maxsize=2)
def weights(name: str) -> dict[str, Tensor]:
    """All weights of a network; nobody may write into them.

    They are looked for in the folder `backbones` of the cache: a file of one's own, NAME.pth, or torchvision's, which
    is downloaded where it is missing. Nothing in the files is run.

    Raises:
        DataError: If the file is broken, or cannot be downloaded.
    """
    own, given = _own_file(name), import_torchvision().models.get_model_weights(name).DEFAULT
    folder, file = own.parent, own.parent / str(given.url).rpartition("/")[2]
    if own.exists():
        return _read(own)
    if file.exists():
        return _read(file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(given.url, str(file), file.stem.rpartition("-")[2], progress=False)
    except Exception as error:  # noqa: BLE001 - the network and the disk fail in their own ways
        raise DataError(
            f"the weights of {name} are not in {folder} and cannot be downloaded ({_line(error)}); "
            f"allowed: torchvision's file {file.name} there, or one of your own, {own.name}"
        ) from None
    return _read(file)


def weights_file(name: str) -> Path:
    """The file that `weights` read."""
    weights(name)
    own, given = _own_file(name), import_torchvision().models.get_model_weights(name).DEFAULT
    return own if own.exists() else own.parent / str(given.url).rpartition("/")[2]


def _own_file(name: str) -> Path:
    return cache_folder() / "backbones" / f"{name}.pth"


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch.load raises whatever its readers do
        raise DataError(f"{file} is no file of weights, or a broken one: {_line(error)}; delete it") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{file} holds no weights by name; allowed: what torch.save(network.state_dict()) writes")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def _line(error: Exception) -> str:
    reason = str(error).partition(chr(10))[0][:200]
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _bare(name: str) -> nn.Module:
    return cast("nn.Module", getattr(import_torchvision().models, name)(weights=None))


def _stages(name: str, network: Any) -> list[nn.Sequential]:
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if name not in _STAGE_ENDS:
        first = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
        return [first, network.layer2, network.layer3, nn.Sequential(network.layer4, *pool)]
    ends = _STAGE_ENDS[name]
    parts = list(network.features)
    stages = [parts[begin:end] for begin, end in zip((0, *ends), ends, strict=False)]
    return [nn.Sequential(*stage, *(pool if stage is stages[-1] else [])) for stage in stages]
