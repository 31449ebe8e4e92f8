"""Payloads that carry whole float32 vectors, written and read in one pass.

They are those of `frame`: this is what to try first. None means that it can not be done here, or that
something is wrong, which the other way then says.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from wzfl.frame import OVERHEAD_BYTES, header
from wzfl.kernels.float_frames import CAN_SUM, read, write
from wzfl.memory import new_string
from wzfl.threads import in_threads, runs


def framed_floats(vectors: Tensor, codec: int, agreed: Sequence[bytes]) -> list[bytes] | None:
    """One payload per row of `vectors` `[rows, dim]`; None if a value is not finite."""
    if not CAN_SUM or not vectors.is_cpu:
        return None
    rows, dim = vectors.shape
    values, start = vectors.contiguous().numpy(), np.frombuffer(header(codec, dim), np.uint8)
    payloads = [new_string(4 * dim + OVERHEAD_BYTES) for _ in range(rows)]
    rooms, (known, ends) = _addresses(payloads), _joined(agreed)

    def some(own: slice) -> bool:
        return write(values[own], start, known, ends[own.start : own.stop + 1], rooms[own])

    return payloads if _all_of(some, rows) else None


def unframed_floats(payloads: Sequence[bytes], dim: int, agreed: Sequence[bytes]) -> Tensor | None:
    """`[rows, dim]` from payloads of the right version, codec and dim; None if one is not right."""
    if not CAN_SUM or any(len(payload) != 4 * dim + OVERHEAD_BYTES for payload in payloads):
        return None
    vectors = torch.empty(len(payloads), dim)
    values, places, (known, ends) = vectors.numpy(), _addresses(payloads), _joined(agreed)
    first = len(header(0, dim))

    def some(own: slice) -> bool:
        return read(places[own], first, known, ends[own.start : own.stop + 1], values[own])

    return vectors if _all_of(some, len(payloads)) else None


def _all_of(some: Callable[[slice], bool], rows: int) -> bool:
    """Whether it is so of all rows, each thread with its share."""
    return all(in_threads(some, runs(rows, max(1, -(-rows // torch.get_num_threads())))))


def _addresses(strings: Sequence[bytes]) -> np.ndarray:
    """Where they are, for as long as somebody has them."""
    return np.array([np.frombuffer(string, np.uint8).ctypes.data for string in strings], np.int64)


def _joined(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """One after the other, and where each starts and ends."""
    ends = np.array([0, *accumulate(map(len, strings))], np.int64)
    return np.frombuffer(b"".join(strings), np.uint8), ends
