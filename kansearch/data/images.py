"""Images and their classes: torchvision's sets, a folder of pictures, and scikit-learn's digits as images.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from kansearch.data.folders import files_left_out, is_hidden
from kansearch.errors import DataError
from kansearch.specs.base import Spec
from kansearch.specs.data import DEFAULT_IMAGE_SIZE, DataSpec, ImageShape
from kansearch.vision import cache_folder, import_torchvision

Pixels = UInt8[np.ndarray, "N C H W"] | Float32[np.ndarray, "N C H W"]
Classes = Int64[np.ndarray, "N"]

TORCHVISION_SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
"""Its class of each set."""

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".ico", ".icns", ".pcx", ".psd", ".qoi",
    ".sgi", ".dds", ".xbm", ".xpm",
)  # fmt: skip
"""Of pictures that Pillow reads by itself; it leaves others to programs (.eps), or knows no more than their names."""

PARTS = {"train", "val", "valid", "validation", "dev", "test"}
DIGITS_BRIGHTEST = 16

GREY = ("1", "L", "LA", "F")
"""Modes of Pillow that have one channel, beside those of whole numbers of 16 or 32 bits, which begin with I."""

DIM = 32
"""Pictures of 8 bits in which nothing is as bright are masks or counts: whole numbers would not survive resizing."""

BRIGHT = 2**15
"""Beside pictures of 8 bits, those of 16 must be as bright somewhere: then the whole range is theirs, too."""

EMPTY = 0.9
"""Share of a range of deep pictures above which a gap without any value leaves too little for the values beside it."""

FEW = 3
"""Values below which pictures are masks, whose gaps say nothing."""

MANY = 1_000_000
"""Pixels suffice to see which values there are."""

WHITE = 2**16 - 1
"""In pictures of 16 bits."""

T = TypeVar("T")

_OTHER_ORDER = "B" if sys.byteorder == "little" else "L"


@dataclass(frozen=True, eq=False)
class Images:
    """All images that have a class, not yet split.

    Attributes:
        source: The folder or the set, as a message begins.
        pixels: Whole numbers from 0 to 255 of pictures of 8 bits; of deeper ones the values that their files hold.
        target: Index of the class.
        class_names: In the order of their indices.
        n_test: So many at the end are the test rows of whoever made the set; 0 where there are none.
        content: SHA-256 of the raw data, in hex.
        left_out: Files of the folder that are no rows, counted by kind (`3 .txt, 1 hidden`); "" where there are none.
        warnings: What the author of a study should know of them.
    """

    source: str
    pixels: Pixels
    target: Classes
    class_names: tuple[str, ...]
    n_test: int
    content: str
    left_out: str = ""
    warnings: tuple[str, ...] = ()


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
    """The scale of the training images: of whatever range they show, however many bits their files have."""
    if pixels.dtype != np.uint8:
        channels = np.moveaxis(pixels, 1, 0)
        return PixelEncoder(
            means=tuple(float(channel.mean(dtype=np.float64)) for channel in channels),
            scales=tuple(float(channel.std(dtype=np.float64)) or 1.0 for channel in channels),
            height=pixels.shape[2],
            width=pixels.shape[3],
        )
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
    pixels, raw, remarks = _read([file for file, _ in files], folder, size)
    target = np.array([index for _, index in files])
    images = _images(str(folder), pixels, target, class_names, n_test=len(test))
    return replace(
        images,
        # Of pictures that are resized in floating point, whose last digits differ from machine to machine, their files.
        content=images.content if raw is None else hashlib.sha256(raw + target.tobytes()).hexdigest(),
        left_out=files_left_out(folder, {file for file, _ in files}),
        warnings=remarks,
    )


def image_size_of(files: Sequence[Path]) -> int:
    """Height and width, in pixels, that suit pictures of which some are looked at: 32, or 64 where most are larger."""
    step = max(1, len(files) // 50)
    sides = [_opened(file, lambda image: min(image.size)) for file in files[::step]]
    return 32 if statistics.median(sides) <= 48 else 64


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(Path(entry.name)))


def _files(folder: Path, class_names: Sequence[str]) -> Iterator[tuple[Path, int]]:
    for index, name in enumerate(class_names):
        if not (folder / name).is_dir():
            continue
        files = sorted(file for file in (folder / name).rglob("*") if _is_shown(file, folder))
        if not files:
            others = files_left_out(folder / name, set())
            but = f" but {others}" if others else ""
            raise DataError(f"{folder / name} has no images{but}; allowed: {', '.join(SUFFIXES)}")
        yield from ((file, index) for file in files)


def _is_shown(file: Path, folder: Path) -> bool:
    """Whether a file is a picture, and neither hidden nor in a hidden folder (copies and previews of others)."""
    return file.suffix.lower() in SUFFIXES and not is_hidden(file.relative_to(folder)) and not file.is_dir()


# --- pictures ---------------------------------------------------------------------------------------


class _Look(NamedTuple):
    """What a picture is, before it is read.

    Attributes:
        is_grey: Whether it has one channel, beside alpha.
        is_deep: Whether it has more than 8 bits in a channel.
        n_frames: Or pages.
    """

    is_grey: bool
    is_deep: bool
    n_frames: int


def _read(files: Sequence[Path], folder: Path, size: int) -> tuple[Pixels, bytes | None, tuple[str, ...]]:
    """The pixels of pictures; a digest of what their files hold, where the pixels are no whole numbers; and warnings.

    Raises:
        DataError: If a picture is broken, or all show one value everywhere, or bright is not the same in all of them.
    """
    looks = [_opened(file, _look) for file in files]
    mode = "L" if all(look.is_grey for look in looks) else "RGB"
    deep = [file for file, look in zip(files, looks, strict=True) if look.is_deep]
    raw = None
    remarks = []
    if len(deep) < len(files):
        read = [_opened(file, lambda image: _shallow(image, size, mode)) for file in files]
        pixels: Pixels = np.stack([values for values, _ in read])
        brightest = max(value for _, value in read)
        if deep and (highest := max(_opened(file, lambda image: _raw(image, mode).max()) for file in deep)) < BRIGHT:
            raise DataError(
                f"{folder}: {len(deep)} of {len(files)} pictures, such as {deep[0].relative_to(folder)}, have more "
                f"than 8 bits and no value above {highest:g}, so that they are black beside the others; allowed: "
                f"pictures of one depth, or a value of {BRIGHT:,} and more"
            )
        if not deep and 0 < brightest < DIM:
            remarks.append(f"data: the pictures have 8 bits and show no value above {brightest} of 255")
            pixels, raw, _ = _in_floating_point(files, size, mode)
    else:
        pixels, raw, seen = _in_floating_point(files, size, mode)
        remarks += _remarks_on_range(seen)
    remarks = [*_remarks_on_blank(files, folder, pixels), *remarks]
    if many := [file for file, look in zip(files, looks, strict=True) if look.n_frames > 1]:
        remarks.append(
            f"data: {len(many)} of {len(files)} pictures, such as {many[0].relative_to(folder)}, have more than one "
            "frame or page; the first one is read"
        )
    return pixels, raw, tuple(remarks)


def _remarks_on_blank(files: Sequence[Path], folder: Path, pixels: Pixels) -> Iterator[str]:
    """What there is to say of pictures that show the same everywhere.

    Raises:
        DataError: If all pictures show one and the same value.
    """
    corners = pixels[:, :, :1, :1]
    blank = (pixels == corners).all((1, 2, 3))
    if blank.all() and (corners == corners[0]).all():
        value = ", ".join(f"{number:g}" for number in corners[0].ravel())
        raise DataError(
            f"{folder}: every picture is {value} everywhere, with white where it is transparent; "
            "there is nothing to tell apart"
        )
    if blank.any():
        yield (
            f"data: {blank.sum()} of {len(files)} pictures, such as {files[blank.argmax()].relative_to(folder)}, show "
            "one value everywhere, with white where they are transparent"
        )


def _remarks_on_range(seen: np.ndarray) -> Iterator[str]:
    """What there is to say of the values of deep pictures, each once and rising."""
    gaps = np.diff(seen.astype(np.float64))
    if len(seen) >= FEW and gaps.max() > EMPTY * (seen[-1] - seen[0]):
        place = gaps.argmax()
        yield (
            f"data: no pixel lies between {seen[place]:g} and {seen[place + 1]:g}, and beside this gap the others look "
            "alike; where the values on one side of it stand for no value, give them one near the others"
        )


def _in_floating_point(
    files: Sequence[Path], size: int, mode: str
) -> tuple[Float32[np.ndarray, "N C H W"], bytes, np.ndarray]:
    """Pictures whose values are kept as they are; a digest of those in their files, and some of these, rising."""
    from PIL import Image  # noqa: PLC0415 - it takes a while, and tables need it not

    content = hashlib.sha256()
    n_seen = MANY // len(files) + 1
    seen: list[np.ndarray] = []

    def resized(image: Any) -> Float32[np.ndarray, "C H W"]:
        values = _raw(image, mode)
        content.update(f"{values.shape} {values.dtype.name} ".encode() + values.tobytes())
        some = values.reshape(-1)[:: values.size // n_seen + 1]
        seen.append(np.unique(np.append(some, [values.min(), values.max()])))
        channels = (Image.fromarray(channel.astype(np.float32)) for channel in values)
        return np.stack([np.asarray(c.resize((size, size), Image.Resampling.BILINEAR)) for c in channels])

    pixels = np.stack([_opened(file, resized) for file in files])
    return pixels, content.digest(), np.unique(np.concatenate(seen))


def _look(image: Any) -> _Look:
    bytes_apart = _of_two_bytes(image)
    n_frames = 1
    # Whoever's later frames are broken has a first one.
    with contextlib.suppress(OSError, EOFError, SyntaxError, ValueError):
        n_frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "TIFF", "WEBP", "PNG", "AVIF") else 1
    return _Look(
        is_grey=image.mode in GREY or image.mode.startswith("I") or bytes_apart == "LA",
        is_deep=image.mode == "F" or image.mode.startswith("I") or bytes_apart is not None,
        n_frames=n_frames,
    )


def _shallow(image: Any, size: int, mode: str) -> tuple[UInt8[np.ndarray, "C H W"], int]:
    """A picture of 8 bits, upright, on white, of one size and mode; and its largest value before it was resized."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - likewise

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ValueError("its pixels are floating-point numbers; beside pictures of 8 bits allowed: 8 or 16 bits")
    if upright.mode.startswith("I"):  # 16 bits, which conversion would cut off at 255
        upright = Image.fromarray((np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    whole = _on_white(upright).convert(mode)
    extrema = whole.getextrema()
    brightest = extrema[1] if mode == "L" else max(high for _, high in extrema)
    values = np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR))
    return (values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)), brightest


def _on_white(image: Any) -> Any:
    """A picture without transparent parts: what lies under them is no colour that anybody has seen."""
    from PIL import Image  # noqa: PLC0415 - likewise

    if not image.has_transparency_data:
        return image
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)


def _raw(image: Any, mode: str) -> np.ndarray:
    """The values of a picture, upright and on white, of shape (C, H, W); C is 1 or 3, as the mode has it.

    Raises:
        ValueError: If they are not all finite.
    """
    from PIL import ImageOps  # noqa: PLC0415 - likewise

    bytes_apart = _of_two_bytes(image)
    opaque = image.info.get("transparency") if bytes_apart != "LA" else None
    if bytes_apart is not None:
        values = _both_bytes(image, bytes_apart)
    elif image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(ImageOps.exif_transpose(image))[..., None]
    else:
        values = np.asarray(_on_white(ImageOps.exif_transpose(image)).convert(mode))
        return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    if not np.isfinite(values).all():
        raise ValueError("its pixels are not all finite numbers")
    if values.shape[-1] in (2, 4):
        alpha = values[..., -1:] / WHITE
        values = values[..., :-1] * alpha + WHITE * (1 - alpha)
    elif isinstance(opaque, int | tuple):
        values = np.where((values == np.array(opaque)).all(-1, keepdims=True), WHITE, values)
    channels = np.moveaxis(values, -1, 0)
    return np.repeat(channels, 3, axis=0) if mode == "RGB" and len(channels) == 1 else channels


def _of_two_bytes(image: Any) -> str | None:
    """The channels of a picture of which Pillow would read the upper 8 of 16 bits; None where it reads all."""
    tiles = getattr(image, "tile", ())
    layout = tiles[0].args if tiles else ""
    if isinstance(layout, tuple):
        layout = layout[0] if layout else ""
    channels, _, bits = str(layout).partition(";")
    return channels if channels in ("LA", "RGB", "RGBA", "RGBX") and bits in ("16B", "16L", "16N") else None


def _both_bytes(image: Any, channels: str) -> np.ndarray:
    """All 16 bits of a picture of several channels, upright, of shape (H, W, channels).

    Pillow reads one byte of the two, as the layout says. So the picture is read twice, once in the other order of
    bytes; grey with alpha has no other order, and is four bytes of something else.
    """
    # test_sixteen_bits_in_colour fails when Pillow keeps its layouts elsewhere, or reads all bits by itself.
    from PIL import Image, ImageOps  # noqa: PLC0415 - likewise

    file = image.filename or image.fp

    def read(layout: Callable[[str], str]) -> np.ndarray:
        with Image.open(file) as again:
            for place, tile in enumerate(again.tile):
                first, *rest = tile.args if isinstance(tile.args, tuple) else (str(tile.args),)
                again.tile[place] = tile._replace(args=(layout(first), *rest) if rest else layout(first))
            values: np.ndarray = np.asarray(ImageOps.exif_transpose(again)).astype(np.uint16)
        return values

    if channels == "LA":
        four = read(lambda _: "RGBA")
        return np.stack([four[..., place] << 8 | four[..., place + 1] for place in (0, 2)], axis=-1)
    upper = read(lambda layout: layout)
    lower = read(lambda layout: layout[:-1] + {"B": "L", "L": "B", "N": _OTHER_ORDER}[layout[-1]])
    n_channels = 4 if channels == "RGBA" else 3
    return np.stack([upper[..., place] << 8 | lower[..., place] for place in range(n_channels)], axis=-1)


def _opened(file: Path, look: Callable[[Any], T]) -> T:
    """What a look at a picture gives."""
    from PIL import Image  # noqa: PLC0415 - likewise

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which are not looked at
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return look(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{file} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller") from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - its many decoders fail in many ways
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file} is no image, or a broken one: {what}") from None
