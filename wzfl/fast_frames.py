"""Large payloads, written and read in one pass, with as many threads as they are worth.

They are those of `frame`: this is what to try first. None or False means that it can not be done here, is
not worth it, or that something is wrong, which the other way then says.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from wzfl.byte_strings import addresses, new_string
from wzfl.frame import CHECKSUM_BYTES, OVERHEAD_BYTES, header
from wzfl.host import Arrivals, to_host
from wzfl.kernels.frames import CAN_SUM, are_right, read_floats, write_floats, write_parts
from wzfl.threads import in_threads, runs

Result = TypeVar("Result")

_LARGE = 2**20  # bytes
_WORTH_A_THREAD = 2**21  # to copy and sum up; to wake it takes a tenth of that time
_WORTH_A_READER = 2**23  # to sum up alone


def framed_parts(
    bodies: Sequence[Sequence[bytes | memoryview]],
    codec: int,
    dim: int,
    agreed: Sequence[bytes],
    arrivals: Arrivals,
) -> list[bytes] | None:
    """One payload per body, which is in parts, some on their way; None if they are small."""
    rows = [[memoryview(part) for part in (header(codec, dim), *body)] for body in bodies]
    parts = [part for row in rows for part in row]
    lengths = np.array([part.nbytes for part in parts], np.int64)
    if not _are_large(int(lengths.sum())):
        return None
    last = np.array([0, *accumulate(map(len, rows))], np.int64)
    payloads = [new_string(sum(part.nbytes for part in row) + CHECKSUM_BYTES) for row in rows]
    places, rooms, (known, ends) = addresses(parts), addresses(payloads), _joined(agreed)

    def some(own: slice) -> None:
        for row in range(own.start, own.stop):
            arrivals.wait(row)
        bounds = slice(own.start, own.stop + 1)
        write_parts(places, lengths, last[bounds], known, ends[bounds], rooms[own])

    _in_shares(some, len(rows), int(lengths.sum()), _WORTH_A_THREAD)
    return payloads


def are_undamaged(payloads: Sequence[bytes], agreed: Sequence[bytes]) -> bool:
    """Whether all payloads, which are large, were made by encoders that agree."""
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    if not _are_large(int(lengths.sum())):
        return False
    places, (known, ends) = addresses(payloads), _joined(agreed)

    def some(own: slice) -> bool:
        return are_right(places[own], lengths[own], known, ends[own.start : own.stop + 1])

    return all(_in_shares(some, len(payloads), int(lengths.sum()), _WORTH_A_READER))


def framed_floats(
    vectors: Tensor, largest: float, codec: int, agreed: Sequence[bytes]
) -> list[bytes] | None:
    """One payload per row of float32 `vectors` `[rows, dim]`; None if a magnitude is above `largest`."""
    if not CAN_SUM:
        return None
    rows, dim = vectors.shape
    limit = np.float32(largest).view(np.uint32)
    values, start = to_host(vectors.contiguous()), np.frombuffer(header(codec, dim), np.uint8)
    payloads = [new_string(4 * dim + OVERHEAD_BYTES) for _ in range(rows)]
    rooms, (known, ends) = addresses(payloads), _joined(agreed)

    def some(own: slice) -> bool:
        bounds = ends[own.start : own.stop + 1]
        return write_floats(values[own], limit, start, known, bounds, rooms[own])

    return payloads if all(_in_shares(some, rows, values.nbytes, _WORTH_A_THREAD)) else None


def unframed_floats(
    payloads: Sequence[bytes], dim: int, agreed: Sequence[bytes], device: torch.device
) -> Tensor | None:
    """`[rows, dim]` from payloads of the right version, codec and dim; None if one is not right."""
    if not CAN_SUM or any(len(payload) != 4 * dim + OVERHEAD_BYTES for payload in payloads):
        return None
    vectors = torch.empty(len(payloads), dim, dtype=torch.float32, pin_memory=device.type == "cuda")
    values, places, (known, ends) = vectors.numpy(), addresses(payloads), _joined(agreed)
    first = len(header(0, dim))

    def some(own: slice) -> bool:
        return read_floats(places[own], first, known, ends[own.start : own.stop + 1], values[own])

    right = all(_in_shares(some, len(payloads), values.nbytes, _WORTH_A_THREAD))
    return vectors.to(device, non_blocking=True) if right else None


def _are_large(size: int) -> bool:
    return CAN_SUM and size >= _LARGE


def _in_shares(some: Callable[[slice], Result], rows: int, size: int, worth: int) -> list[Result]:
    """Results of `some` for shares of the rows, one thread for each `worth` of their `size` bytes."""
    shares = min(torch.get_num_threads(), max(1, size // worth))
    return in_threads(some, runs(rows, max(1, -(-rows // shares))))


def _joined(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The strings one after the other as uint8, and where each starts and ends."""
    ends = np.array([0, *accumulate(map(len, strings))], np.int64)
    return np.frombuffer(b"".join(strings), np.uint8), ends
