"""Large strings of bytes, copied by torch: on all its threads at once, and without Python's lock."""

import ctypes
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LARGE = 2**18

_new_string = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_string.argtypes, _new_string.restype = [ctypes.c_void_p, ctypes.c_ssize_t], ctypes.py_object

# Torch says so of every string once; nothing here writes to one that somebody else has.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


def as_tensor(string: bytes | memoryview) -> Tensor:
    """`[bytes]` uint8: the string itself, to be read only."""
    return torch.from_numpy(np.frombuffer(string, np.uint8))


def joined(parts: Sequence[bytes | memoryview]) -> bytes:
    """The parts one after the other."""
    sizes = [memoryview(part).nbytes for part in parts]
    if sum(sizes) < _LARGE:
        return b"".join(parts)
    # Without a source it is not filled yet, which is for us to do before anyone else has it:
    # https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize
    whole: bytes = _new_string(None, sum(sizes))
    for part, room in zip(parts, as_tensor(whole).split(sizes), strict=True):
        if len(room):
            room.copy_(as_tensor(part))
    return whole
