"""Data sets, decoded once, cached as tensors, held on the training device."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wzfl.dataset_cache import cached
from wzfl.errors import InputError

_SECONDS_TO_CONNECT = 15.0
# MD5 of files that torchvision reads unchecked. It checks what it downloads, and CIFAR-10's always; of
# Fashion-MNIST none are published but those of the packed files.
_PUBLISHED = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as float32 `[n, channels, height, width]`, labels as int64 `[n]`, of 0 to classes - 1.

    Attributes:
        name: for figures and messages.
        classes: number of classes.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    def __post_init__(self) -> None:
        self._check("train", self.train_x, self.train_y)
        self._check("test", self.test_x, self.test_y)
        if self.test_x.shape[1:] != self.train_x.shape[1:]:
            raise InputError(
                f"data set {self.name}: test_x must hold images of one shape with train_x; got"
                f" {list(self.test_x.shape[1:])} and {list(self.train_x.shape[1:])}"
            )

    def _check(self, part: str, x: Tensor, y: Tensor) -> None:
        """Raises InputError where images, which are not read, and labels are not what they should be."""
        where = f"data set {self.name}: {part}"
        for name, values, expected in (("x", x, torch.float32), ("y", y, torch.int64)):
            got = values.dtype if isinstance(values, Tensor) else type(values).__name__
            if got != expected:
                raise InputError(
                    f"{where}_{name} must be a tensor of {expected}; got {got}; convert it, e.g. by"
                    f" torch.as_tensor({part}_{name}, dtype={expected})"
                )
        if x.ndim < 2 or y.ndim != 1 or not len(x) == len(y) > 0:
            raise InputError(
                f"{where}_x must be [n, channels, height, width] and {part}_y [n], n at least 1; got"
                f" {list(x.shape)} and {list(y.shape)}"
            )
        lowest, highest = int(y.min()), int(y.max())
        if not 0 <= lowest <= highest < self.classes:
            raise InputError(
                f"{where}_y must be 0 to {self.classes - 1}, as classes={self.classes}; got {lowest} to"
                f" {highest}"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train_x.shape[1:])


class DataMissing(InputError):
    """The data set is neither there nor could it be downloaded."""


def digits() -> Dataset:
    """Loads scikit-learn's 1 797 digits of 8x8, which need no download; every fifth is for testing."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images / 16).float().view(-1, 1, 8, 8)
    y = torch.from_numpy(labels).long()
    test = torch.arange(len(y)) % 5 == 0
    return Dataset("digits", x[~test], y[~test], x[test], y[test], classes=10)


def torchvision_dataset(
    name: str, cls: str, data_dir: str | Path, mean: Sequence[float], std: Sequence[float]
) -> Dataset:
    """Loads a data set of torchvision that takes `root, train, download`, such as MNIST or CIFAR10.

    Raises:
        DataMissing: it is not in `data_dir` and can not be downloaded.
        InputError: its files can not be read.
    """
    root = Path(data_dir)

    def split(train: bool) -> tuple[Tensor, Tensor]:
        import torchvision

        data = _open(getattr(torchvision.datasets, cls), name, root, train)
        _check_published(name, cls, root)
        images = torch.as_tensor(np.asarray(data.data))
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return images, torch.as_tensor(data.targets)

    return _finish(name, cached(name, root, _folder(root, cls), split), mean, std)


def image_folder(
    name: str, folder: str | None, data_dir: str | Path, mean: Sequence[float], std: Sequence[float]
) -> Dataset:
    """Loads a tree `data_dir/folder/{train,test}/<class>/<image>` of images of one size.

    Raises:
        DataMissing: the tree is not there.
        InputError: no folder is given, an image can not be read, or the classes of train and test differ.
    """
    if folder is None:
        raise InputError(
            "dataset.folder must say which images; got none: add dataset.folder=<name below data_dir>,"
            f" which is {data_dir}"
        )
    root = Path(data_dir)
    tree = root / folder
    for part in ("train", "test"):
        if not (tree / part).is_dir():
            raise DataMissing(
                f"data set {name}: no folder {tree / part}. Put an ImageFolder tree with train/ and"
                " test/ there, or set WZFL_DATA_DIR (or data_dir=...) to the folder that holds"
                f" {folder}/"
            )

    def split(train: bool) -> tuple[Tensor, Tensor]:
        from torchvision.datasets import ImageFolder
        from torchvision.datasets.folder import pil_loader

        def load(path: str) -> Tensor:
            with _naming(f"data set {name}: image {path} can not be read"):
                return torch.from_numpy(np.array(pil_loader(path))).permute(2, 0, 1)

        with _naming(f"data set {name}: {tree} is not an ImageFolder tree"):
            data = ImageFolder(str(tree / ("train" if train else "test")), loader=load)
            test_classes = ImageFolder(str(tree / "test")).classes
        if data.classes != test_classes:
            raise InputError(f"data set {name}: train/ and test/ of {tree} hold different classes")
        images, labels = zip(*data, strict=True)
        if len(shapes := {tuple(image.shape) for image in images}) > 1:
            raise InputError(f"data set {name}: images must be of one size; got {sorted(shapes)}")
        return torch.stack(images), torch.tensor(labels)

    return _finish(name, cached(name, root, tree, split), mean, std)


def to_device(data: Dataset, device: torch.device) -> Dataset:
    """Copies a data set to a device, if it is not there."""
    return replace(
        data,
        train_x=data.train_x.to(device),
        train_y=data.train_y.to(device),
        test_x=data.test_x.to(device),
        test_y=data.test_y.to(device),
    )


def _open(source: Callable[..., Any], name: str, root: Path, train: bool) -> Any:
    """Opens a data set of torchvision, and downloads what is absent."""
    try:
        return source(root=str(root), train=train, download=False)
    except RuntimeError as error:
        if "not found" not in str(error).lower():
            raise InputError(_corrupt(name, root, error)) from error
    except Exception as error:
        raise InputError(_corrupt(name, root, error)) from error
    _make_writable(root, name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_TO_CONNECT)
    try:
        return source(root=str(root), train=train, download=True)
    except Exception as error:  # torchvision raises whatever its mirrors' failures are
        raise DataMissing(
            f"data set {name}: not in {root.absolute()}, or damaged there, and the download failed"
            f" ({_short(error)})."
            " Put it there in torchvision's layout, or set WZFL_DATA_DIR (or data_dir=...) to a"
            " folder that has it"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _check_published(name: str, cls: str, root: Path) -> None:
    """Raises InputError where a file is not the one that was published."""
    for file, expected in _PUBLISHED.get(cls, {}).items():
        path = root / cls / "raw" / file
        got = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if got != expected:
            raise InputError(
                f"data set {name}: {path.absolute()} is not the published file, or damaged (got MD5 {got},"
                f" expected {expected}). Delete it to download it anew, or replace it"
            )


def _make_writable(root: Path, name: str) -> None:
    """Makes the folder that a download goes to, or says why there can be none."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable, why = os.access(root, os.W_OK), "permission denied"
    except OSError as error:
        writable, why = False, str(error.strerror)
    if not writable:
        raise DataMissing(
            f"data set {name}: not in {root.absolute()}, and that folder can not be written to download"
            f" it ({why}). Set WZFL_DATA_DIR (or data_dir=...) to a folder that has it or can be written"
        )


def _corrupt(name: str, root: Path, error: Exception) -> str:
    return (
        f"data set {name}: its files in {root.absolute()} can not be read ({_short(error)}); they are"
        " damaged or of another layout. Delete them to download them anew, or replace them"
    )


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turns any failure inside into an `InputError` that says what failed."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({_short(error)})") from error


def _finish(
    name: str, tensors: dict[str, Tensor], mean: Sequence[float], std: Sequence[float]
) -> Dataset:
    """Scales bytes to [0, 1], then normalises each channel."""
    channels = tensors["train_x"].shape[1]
    if not len(mean) == len(std) == channels or min(std) <= 0:
        raise InputError(
            f"dataset.mean and dataset.std must be {channels} numbers for data set {name}, std's above 0;"
            f" got {list(mean)} and {list(std)}"
        )
    shift, scale = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def images(part: str) -> Tensor:
        return (tensors[f"{part}_x"].float() / 255 - shift) / scale

    def labels(part: str) -> Tensor:
        return tensors[f"{part}_y"].long()

    classes = int(tensors["train_y"].max()) + 1
    return Dataset(
        name, images("train"), labels("train"), images("test"), labels("test"), classes=classes
    )


def _folder(root: Path, cls: str) -> Path:
    """Returns the folder below its root where torchvision keeps a data set."""
    return root / {"CIFAR10": "cifar-10-batches-py"}.get(cls, cls)
