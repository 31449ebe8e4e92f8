"""Where strings of bytes are in memory, and room for new ones."""

import ctypes
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_new_string = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_string.argtypes, _new_string.restype = [ctypes.c_void_p, ctypes.c_ssize_t], ctypes.py_object

# Torch says so of every string once; nothing here writes to one that somebody else has.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")


def as_tensor(string: bytes | memoryview) -> Tensor:
    """`[bytes]` uint8: the string itself, to be read only."""
    return torch.from_numpy(np.frombuffer(string, np.uint8))


def addresses(strings: Sequence[bytes | memoryview | np.ndarray]) -> np.ndarray:
    """`[strings]` int64: addresses of the strings, good for as long as somebody holds them."""
    return np.array([np.frombuffer(string, np.uint8).ctypes.data for string in strings], np.int64)


def new_string(size: int) -> bytes:
    """A string of `size` bytes that the caller is to fill before anyone else has it.

    Source: https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize
    """
    return _new_string(None, size)
