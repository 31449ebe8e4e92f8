"""Integers of a few bits <-> bytes, for all clients at once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wzfl import gpu
from wzfl.host import Arrivals, to_device, to_host
from wzfl.kernels.bits import pack_row, signs_row, unpack_row

_CPU = torch.device("cpu")


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` symbols of `bits` bits take."""
    return (count * bits + 7) // 8


def pack(symbols: Tensor, bits: int, arrivals: Arrivals | None = None) -> list[memoryview]:
    """One string per row of `symbols` `[clients, count]`, integers in [0, 2**bits), bits up to 16.

    Bit planes, the lowest first, one after the other: a plane is contiguous, so packing runs at
    memory speed whatever the width. Within a byte the first symbol takes the highest bit. Strings that a
    GPU makes may still be on their way, if there are `arrivals` to wait for them with.
    """
    if bits > 8:
        symbols = symbols.to(torch.int32)
        both = zip(pack(symbols & 255, 8), pack(symbols >> 8, bits - 8), strict=True)
        return [memoryview(b"".join(planes)) for planes in both]
    symbols = symbols.to(torch.uint8)
    if gpu.is_usable(symbols.device, symbols.shape[1]):
        from wzfl.gpu import bits as on_gpu

        packed = on_gpu.pack(symbols, bits)
        strings = to_host(packed) if arrivals is None else arrivals.start(packed)
        return [string.data for string in strings]
    rows = np.ascontiguousarray(symbols.cpu().numpy())
    strings = np.zeros((len(rows), packed_size(rows.shape[1], bits)), dtype=np.uint8)
    for row, string in zip(rows, strings, strict=True):
        pack_row(row, bits, string)
    return [string.data for string in strings]


def unpack(
    strings: Sequence[bytes | memoryview], bits: int, count: int, device: torch.device = _CPU
) -> Tensor:
    """`[clients, count]`, the symbols that `pack` was given; uint8 up to 8 bits, else int32."""
    if bits > 8:
        low = unpack([string[:count] for string in strings], 8, count, device)
        high = unpack([string[count:] for string in strings], bits - 8, count, device)
        return low + 256 * high.int()
    if gpu.is_usable(device, count):
        from wzfl.gpu import bits as on_gpu

        return on_gpu.unpack(to_device(strings, device), bits, count)
    symbols = np.zeros((len(strings), count), dtype=np.uint8)
    for row, string in zip(symbols, strings, strict=True):
        unpack_row(np.frombuffer(string, dtype=np.uint8), bits, row)
    return torch.from_numpy(symbols).to(device)


def pack_signs(values: Tensor) -> list[memoryview]:
    """One string per row of `values` `[clients, count]`: a bit each, 1 where it is below 0."""
    if not values.is_cpu:
        return pack(values < 0, 1)
    return [string.data for string in np.packbits((values < 0).contiguous().numpy(), axis=1)]


def unpack_signs(
    strings: Sequence[bytes | memoryview], count: int, device: torch.device = _CPU
) -> Tensor:
    """`[clients, count]` float32: -1 for 1, and 1 for 0."""
    if device.type != "cpu":
        return 1 - 2 * unpack(strings, 1, count, device).float()
    signs = torch.empty(len(strings), count, dtype=torch.float32)
    for row, string in zip(signs.numpy(), strings, strict=True):
        signs_row(np.frombuffer(string, dtype=np.uint8), row)
    return signs
