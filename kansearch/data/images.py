"""Images and their classes: torchvision's sets, a folder of pictures, and scikit-learn's digits as images.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from kansearch.errors import DataError
from kansearch.specs.base import Spec
from kansearch.specs.data import DEFAULT_IMAGE_SIZE, DataSpec, ImageShape
from kansearch.vision import cache_folder, import_torchvision

Pixels = UInt8[np.ndarray, "N C H W"]
Classes = Int64[np.ndarray, "N"]

TORCHVISION_SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
"""Its class of each set."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
PARTS = {"train", "val", "valid", "validation", "dev", "test"}
DIGITS_BRIGHTEST = 16


@dataclass(frozen=True, eq=False)
class Images:
    """All images that have a class, not yet split.

    Attributes:
        source: The folder or the set, as a message begins.
        pixels: 0 to 255.
        target: Index of the class.
        class_names: In the order of their indices.
        n_test: So many at the end are the test rows of whoever made the set; 0 where there are none.
        content: SHA-256 of the raw data, in hex.
    """

    source: str
    pixels: Pixels
    target: Classes
    class_names: tuple[str, ...]
    n_test: int
    content: str


class PixelEncoder(Spec):
    """Pixels to numbers of zero mean and unit variance in each channel, by what the training rows have shown.

    Attributes:
        means: Of each channel.
        scales: Standard deviation of each channel; 1 where all its pixels are equal.
        height: Of the images.
        width: Likewise.
    """

    kind: Literal["pixels"] = "pixels"
    means: tuple[float, ...]
    scales: tuple[float, ...]
    height: int
    width: int

    @property
    def feature_names(self) -> tuple[str, ...]:
        """For people: channel, row and column."""
        places = np.ndindex(len(self.means), self.height, self.width)
        return tuple(f"channel {c}, row {h}, column {w}" for c, h, w in places)

    @property
    def shape(self) -> ImageShape:
        """What networks are built for."""
        return ImageShape(len(self.means), self.height, self.width)

    def encode(self, pixels: Pixels) -> Float32[np.ndarray, "N CHW"]:
        """Flat rows, channel by channel."""
        means, scales = (np.array(v, dtype=np.float32)[:, None, None] for v in (self.means, self.scales))
        return ((pixels.astype(np.float32) - means) / scales).reshape(len(pixels), -1)


def fit_pixel_encoder(pixels: Pixels) -> PixelEncoder:
    """What the training images show."""
    # 256 values: counting them is exact, and needs no copy in floating point.
    counts = [np.bincount(channel.reshape(-1), minlength=256) for channel in np.moveaxis(pixels, 1, 0)]
    values = np.arange(256.0)
    means = [float(count @ values / count.sum()) for count in counts]
    squares = [float(count @ (values - mean) ** 2 / count.sum()) for count, mean in zip(counts, means, strict=True)]
    return PixelEncoder(
        means=tuple(means),
        scales=tuple(square**0.5 or 1.0 for square in squares),
        height=pixels.shape[2],
        width=pixels.shape[3],
    )


def load_images(spec: DataSpec) -> Images:
    """The images of a set or of a folder.

    Raises:
        DataError: If files are missing, broken, or no images to learn from.
    """
    if spec.path is not None:
        return _from_folder(spec.path, spec.image_size or DEFAULT_IMAGE_SIZE)
    assert spec.name is not None
    return _digits() if spec.name == "digits_images" else _from_torchvision(spec.name, image_folder(spec))


def image_folder(spec: DataSpec) -> Path:
    """Where the files of a set lie: `data.folder`, or $KANSEARCH_DATA, or a cache in the user's home."""
    return spec.folder or cache_folder()


def _images(source: str, pixels: np.ndarray, target: np.ndarray, class_names: Sequence[str], n_test: int = 0) -> Images:
    content = hashlib.sha256(pixels.tobytes() + target.tobytes()).hexdigest()
    return Images(source, pixels, target.astype(np.int64), tuple(class_names), n_test, content)


def _digits() -> Images:
    from sklearn import datasets  # noqa: PLC0415 - it takes as long as torch, and other images need it not

    bunch = datasets.load_digits()
    pixels = np.round(bunch.images * (255 / DIGITS_BRIGHTEST)).astype(np.uint8)[:, None]
    return _images("digits_images", pixels, bunch.target, [str(name) for name in bunch.target_names])


# --- torchvision ------------------------------------------------------------------------------------


def _from_torchvision(name: str, folder: Path) -> Images:
    make = getattr(import_torchvision().datasets, TORCHVISION_SETS[name])
    parts = []
    for train in (True, False):
        try:
            part = make(folder, train=train)
        except Exception:  # noqa: BLE001 - broken files fail in torchvision in many ways
            part = _downloaded(name, make, folder, train=train)
        parts.append((np.asarray(part.data), np.asarray(part.targets)))
    shapes = [pixels.shape[1:] for pixels, _ in parts]
    if shapes[0] != shapes[1]:
        raise DataError(f"{name} in {folder} has images of {shapes[0]} to train and of {shapes[1]} to test")
    pixels = np.concatenate([pixels for pixels, _ in parts])
    # MNIST and its kin have no channel, CIFAR has it last.
    pixels = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(np.moveaxis(pixels, -1, 1))
    target = np.concatenate([target for _, target in parts])
    if len(pixels) != len(target) or target.min() < 0 or target.max() >= len(part.classes):
        raise DataError(
            f"{name} in {folder} has {len(pixels)} images and {len(target)} labels from {target.min()} to "
            f"{target.max()}; allowed: one for each image, from 0 to {len(part.classes) - 1}"
        )
    return _images(name, pixels, target, [str(c) for c in part.classes], n_test=len(parts[1][1]))


def _downloaded(name: str, make: type, folder: Path, *, train: bool) -> object:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return make(folder, train=train, download=True)
    except Exception as error:  # noqa: BLE001 - torchvision and the network fail in their own ways
        expected = folder / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
        if not name.startswith("cifar"):
            expected = folder / TORCHVISION_SETS[name] / "raw"
        raise DataError(
            f"{name}: there are no whole files of it in {expected}, and they cannot be downloaded "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); put them there as torchvision "
            "keeps them, or name another folder with data.folder"
        ) from None


# --- folders ----------------------------------------------------------------------------------------


def _from_folder(folder: Path, size: int) -> Images:
    """A folder with a folder of images for each class, or with `train` and `test` that are such folders."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; a folder of images has a folder for each class")
    names = _class_names(folder)
    if set(names) == {"train", "test"}:
        class_names = _class_names(folder / "train")
        unknown = sorted(set(_class_names(folder / "test")) - set(class_names))
        if unknown:
            raise DataError(f'{folder / "test"} has the class "{unknown[0]}", which {folder / "train"} lacks')
        train, test = (list(_files(folder / part, class_names)) for part in ("train", "test"))
    elif "train" in names and set(names) <= PARTS:
        listed = ", ".join(names)
        raise DataError(f"{folder} has the folders {listed}; allowed: train and test, or one for each class")
    else:
        class_names, train, test = names, list(_files(folder, names)), []
    if len(class_names) < 2:
        raise DataError(f"{folder} has {len(class_names)} folder(s) of images; allowed: one for each class, at least 2")
    files = [*train, *test]
    is_grey = all(_mode(file) in ("L", "1", "LA", "I", "I;16", "I;16B", "I;16L") for file, _ in files)
    pixels = np.stack([_pixels(file, size, "L" if is_grey else "RGB") for file, _ in files])
    target = np.array([index for _, index in files])
    return _images(str(folder), pixels, target, class_names, n_test=len(test))


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, class_names: Sequence[str]) -> Iterator[tuple[Path, int]]:
    for index, name in enumerate(class_names):
        if not (folder / name).is_dir():
            continue
        files = sorted(file for file in (folder / name).rglob("*") if _is_shown(file, folder))
        if not files:
            raise DataError(f"{folder / name} has no images; allowed: {', '.join(SUFFIXES)}")
        yield from ((file, index) for file in files)


def _is_shown(file: Path, folder: Path) -> bool:
    """Whether a file is a picture, and neither hidden nor in a hidden folder (copies and previews of others)."""
    return file.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in file.relative_to(folder).parts)


def _mode(file: Path) -> str:
    mode: str = _opened(file, lambda image: image.mode)
    return mode


def _pixels(file: Path, size: int, mode: str) -> UInt8[np.ndarray, "C H W"]:
    pixels: np.ndarray = _opened(file, lambda image: _of_size(image, size, mode))
    return pixels


def _of_size(image: Any, size: int, mode: str) -> UInt8[np.ndarray, "C H W"]:
    """Upright, of one size and mode."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - it takes a while, and tables need it not

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ValueError("its pixels are floating-point numbers; allowed: 8 or 16 bits")
    if upright.mode.startswith("I"):  # 16 bits, which conversion would cut off at 255
        upright = Image.fromarray((np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    values = np.asarray(upright.convert(mode).resize((size, size), Image.Resampling.BILINEAR))
    channels_first: np.ndarray = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return channels_first


def _opened(file: Path, look: Callable[[Any], Any]) -> Any:
    """What a look at a picture gives."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - likewise

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return look(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{file} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file} is no image, or a broken one: {error}") from None
