"""Large strings of bytes, and how others than Python read and write them."""

import ctypes
import warnings

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


def new_string(size: int) -> bytes:
    """Not filled yet, which is for the caller to do before anyone else has it.

    Source: https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize
    """
    return _new_string(None, size)
