"""Large strings of bytes, copied by torch: on all its threads at once, and without Python's lock."""

import ctypes
import sys
import warnings

import numpy as np
import torch
from torch import Tensor

_LARGE = 2**18
_CPYTHON = sys.implementation.name == "cpython"

_new_string = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_string.argtypes, _new_string.restype = [ctypes.c_void_p, ctypes.c_ssize_t], ctypes.py_object

# Torch says so of every string once; nothing here writes to one that somebody else has.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


def as_tensor(string: bytes | memoryview) -> Tensor:
    """`[bytes]` uint8: the string itself, to be read only."""
    return torch.from_numpy(np.frombuffer(string, np.uint8))


class NewString:
    """A string of `size` bytes, written from its front."""

    def __init__(self, size: int) -> None:
        self._parts: list[bytes | memoryview] = []
        self._room = self._whole = None
        if size >= _LARGE and torch.get_num_threads() > 1 and _CPYTHON:
            # Without a source it is not filled yet, which is for us to do before anyone else has it:
            # https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize
            self._whole = _new_string(None, size)
            self._room = as_tensor(self._whole)

    def write(self, *parts: bytes | memoryview) -> None:
        if self._room is None:
            self._parts += parts
            return
        for part in parts:
            size = memoryview(part).nbytes
            if size:
                self._room[:size] = as_tensor(part)
            self._room = self._room[size:]

    def done(self) -> bytes:
        """The string, of which nothing is left to write."""
        return b"".join(self._parts) if self._whole is None else self._whole
