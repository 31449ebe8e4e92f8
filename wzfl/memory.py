"""Large strings of bytes, copied by torch: on all its threads at once, and without Python's lock."""

import ctypes
import warnings
from collections.abc import Iterable, Sequence

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


def new_string(size: int) -> bytes:
    """Not filled yet, which is for the caller to do before anyone else has it.

    Source: https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize
    """
    return _new_string(None, size)


def joined(rows: Iterable[Sequence[bytes | memoryview]]) -> list[bytes]:
    """Of each row its parts, one after the other."""
    strings, rooms, sources = list[bytes](), list[Tensor](), list[Tensor]()
    for row in rows:
        parts = [part for part in (memoryview(each) for each in row) if part.nbytes]
        sizes = [part.nbytes for part in parts]
        if sum(sizes) < _LARGE:
            strings.append(b"".join(parts))
            continue
        strings.append(new_string(sum(sizes)))
        rooms += as_tensor(strings[-1]).split_with_sizes(sizes)
        sources += map(as_tensor, parts)
    copy_all(rooms, sources)
    return strings


def copy_all(rooms: list[Tensor], sources: list[Tensor]) -> None:
    """Each source to its room, in one call: whoever returns to Python waits for its lock."""
    if rooms:
        torch._foreach_copy_(rooms, sources)
