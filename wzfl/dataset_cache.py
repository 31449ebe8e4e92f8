"""Data sets on disk as tensors, so that images are decoded once."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from platformdirs import user_cache_path
from torch import Tensor

from wzfl.tensor_file import load_tensors, save_tensors

_VERSION = 4  # of what is kept


def cached(
    name: str, root: Path, source: Path, split: Callable[[bool], tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Reads a data set from its cache, or decodes it, if what lies below `source` has changed since.

    The cache lies beside the data or, where that can not be written, in the user's cache folder.

    Args:
        name: the data set's, for the file's name.
        root: the folder of all data.
        source: the data set's own files.
        split: decodes images and labels, for training if it is true, else for testing.

    Returns:
        train_x and test_x as uint8, train_y and test_y as int32.
    """
    for folder in _folders(root):
        try:
            return load_tensors(_path(folder, name, source))[0]
        except OSError:
            continue  # absent, unreadable or damaged: it is made again
    tensors: dict[str, Tensor] = {}
    for part in ("train", "test"):
        x, y = split(part == "train")
        tensors |= {f"{part}_x": x.to(torch.uint8).contiguous(), f"{part}_y": y.to(torch.int32)}
    for folder in _folders(root):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_tensors(_path(folder, name, source), tensors, {})
            break
        except OSError:
            continue
    return tensors


def _folders(root: Path) -> list[Path]:
    """Where to look for a cache, and where to put it, in this order."""
    beside, users = root / ".wzfl_cache", user_cache_path("wzfl")
    # Permission bits, as the superuser may write everywhere but should not.
    writable = root.is_dir() and root.stat().st_mode & 0o222
    return [beside, users] if writable or beside.is_dir() else [users]


def _path(folder: Path, name: str, source: Path) -> Path:
    """A name that changes when a file below `source` is added, removed, resized or touched."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    listing = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    text = json.dumps([_VERSION, str(source.absolute()), listing])
    state = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return folder / f"{name}-{state}.safetensors"
