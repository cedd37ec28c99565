"""Small image sets in the files of the real ones."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kansearch.vision import import_torchvision

N_TRAIN, N_TEST = 240, 12
N_CIFAR = 60


def idx(array: np.ndarray) -> bytes:
    """In the format of MNIST's files."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, kind: str = "MNIST", *, zipped: bool = False) -> np.ndarray:
    """Small files of its format; returns the training pixels."""
    raw = folder / kind / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = {}
    for part, n in (("train", N_TRAIN), ("t10k", N_TEST)):
        pixels[part] = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        files = {"images-idx3": idx(pixels[part]), "labels-idx1": idx(np.arange(n) % 10)}
        for name, content in files.items():
            file = raw / f"{part}-{name}-ubyte"
            if zipped:
                file.with_suffix(".gz").write_bytes(gzip.compress(content))
            else:
                file.write_bytes(content)
    return pixels["train"]


def write_cifar10(folder: Path) -> tuple[np.ndarray, Callable[[pytest.MonkeyPatch], None]]:
    """Small files of its format; returns the training pixels and what makes torchvision accept their checksums."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)

    def write(name: str, content: object) -> tuple[str, str]:
        raw = pickle.dumps(content)
        (batches / name).write_bytes(raw)
        return name, hashlib.md5(raw).hexdigest()

    pixels = np.random.default_rng(0).integers(0, 256, (N_CIFAR, 3072), dtype=np.uint8)
    train = write("data_batch_1", {"data": pixels, "labels": [n % 3 for n in range(N_CIFAR)]})
    test = write("test_batch", {"data": pixels[:N_TEST], "labels": [n % 3 for n in range(N_TEST)]})
    meta, checksum = write("batches.meta", {"label_names": ["airplane", "automobile", "bird"]})

    def accept(monkeypatch: pytest.MonkeyPatch) -> None:
        cifar = import_torchvision().datasets.CIFAR10
        monkeypatch.setattr(cifar, "train_list", [list(train)])
        monkeypatch.setattr(cifar, "test_list", [list(test)])
        monkeypatch.setattr(cifar, "meta", {"filename": meta, "key": "label_names", "md5": checksum})

    return pixels, accept
