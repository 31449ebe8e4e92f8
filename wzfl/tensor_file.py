"""Files of tensors, in the layout of safetensors, that notice when they were damaged."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wzfl.replacing import replacing

_DIGEST = "digest"  # the key of the metadata that holds it


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes contiguous tensors on the CPU, with metadata and a digest of both.

    Raises:
        OSError: the file can not be written; one of that name that was there before still is.
    """
    described = dict(metadata) | {_DIGEST: _digest(tensors, metadata)}
    try:
        with replacing(path) as partial:
            save_file(dict(tensors), partial, described)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads the tensors and the metadata that `save_tensors` has written.

    Raises:
        OSError: the file is absent, damaged, or written by other code.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies begin where tensors usually do: sums depend on how they lie in memory.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise OSError(str(error)) from error
    if metadata.pop(_DIGEST, None) != _digest(tensors, metadata):
        raise OSError("its contents do not match its digest: damaged, or written by other code")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = xxhash.xxh3_128(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
