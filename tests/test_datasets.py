import gzip
import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from wzfl import InputError, dataset_cache, datasets
from wzfl.datasets import DataMissing, digits, image_folder, to_device, torchvision_dataset

PLAIN = {"mean": [0.0], "std": [1.0]}
COLOUR = {"mean": [0.0] * 3, "std": [1.0] * 3}
REAL = os.environ.get("WZFL_DATA_DIR")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(dataset_cache, "user_cache_path", lambda name: tmp_path / "user-cache")


@pytest.fixture
def tree(tmp_path):
    """An ImageFolder tree: 2 classes, 3 training images and 1 test image each."""
    for part, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "data" / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((4, 4, 3), 100 * label + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "data"


def write_mnist(root, images, labels):
    """Files in MNIST's own format."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = np.array([0x803, len(images), 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, len(labels)], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return raw


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = (np.arange(12) % 10).astype(np.uint8)
    raw = write_mnist(tmp_path / "data", images, labels)
    published = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in raw.iterdir()}
    monkeypatch.setattr(datasets, "_PUBLISHED", {"MNIST": published})
    return tmp_path / "data", images, labels


def test_digits_need_no_file():
    data = digits()
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert data.test_x.shape == (360, 1, 8, 8)
    assert 0 <= data.train_x.min() < data.train_x.max() <= 1
    assert data.classes == 10
    assert data.input_shape == (1, 8, 8)
    assert to_device(data, torch.device("cpu")).train_y.equal(data.train_y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.double(), y), r"_x must be a tensor of torch.float32; got torch.float64"),
        (lambda x, y: ((255 * x).byte(), y), r"_x must be .*; got torch.uint8; convert it"),
        (lambda x, y: (x.numpy(), y), r"_x must be a tensor of torch.float32; got ndarray"),
        (lambda x, y: (x, y.int()), r"_y must be a tensor of torch.int64; got torch.int32"),
        (lambda x, y: (x, y.tolist()), r"_y must be a tensor of torch.int64; got list"),
        (
            lambda x, y: (x, y[:-1]),
            r"_x must be .* and (train|test)_y \[n\], n at least 1; got \[\d+, 1, 8, 8\]",
        ),
        (lambda x, y: (x, y[:, None]), r"_x must be .*, n at least 1; got .* and \[\d+, 1\]"),
        (lambda x, y: (x[:0], y[:0]), r"_x must be .* n at least 1; got \[0, 1, 8, 8\] and \[0\]"),
        (lambda x, y: (x, y + 1), r"_y must be 0 to 9, as classes=10; got 1 to 10"),
        (lambda x, y: (x, y - 1), r"_y must be 0 to 9, as classes=10; got -1 to 8"),
    ],
)
def test_what_is_no_data_set_is_refused(change, message):
    data = digits()
    for part in ("train", "test"):
        names = [f"{part}_x", f"{part}_y"]
        changed = change(*(getattr(data, name) for name in names))
        with pytest.raises(InputError, match=f"^data set digits: {part}{message}"):
            replace(data, **dict(zip(names, changed, strict=True)))


def test_images_for_training_and_testing_are_of_one_shape():
    data = digits()
    with pytest.raises(InputError, match=r"test_x must hold .* got \[1, 8, 4\] and \[1, 8, 8\]"):
        replace(data, test_x=data.test_x[..., :4])


def test_mnist_is_read_and_normalised(mnist):
    root, images, labels = mnist
    data = torchvision_dataset("mnist", "MNIST", root, mean=[0.5], std=[0.25])
    expected = (torch.from_numpy(images)[:, None] / 255 - 0.5) / 0.25
    torch.testing.assert_close(data.train_x, expected)
    assert data.train_y.tolist() == labels.tolist()


def test_an_image_folder_is_read(tree):
    data = image_folder("pets", "pets", tree, **COLOUR)
    assert data.train_x.shape == (6, 3, 4, 4)
    assert data.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train_x[4].unique().tolist() == [pytest.approx(101 / 255)]
    assert data.test_y.tolist() == [0, 1]


@pytest.mark.parametrize(
    "wrong", [{"mean": [0.0], "std": [1.0]}, {"mean": [0.0] * 3, "std": [1.0, 1.0, 0.0]}]
)
def test_means_and_deviations_are_one_per_channel(tree, wrong):
    with pytest.raises(InputError, match="must be 3 numbers for data set pets, std's above 0"):
        image_folder("pets", "pets", tree, **wrong)


def test_images_are_decoded_once(tree, monkeypatch):
    first = image_folder("pets", "pets", tree, **COLOUR)
    assert list((tree / ".wzfl_cache").glob("pets-*.safetensors"))
    monkeypatch.setattr("torchvision.datasets.folder.pil_loader", None)  # would fail if called
    assert image_folder("pets", "pets", tree, **COLOUR).train_x.equal(first.train_x)


def test_a_changed_source_is_decoded_again(tree):
    image_folder("pets", "pets", tree, **COLOUR)
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tree / "pets/train/cat/9.png")
    assert len(image_folder("pets", "pets", tree, **COLOUR).train_y) == 7


def test_more_classes_than_a_byte_tells_apart(tmp_path):
    names = [f"c{label:03}" for label in range(300)]
    for path in (tmp_path / part / name for part in ("many/train", "many/test") for name in names):
        path.mkdir(parents=True)
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path / "0.png")
    for _ in range(2):  # decoded, and from the cache
        data = image_folder("many", "many", tmp_path, **COLOUR)
        assert data.classes == 300
        assert data.test_y.tolist() == list(range(300))


def test_what_is_cached_does_without_torchvision(mnist, monkeypatch):
    root, _, _ = mnist
    data = torchvision_dataset("mnist", "MNIST", root, **PLAIN)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # to import it now fails
    again = torchvision_dataset("mnist", "MNIST", root, **PLAIN)
    torch.testing.assert_close(again.train_x, data.train_x, rtol=0, atol=0)


def test_a_damaged_cache_is_made_again(tree):
    image_folder("pets", "pets", tree, **COLOUR)
    (cache,) = (tree / ".wzfl_cache").glob("*.safetensors")
    cache.write_bytes(cache.read_bytes()[:50])
    assert len(image_folder("pets", "pets", tree, **COLOUR).train_y) == 6
    assert cache.stat().st_size > 50


def test_a_bit_flipped_in_the_cache_is_noticed(tree):
    first = image_folder("pets", "pets", tree, **COLOUR)
    (cache,) = (tree / ".wzfl_cache").glob("*.safetensors")
    whole = cache.read_bytes()
    cache.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = image_folder("pets", "pets", tree, **COLOUR)
    assert again.train_x.equal(first.train_x)
    assert again.train_y.equal(first.train_y)
    assert cache.read_bytes() == whole


@pytest.mark.parametrize("metadata", [{}, {"digest": "0123"}], ids=["none", "another"])
def test_a_cache_of_other_code_is_made_again(tree, metadata):
    first = image_folder("pets", "pets", tree, **COLOUR)
    (cache,) = (tree / ".wzfl_cache").glob("*.safetensors")
    whole = cache.read_bytes()
    save_file({"train_x": torch.zeros(2)}, cache, metadata)
    assert image_folder("pets", "pets", tree, **COLOUR).train_x.equal(first.train_x)
    assert cache.read_bytes() == whole


def test_where_the_data_is_read_only_the_user_s_cache_is_used(tree, tmp_path):
    tree.chmod(0o555)
    image_folder("pets", "pets", tree, **COLOUR)
    tree.chmod(0o755)
    assert not (tree / ".wzfl_cache").exists()
    assert list((tmp_path / "user-cache").glob("pets-*.safetensors"))


def test_where_nothing_can_be_written_the_data_is_used_all_the_same(tree, tmp_path, disk_of):
    with disk_of(100):
        assert len(image_folder("pets", "pets", tree, **COLOUR).train_y) == 6
    for folder in (tree / ".wzfl_cache", tmp_path / "user-cache"):
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("cls", ["MNIST", "FashionMNIST", "CIFAR10"])
def test_what_is_absent_and_not_downloadable_is_one_clear_error(tmp_path, cls):
    with pytest.raises(DataMissing, match=r"not in .*the download failed .*WZFL_DATA_DIR"):
        torchvision_dataset("some", cls, tmp_path / "nothing", **PLAIN)


def test_an_absent_folder_is_one_clear_error(tmp_path):
    with pytest.raises(DataMissing, match=r"no folder .*pets.train.*WZFL_DATA_DIR"):
        image_folder("pets", "pets", tmp_path, **COLOUR)


@pytest.mark.parametrize("keep", [0, 8, 5000])
def test_a_truncated_file_is_named_as_damaged(mnist, keep):
    root, _, _ = mnist
    images = root / "MNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"data set mnist: its files in .* can not be read"):
        torchvision_dataset("mnist", "MNIST", root, **PLAIN)


@pytest.mark.parametrize("part", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3"])
def test_a_bit_flipped_in_a_published_file_is_noticed(mnist, part):
    root, _, _ = mnist
    path = root / f"MNIST/raw/{part}-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{part}-ubyte is not the published file, or damaged"):
        torchvision_dataset("mnist", "MNIST", root, **PLAIN)
    assert not list(root.glob(".wzfl_cache/*"))


def test_a_partial_download_of_mnist_is_not_used(mnist):
    root, _, _ = mnist
    images = root / "MNIST/raw/train-images-idx3-ubyte"
    archive = gzip.compress(images.read_bytes())
    images.with_suffix(".gz").write_bytes(archive[: len(archive) // 2])
    images.unlink()
    with pytest.raises(DataMissing, match="or damaged there, and the download failed"):
        torchvision_dataset("mnist", "MNIST", root, **PLAIN)


def test_cifar10_whose_files_are_not_the_published_ones_is_not_used(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"broken off")
    with pytest.raises(DataMissing, match="or damaged there, and the download failed"):
        torchvision_dataset("cifar10", "CIFAR10", tmp_path, **COLOUR)


def test_a_damaged_image_is_named(tree):
    (tree / "pets/train/dog/1.png").write_bytes(b"\x89PNG nonsense")
    with pytest.raises(InputError, match=r"image .*dog.1\.png can not be read"):
        image_folder("pets", "pets", tree, **COLOUR)


def test_images_must_be_of_one_size(tree):
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(tree / "pets/train/cat/9.png")
    with pytest.raises(InputError, match="images must be of one size"):
        image_folder("pets", "pets", tree, **COLOUR)


def test_train_and_test_hold_the_same_classes(tree):
    shutil.copytree(tree / "pets/train/cat", tree / "pets/train/emu")
    with pytest.raises(InputError, match="hold different classes"):
        image_folder("pets", "pets", tree, **COLOUR)


@pytest.mark.skipif(not REAL, reason="WZFL_DATA_DIR is not set")
def test_real_mnist():
    datasets._check_published("mnist", "MNIST", Path(REAL))
    data = torchvision_dataset("mnist", "MNIST", Path(REAL), **PLAIN)
    assert data.train_x.shape == (60_000, 1, 28, 28)
    assert data.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    assert float(data.train_x.mean()) == pytest.approx(0.1307, abs=1e-4)
