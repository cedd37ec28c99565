"""Small image sets in the files of the real ones."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import zlib
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


def png16(pixels: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits of pixels of shape (height, width, 1 to 4 channels), one of whose values may be transparent."""
    height, width, n_channels = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colours = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)),
            chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b"",
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def tiff16(pixels: np.ndarray, order: str, *, compressed: bool) -> bytes:
    """A TIFF of 16 bits of pixels of shape (height, width, 3), in an order of bytes (< or >)."""
    height, width, n_channels = pixels.shape
    content = pixels.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if compressed else content
    bits_at = 8 + len(content) + len(content) % 2
    tags_at = bits_at + 2 * n_channels
    shorts = {256: width, 257: height, 259: 8 if compressed else 1, 262: 2, 277: n_channels, 278: height}
    longs = {273: 8, 279: len(content)}
    tags = {tag: struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
    tags |= {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in longs.items()}
    tags[258] = struct.pack(f"{order}HHII", 258, 3, n_channels, bits_at)
    return b"".join(
        (
            (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", tags_at),
            content.ljust(bits_at - 8, b"\0"),
            struct.pack(f"{order}{n_channels}H", *[16] * n_channels),
            struct.pack(f"{order}H", len(tags)) + b"".join(tags[tag] for tag in sorted(tags)) + bytes(4),
        )
    )
