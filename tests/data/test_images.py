"""Images: sets in torchvision's files, folders of pictures, and how they are split and encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kansearch.data.images import load_images
from kansearch.data.splits import describe, load_split, load_test
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec
from kansearch.vision import import_torchvision
from tests.images import N_CIFAR, N_TEST, N_TRAIN, idx, write_cifar10, write_mnist


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


def test_sixteen_bits_hidden_copies_and_other_layouts(tmp_path: Path) -> None:
    """16 bits are scaled, hidden files not looked at, and a layout with validation pictures is no set of classes."""
    for name, low in (("dark", 1000), ("light", 40000)):
        (tmp_path / "deep" / name / ".previews").mkdir(parents=True)
        for place in range(6):
            pixels = np.full((5, 5), low + 300 * place, dtype=np.uint16)
            Image.fromarray(pixels).save(tmp_path / "deep" / name / f"{place}.png")
        Image.new("L", (5, 5)).save(tmp_path / "deep" / name / ".previews/0.png")
        (tmp_path / "deep" / name / "._0.png").write_bytes(b"of a file system")
    images = load_images(DataSpec(path=tmp_path / "deep", image_size=4))
    assert images.pixels.shape == (12, 1, 4, 4)
    assert images.pixels[:6].max() < 20
    assert images.pixels[6:].min() > 150
    for part in ("train", "val", "test"):
        write_pictures(tmp_path / "parts" / part)
    with pytest.raises(DataError, match="has the folders test, train, val; allowed: train and test, or one for each"):
        load_images(DataSpec(path=tmp_path / "parts"))
    (tmp_path / "float/a").mkdir(parents=True)
    (tmp_path / "float/b").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float" / name / "0.tiff")
    with pytest.raises(DataError, match="floating-point numbers; allowed: 8 or 16 bits"):
        load_images(DataSpec(path=tmp_path / "float"))


def test_photos_stand_upright(tmp_path: Path) -> None:
    """As their camera held them."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image = Image.new("L", (8, 8))
        image.paste(255, (0, 0, 8, 4))  # light above
        exif = image.getexif()
        exif[0x0112] = 3 if name == "b" else 1  # upside down
        image.save(tmp_path / name / "0.png", exif=exif)
    pixels = load_images(DataSpec(path=tmp_path, image_size=8)).pixels
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
