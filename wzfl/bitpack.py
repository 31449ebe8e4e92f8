"""Integers of a few bits <-> bytes, for all clients at once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` symbols of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(symbols: Tensor, bits: int) -> list[bytes]:
    """One string per row of `symbols` `[clients, count]`, integers in [0, 2**bits).

    Bit planes, the lowest first, one after the other: a plane is contiguous, so packing runs at
    memory speed whatever the width. Within a byte the first symbol takes the highest bit.
    """
    values = symbols.to(torch.int32).cpu().numpy()
    planes = np.empty((bits, values.shape[1]), dtype=np.uint8)
    strings = []
    for row in values:
        for plane in range(bits):
            np.bitwise_and(row >> plane, 1, out=planes[plane], casting="unsafe")
        strings.append(np.packbits(planes.reshape(-1)).tobytes())
    return strings


def unpack(strings: Sequence[bytes | memoryview], bits: int, count: int) -> Tensor:
    """`[clients, count]` int32, the symbols that `pack` was given."""
    symbols = np.zeros((len(strings), count), dtype=np.int32)
    for row, string in zip(symbols, strings, strict=True):
        flat = np.unpackbits(np.frombuffer(string, dtype=np.uint8), count=count * bits)
        for plane, ones in enumerate(flat.reshape(bits, count)):
            row |= ones.astype(np.int32) << plane
    return torch.from_numpy(symbols)
