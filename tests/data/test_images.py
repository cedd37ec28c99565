"""Images: sets in torchvision's files, folders of pictures, and how they are split and encoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kansearch.data.images import load_images
from kansearch.data.splits import describe, load_split, load_test
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec
from kansearch.specs.trial import ModelSpec, TrainingSpec, TrialSpec
from kansearch.training.loop import train
from kansearch.vision import import_torchvision
from tests.images import N_CIFAR, N_TEST, N_TRAIN, idx, png16, tiff16, write_cifar10, write_mnist


@pytest.mark.parametrize(
    ("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_mnist_and_its_kin(name: str, kind: str, tmp_path: Path) -> None:
    """Files that are there are used; the last rows are the test rows of the set, the others train and validate."""
    pixels = write_mnist(tmp_path, kind)
    spec = DataSpec(name=name, folder=tmp_path, validation=0.25)
    split = load_split(spec)
    assert split.image_shape == split.inputs == (1, 28, 28)
    assert (split.n_train, split.n_validation, split.n_test, split.n_outputs) == (180, 60, N_TEST, 10)
    assert abs(split.train_x.mean()) < 1e-5
    assert abs(split.train_x.std(correction=0) - 1) < 1e-5
    raw = split.train_x * split.encoder.scales[0] + split.encoder.means[0]
    known = {row.tobytes() for row in pixels.reshape(N_TRAIN, -1)}
    assert all(row.round().to(torch.uint8).numpy().tobytes() in known for row in raw)
    assert len(load_test(spec).y) == N_TEST
    assert describe(spec, split) == f"{name}: 252 images of 28 x 28, 10 classes; 180 train, 60 validation, 12 test"


def test_the_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the files lie does not change what they are."""
    write_mnist(tmp_path / "a")
    write_mnist(tmp_path / "b")
    monkeypatch.setenv("KANSEARCH_DATA", str(tmp_path / "a"))
    assert load_split(DataSpec(name="mnist")).digest == load_split(DataSpec(name="mnist", folder=tmp_path / "b")).digest


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours come first, and a file with another checksum is not even opened: it is a pickle."""
    pixels, accept = write_cifar10(tmp_path)
    cifar = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(cifar, "download", lambda self: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(
        DataError, match=r"no whole files of it in .*cifar-10-batches-py, and they cannot be downloaded"
    ):
        load_images(DataSpec(name="cifar10", folder=tmp_path))
    accept(monkeypatch)
    images = load_images(DataSpec(name="cifar10", folder=tmp_path))
    assert images.class_names == ("airplane", "automobile", "bird")
    assert np.array_equal(images.pixels[:N_CIFAR].reshape(N_CIFAR, -1), pixels)
    assert load_split(DataSpec(name="cifar10", folder=tmp_path)).image_shape == (3, 32, 32)


def test_files_that_are_missing_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder where they should be, and why they cannot be downloaded."""
    mnist = import_torchvision().datasets.MNIST
    monkeypatch.setattr(mnist, "download", lambda self: (_ for _ in ()).throw(OSError("no network")))
    expected = rf"mnist: there are no whole files of it in {tmp_path}/MNIST/raw, .*\(no network\); put them there"
    with pytest.raises(DataError, match=expected):
        load_images(DataSpec(name="mnist", folder=tmp_path))
    write_mnist(tmp_path)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="no whole files of it"):
        load_images(DataSpec(name="mnist", folder=tmp_path))
    (tmp_path / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.full(N_TRAIN, 77)))
    write_mnist(tmp_path / "labels")
    (tmp_path / "labels/MNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.full(N_TRAIN, 77)))
    with pytest.raises(DataError, match="labels from 0 to 77; allowed: one for each image, from 0 to 9"):
        load_images(DataSpec(name="mnist", folder=tmp_path / "labels"))


def test_max_rows_bounds_training_and_validation(tmp_path: Path) -> None:
    """In the shares of the split; the test rows stay."""
    write_mnist(tmp_path)
    split = load_split(DataSpec(name="mnist", folder=tmp_path, max_rows=20))
    assert (split.n_train, split.n_validation, split.n_test) == (16, 4, N_TEST)


def write_pictures(folder: Path, n: int = 10, *, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> None:
    for index, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for place in range(n):
            colour = (40 * index + place) if mode == "L" else (200 * index + place, 10, place)
            Image.new(mode, size, colour).save(folder / name / f"{place}.png")


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    """A class a folder, brought to one size; a quarter and a fifth of all rows validate and test."""
    write_pictures(tmp_path / "pets")
    spec = DataSpec(path=tmp_path / "pets", image_size=8, validation=0.25)
    split = load_split(spec)
    assert split.image_shape == (3, 8, 8)
    assert split.class_names == ("cat", "dog")
    assert (split.n_train, split.n_validation, split.n_test) == (11, 5, 4)
    reds = split.train_x.view(-1, 3, 8, 8)[:, 0].mean((1, 2))
    assert reds[split.train_y == 1].min() > reds[split.train_y == 0].max()
    assert describe(spec, split).startswith("pets: 20 images of 8 x 8 in colour, 2 classes")


def test_a_folder_with_test_pictures_of_its_own(tmp_path: Path) -> None:
    """Grey pictures have one channel."""
    write_pictures(tmp_path / "train", 12, mode="L")
    write_pictures(tmp_path / "test", 3, mode="L")
    split = load_split(DataSpec(path=tmp_path))
    assert split.image_shape == (1, 32, 32)
    assert (split.n_train + split.n_validation, split.n_test) == (24, 6)


def test_broken_folders(tmp_path: Path) -> None:
    """Each mistake has one line that names the place."""

    def message(folder: Path) -> str:
        with pytest.raises(DataError) as caught:
            load_split(DataSpec(path=folder))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "nowhere does not exist; a folder of images has a folder for each class" in message(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "file is no folder" in message(tmp_path / "file")
    (tmp_path / "one/cat").mkdir(parents=True)
    assert "one/cat has no images; allowed: .png" in message(tmp_path / "one")
    Image.new("L", (4, 4)).save(tmp_path / "one/cat/a.png")
    assert "has 1 folder(s) of images; allowed: one for each class, at least 2" in message(tmp_path / "one")
    write_pictures(tmp_path / "pets")
    (tmp_path / "pets/dog/3.png").write_bytes(b"no picture")
    assert "pets/dog/3.png is no image, or a broken one" in message(tmp_path / "pets")
    whole = (tmp_path / "pets/dog/4.png").read_bytes()
    (tmp_path / "pets/dog/3.png").write_bytes(whole[: len(whole) // 2])
    assert "pets/dog/3.png is no image, or a broken one" in message(tmp_path / "pets")
    write_pictures(tmp_path / "both/train")
    write_pictures(tmp_path / "both/test")
    (tmp_path / "both/test/bird").mkdir()
    assert 'has the class "bird", which' in message(tmp_path / "both")


def test_digits_as_images() -> None:
    """Scikit-learn's digits, with the channel's mean and variance and not each pixel's."""
    split = load_split(DataSpec(name="digits_images"))
    assert split.image_shape == (1, 8, 8)
    assert split.train_x[:, 0].std() < 0.1  # a corner is always dark
    assert abs(split.train_x.mean()) < 1e-5
    assert len(set(split.feature_names)) == 64


def test_hidden_copies_and_other_layouts(tmp_path: Path) -> None:
    """Hidden files are not looked at, but counted; a layout with validation pictures is no set of classes."""
    write_pictures(tmp_path / "pets", 6)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name / ".previews").mkdir()
        Image.new("L", (5, 5)).save(tmp_path / "pets" / name / ".previews/0.png")
        (tmp_path / "pets" / name / "._0.png").write_bytes(b"of a file system")
    (tmp_path / "pets/__MACOSX/cat").mkdir(parents=True)
    (tmp_path / "pets/__MACOSX/cat/0.png").write_bytes(b"of an archive")
    images = load_images(DataSpec(path=tmp_path / "pets", image_size=4))
    assert images.pixels.shape == (12, 3, 4, 4)
    assert images.left_out == "5 hidden"
    for part in ("train", "val", "test"):
        write_pictures(tmp_path / "parts" / part)
    with pytest.raises(DataError, match="has the folders test, train, val; allowed: train and test, or one for each"):
        load_images(DataSpec(path=tmp_path / "parts"))


def write_shapes(folder: Path, draw: Callable[[np.ndarray], bytes | Image.Image], n: int = 12) -> DataSpec:
    """Upright and lying bars in two classes, drawn from masks of 0 and 1 in 12 x 12 pixels."""
    for name in ("lying", "upright"):
        (folder / name).mkdir(parents=True)
        for place in range(n):
            mask = np.zeros((12, 12), dtype=np.int64)
            mask[3 + place % 6, :] = 1
            drawn = draw(mask if name == "lying" else mask.T)
            if isinstance(drawn, bytes):
                (folder / name / f"{place}.png").write_bytes(drawn)
            else:
                drawn.save(
                    folder / name / f"{place}.tiff" if drawn.mode in ("F", "I") else folder / name / f"{place}.png"
                )
    return DataSpec(path=folder, image_size=6)


def accuracy(spec: DataSpec) -> float:
    """Of a small plain network after some epochs."""
    trial = TrialSpec(
        model=ModelSpec(family="mlp", width=8), training=TrainingSpec(epochs=40, learning_rate=0.02), rungs=(40,)
    )
    *_, last = train([trial], load_split(spec))
    return last.metrics["accuracy"]


def in_alpha(mask: np.ndarray) -> Image.Image:
    """Black, and the shape is what is not transparent."""
    return Image.merge("LA", [Image.new("L", mask.shape[::-1]), Image.fromarray((255 * mask).astype(np.uint8))])


@pytest.mark.parametrize(
    "draw",
    [
        in_alpha,
        lambda mask: in_alpha(mask).convert("RGBA"),
        lambda mask: Image.fromarray((250 * mask).astype(np.uint16)),
        lambda mask: Image.fromarray((1023 * mask).astype(np.int32)),
        lambda mask: Image.fromarray((60000 + 90 * mask).astype(np.uint16)),
        lambda mask: Image.fromarray((mask * 0.002 - 5).astype(np.float32)),
        lambda mask: Image.fromarray(mask.astype(np.uint8)),
        lambda mask: png16(np.stack([50 * mask, 200 * mask, 100 * mask], axis=-1)),
        lambda mask: png16(np.stack([0 * mask, 65535 * mask], axis=-1)),
        lambda mask: png16((300 * (1 + mask))[..., None], transparent=(300,)),
    ],
    ids=[
        "alpha-of-grey", "alpha-of-colours", "low-16", "low-32", "high-16", "float", "mask-of-8", "low-16-colours",
        "alpha-of-16", "transparent-value-of-16",
    ],
)  # fmt: skip
def test_shapes_are_seen_however_they_are_stored(
    draw: Callable[[np.ndarray], bytes | Image.Image], tmp_path: Path
) -> None:
    """In alpha on white; in deep files by the range that they show, low or high; without rounding them to black."""
    spec = write_shapes(tmp_path / "bars", draw)
    split = load_split(spec)
    assert abs(split.train_x.mean()) < 1e-3
    assert abs(split.train_x.std(correction=0) - 1) < 1e-3
    assert accuracy(spec) == 1


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_sixteen_bits_in_colour(n_channels: int, tmp_path: Path) -> None:
    """All bits are read, in any layout and order of bytes, and Pillow reads the upper 8 of them at most."""
    pixels = np.random.default_rng(0).integers(0, 1000, (8, 8, n_channels))
    if n_channels in (2, 4):
        pixels[..., -1] = 65535
    seen = pixels[..., : 1 if n_channels < 3 else 3]
    files = {"0.png": png16(pixels)}
    if n_channels == 3:
        files |= {f"{o}{c}.tif": tiff16(pixels, o, compressed=c) for o in "<>" for c in (True, False)}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
    images = load_images(DataSpec(path=tmp_path, image_size=8))
    assert len(images.pixels) == 2 * len(files)
    assert all(np.array_equal(picture, np.moveaxis(seen, -1, 0)) for picture in images.pixels)


def test_pictures_of_8_bits_are_what_they_were(tmp_path: Path) -> None:
    """Whatever has no transparent part and uses the range of 8 bits has the digest of the first release."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        colours = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        grey = Image.fromarray(random.integers(0, 256, (9, 7), dtype=np.uint8))
        for mode in ("RGB", "RGBA", "P", "L", "LA", "1"):
            (colours if mode in ("RGB", "P") else grey).convert(mode).save(tmp_path / name / f"{mode}.png")
    images = load_images(DataSpec(path=tmp_path, image_size=5))
    assert images.pixels.dtype == np.uint8
    assert images.content == "fbff681884cf2bf9345fed967ac28895ce8bfea1bc5aed915b00f4992927be57"
    assert images.warnings == ()
    assert images.left_out == ""


def test_colours_of_ink_and_what_is_under_transparent_parts(tmp_path: Path) -> None:
    """Red ink is red; a colour that is made transparent, by alpha, by a palette or by value, is white."""
    hidden = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 0, 0, 255])
    pictures = {
        "ink.jpg": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (254, 0, 0)),
        "alpha.png": (hidden, (255, 255, 255)),
        "half.png": (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204)),
        "palette.gif": (palette, (0, 0, 255)),
        "clear.gif": (palette, (255, 255, 255)),
        "value.png": (Image.new("RGB", (4, 4), (1, 2, 3)), (255, 255, 255)),
    }
    options = {"clear.gif": {"transparency": 1}, "value.png": {"transparency": (1, 2, 3)}}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file, (image, _) in pictures.items():
            image.save(tmp_path / name / file, **options.get(file, {}))
    images = load_images(DataSpec(path=tmp_path, image_size=4))
    expected = [colour for _, (_, colour) in sorted(pictures.items())]
    assert np.abs(images.pixels[: len(expected), :, 0, 0].astype(int) - expected).max() <= 2
    assert images.warnings[0].startswith("data: 12 of 12 pictures, such as a/alpha.png, show one value everywhere")


def test_pictures_that_show_nothing_are_refused(tmp_path: Path) -> None:
    """White shapes on a transparent ground are white on white; where one class is so, a warning says it."""
    white = lambda mask: Image.merge("LA", [Image.new("L", (12, 12), 255), in_alpha(mask).getchannel("A")])  # noqa: E731
    spec = write_shapes(tmp_path / "white", white)
    with pytest.raises(
        DataError, match="every picture is 255 everywhere, with white where it is transparent; there is"
    ):
        load_split(spec)
    black = write_shapes(tmp_path / "half", lambda mask: in_alpha(mask) if mask.all(axis=0).any() else white(mask))
    (warning,) = load_split(black).warnings
    assert warning.startswith("data: 12 of 24 pictures, such as lying/0.png, show one value everywhere")
    deep = write_shapes(tmp_path / "deep", lambda mask: Image.fromarray(np.full(mask.shape, 700, dtype=np.uint16)))
    with pytest.raises(DataError, match="every picture is 700 everywhere"):
        load_split(deep)


def test_depths_that_do_not_compare(tmp_path: Path) -> None:
    """Beside 8 bits, 16 bits must use their range; a few extreme values are named; what is no number is refused."""
    place = iter(range(100))

    def mixed(mask: np.ndarray, high: int) -> Image.Image:
        deep = next(place) % 2
        return Image.fromarray((high * mask).astype(np.uint16) if deep else (255 * mask).astype(np.uint8))

    low = write_shapes(tmp_path / "low", lambda mask: mixed(mask, 900))
    with pytest.raises(
        DataError, match=r"12 of 24 pictures, such as lying/.*, have more than 8 bits and no value above 9"
    ):
        load_split(low)
    high = load_images(write_shapes(tmp_path / "high", lambda mask: mixed(mask, 65535)))
    assert {picture.max() for picture in high.pixels[:2]} == {96}  # the share of a bar in its row after resizing

    def stretched(mask: np.ndarray) -> Image.Image:
        values = 200 * mask + np.arange(12)
        values[0, 0] = 65535
        return Image.fromarray(values.astype(np.uint16))

    (warning,) = load_split(write_shapes(tmp_path / "stretched", stretched)).warnings
    assert warning.startswith("data: no pixel lies between 211 and 65535, and beside this gap the others")
    empty = write_shapes(tmp_path / "nan", lambda mask: Image.fromarray(np.where(mask, np.nan, 0).astype(np.float32)))
    with pytest.raises(DataError, match=r"0\.tiff is no image, or a broken one: its pixels are not all finite numbers"):
        load_split(empty)


def test_files_that_are_no_pictures_are_counted_by_kind(tmp_path: Path) -> None:
    """Whatever Pillow reads is read, also under rarer suffixes; what is left out stands in the line of the data."""
    folder = tmp_path / "pets"
    write_pictures(folder)
    for place, suffix in enumerate([".JFIF", ".jpe", ".avif", ".tga", ".jp2", ".qoi"]):
        kind = {".JFIF": "JPEG", ".jpe": "JPEG"}.get(suffix)
        Image.new("RGB", (20, 12), (9 * place, 10, 0)).save(folder / "dog" / f"more{suffix}", kind)
    for name in (
        "cat/a.heic",
        "cat/b.HEIC",
        "cat/deep/c.heic",
        "cat/notes",
        "dog/.DS_Store",
        "labels.csv",
        "stray.png",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"something")
    moving = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    moving[0].save(folder / "cat/moving.gif", save_all=True, append_images=moving[1:])
    spec = DataSpec(path=folder, image_size=8)
    split = load_split(spec)
    assert split.n_train + split.n_validation + split.n_test == 27
    assert describe(spec, split).endswith("; files left out: 3 .heic, 1 .csv, 1 .png, 1 hidden, 1 without a suffix")
    assert split.warnings[-1] == (
        "data: 1 of 27 pictures, such as cat/moving.gif, have more than one frame or page; the first one is read"
    )
    for file in (folder / "cat").glob("*.png"):
        file.rename(file.with_suffix(".heic"))
    (folder / "cat/moving.gif").unlink()
    with pytest.raises(DataError, match=r"cat has no images but 13 \.heic, 1 without a suffix; allowed: \.png"):
        load_split(spec)


def test_photos_stand_upright(tmp_path: Path) -> None:
    """As their camera held them, also those of 16 bits, and with alpha."""
    for mode in ("L", "I;16", "RGBA"):
        for name in ("a", "b"):
            (tmp_path / mode / name).mkdir(parents=True)
            image = Image.new("L", (8, 8))
            image.paste(255, (0, 0, 8, 4))  # light above
            exif = image.getexif()
            exif[0x0112] = 3 if name == "b" else 1  # upside down
            image.convert(mode).save(tmp_path / mode / name / "0.png", exif=exif)
        pixels = load_images(DataSpec(path=tmp_path / mode, image_size=8)).pixels
        assert pixels[0, 0, 0, 0] > pixels[0, 0, -1, 0]
        assert pixels[1, 0, 0, 0] < pixels[1, 0, -1, 0]


@pytest.mark.parametrize("n_pixels", [400, 200])
def test_pictures_with_too_many_pixels_are_refused(
    n_pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, whether the library calls it a bomb or only warns."""
    write_pictures(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 240 * 100 // n_pixels)
    with pytest.raises(DataError, match=r"0\.png has more than .* pixels; make it smaller"):
        load_images(DataSpec(path=tmp_path))


def test_garbage_in_the_files_of_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And test images of another size."""
    mnist = import_torchvision().datasets.MNIST
    monkeypatch.setattr(mnist, "download", lambda self: (_ for _ in ()).throw(OSError("no network")))
    write_mnist(tmp_path)
    raw = tmp_path / "MNIST/raw"
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((N_TEST, 14, 14))))
    with pytest.raises(DataError, match=r"images of \(28, 28\) to train and of \(14, 14\) to test"):
        load_images(DataSpec(name="mnist", folder=tmp_path))
    (raw / "train-images-idx3-ubyte").write_bytes(b"garbage!" * 50)
    with pytest.raises(DataError, match="no whole files of it"):
        load_images(DataSpec(name="mnist", folder=tmp_path))
