"""Tensors in a file that is there as a whole or not at all."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes beside, then renames, in the layout of safetensors.

    Raises:
        OSError: the file can not be written; one of that name that was there before still is.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), partial, dict(metadata))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error
    finally:
        partial.unlink(missing_ok=True)
