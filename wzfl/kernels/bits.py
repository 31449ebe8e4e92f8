"""Packs symbols of a few bits into bit planes, eight symbols at a time, and unpacks them."""

import numpy as np

from wzfl.kernels import compiled

# The lowest bit of each of eight bytes.
_LOWEST = np.uint64(0x0101010101010101)
# A factor that moves these bits into the top byte, the first to its highest bit.
_GATHER = np.uint64(0x8040201008040201)


def _spread() -> np.ndarray:
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return bits.reshape(-1).view(np.uint64)


# The bits of each byte as eight bytes, the highest bit first.
_SPREAD = _spread()


@compiled
def pack_row(symbols: np.ndarray, bits: int, out: np.ndarray) -> None:
    """Writes the planes of uint8 `symbols` `[count]` one after the other into zeroed uint8 `out`."""
    count = len(symbols)
    whole = count // 8
    words = symbols[: 8 * whole].view(np.uint64)
    for plane in range(bits):
        shift = plane * count % 8
        planes = out[plane * count // 8 :]
        for index in range(whole):
            octet = ((words[index] >> np.uint64(plane)) & _LOWEST) * _GATHER >> np.uint64(56)
            _put(planes, index, shift, octet)
        last = np.uint64(0)
        for index in range(8 * whole, count):
            bit = np.uint64((symbols[index] >> plane) & 1)
            last |= bit << np.uint64(7 - index % 8)
        if count % 8:
            _put(planes, whole, shift, last)


@compiled
def unpack_row(packed: np.ndarray, bits: int, symbols: np.ndarray) -> None:
    """The inverse of `pack_row`, into zeroed uint8 `symbols` `[count]`."""
    count = len(symbols)
    whole = count // 8
    words = symbols[: 8 * whole].view(np.uint64)
    for plane in range(bits):
        place, shift = np.uint64(plane), plane * count % 8
        planes = packed[plane * count // 8 :]
        if shift:
            left, right = np.uint64(shift), np.uint64(8 - shift)
            for index in range(whole):
                octet = np.uint64(planes[index]) << left | np.uint64(planes[index + 1]) >> right
                words[index] |= _SPREAD[octet & np.uint64(255)] << place
        else:
            for index in range(whole):
                words[index] |= _SPREAD[planes[index]] << place
        if count % 8:
            last = _last(planes, whole, shift)
            for index in range(8 * whole, count):
                symbols[index] |= ((last >> (7 - index % 8)) & 1) << plane


@compiled
def signs_row(packed: np.ndarray, out: np.ndarray) -> None:
    """Fills float32 `out` with -1 where a bit of `packed` is set and +1 elsewhere."""
    for index in range(len(out) // 8):
        octet = packed[index]
        for place in range(8):
            out[8 * index + place] = -1 if (octet >> (7 - place)) & 1 else 1
    for index in range(len(out) // 8 * 8, len(out)):
        out[index] = -1 if (packed[index // 8] >> (7 - index % 8)) & 1 else 1


@compiled
def _put(planes: np.ndarray, index: int, shift: int, octet: np.uint64) -> None:
    planes[index] |= np.uint8(octet >> np.uint64(shift))
    if shift and index + 1 < len(planes):
        planes[index + 1] |= np.uint8((octet << np.uint64(8 - shift)) & np.uint64(255))


@compiled
def _last(planes: np.ndarray, index: int, shift: int) -> int:
    """The octet at `index`, which may end where the planes do."""
    both = int(planes[index]) << 8
    if shift and index + 1 < len(planes):
        both |= int(planes[index + 1])
    return (both >> (8 - shift)) & 255
