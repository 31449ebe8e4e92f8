"""Frames (`wzfl.frame`) of large bodies, which pass the caches once, not once per operation.

The checksum is xxhash's own code, by the functions of https://github.com/Cyan4973/xxHash that Python's
module contains. No document of that module promises that they can be found there: see `CAN_SUM`.
"""

import ctypes
from importlib import import_module
from typing import Any

import numpy as np
from llvmlite import binding
from numba import types

from wzfl.kernels import IS_COMPILED, compiled
from wzfl.kernels.norms import largest

_STRIP = 4096  # floats, which stay in the first cache
_STRIP_BYTES = np.uint64(2**16)  # bytes, which stay in the second cache
_CHECKSUM_BYTES = 4
_INFINITE = np.uint32(0x7F800000)  # the bits of infinity; those of NaN are larger
_ADDRESS = types.uintp


def _function(name: str, result: Any, arguments: int) -> Any:
    """A function of a library, whose arguments are all addresses and sizes."""
    return types.ExternalFunction(name, result(*[_ADDRESS] * arguments))


_copy = _function("memcpy", _ADDRESS, 3)
_new_state = _function("XXH3_createState", _ADDRESS, 0)
_free_state = _function("XXH3_freeState", types.int32, 1)
_reset = _function("XXH3_64bits_reset", types.int32, 1)
_update = _function("XXH3_64bits_update", types.int32, 3)
_digest = _function("XXH3_64bits_digest", types.uint64, 1)
_OF_XXHASH = (_new_state, _free_state, _reset, _update, _digest)


def _are_found() -> bool:
    """Registers xxhash's functions by name, if they are there."""
    try:
        library = ctypes.CDLL(import_module("xxhash._xxhash").__file__)
        functions = {each.symbol: getattr(library, each.symbol) for each in _OF_XXHASH}
    except (AttributeError, ImportError, OSError):
        return False
    # Some builds have one that asks which vectors the processor has.
    name = _update.symbol
    functions[name] = getattr(library, f"{name}_dispatch", functions[name])
    for name, function in functions.items():
        binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return True


# Whether what follows can be called.
CAN_SUM = IS_COMPILED and _are_found()


@compiled
def write_floats(
    vectors: np.ndarray,
    limit: np.uint32,
    header: np.ndarray,
    agreed: np.ndarray,
    ends: np.ndarray,
    addresses: np.ndarray,
) -> bool:
    """Writes payloads of `vectors` float32 `[rows, dim]` to `addresses` `[rows]`.

    What is agreed about row i is `agreed[ends[i]:ends[i + 1]]` uint8. `limit` is the bits of a float32.

    Returns whether no magnitude is above it, without which payloads mean nothing.
    """
    state, highest = _new_state(), np.uint32(0)
    checksum = np.empty(1, np.uint32)
    for row in range(len(vectors)):
        bits, to = vectors[row].view(np.uint32), addresses[row]
        _copy(np.uint64(to), np.uint64(header.ctypes.data), np.uint64(len(header)))
        _reset(state)
        _update(state, np.uint64(to), np.uint64(len(header)))
        to += len(header)
        for start in range(0, len(bits), _STRIP):
            strip = bits[start : start + _STRIP]
            source, size = np.uint64(strip.ctypes.data), np.uint64(4 * len(strip))
            highest = max(highest, largest(strip))
            _copy(np.uint64(to), source, size)
            _update(state, source, size)
            to += 4 * len(strip)
        _close(state, agreed[ends[row] : ends[row + 1]], checksum)
        _copy(np.uint64(to), np.uint64(checksum.ctypes.data), np.uint64(_CHECKSUM_BYTES))
    _free_state(state)
    return bool(highest <= limit)


@compiled
def read_floats(
    payloads: np.ndarray,
    header: int,
    agreed: np.ndarray,
    ends: np.ndarray,
    vectors: np.ndarray,
) -> bool:
    """Fills `vectors` float32 `[rows, dim]` from payloads at addresses `[rows]`.

    Their headers take `header` bytes. Returns whether checksums are right, with what is agreed as
    in `write_floats`, and all is finite.
    """
    state, highest, right = _new_state(), np.uint32(0), True
    checksum, got = np.empty(1, np.uint32), np.empty(1, np.uint32)
    for row in range(len(vectors)):
        bits, place = vectors[row].view(np.uint32), payloads[row]
        _reset(state)
        _update(state, np.uint64(place), np.uint64(header))
        place += header
        for start in range(0, len(bits), _STRIP):
            strip = bits[start : start + _STRIP]
            to, size = np.uint64(strip.ctypes.data), np.uint64(4 * len(strip))
            _copy(to, np.uint64(place), size)
            _update(state, to, size)
            highest = max(highest, largest(strip))
            place += 4 * len(strip)
        _close(state, agreed[ends[row] : ends[row + 1]], checksum)
        _copy(np.uint64(got.ctypes.data), np.uint64(place), np.uint64(_CHECKSUM_BYTES))
        right = right and got[0] == checksum[0]
    _free_state(state)
    return bool(right and highest < _INFINITE)


@compiled
def write_parts(
    places: np.ndarray,
    sizes: np.ndarray,
    last: np.ndarray,
    agreed: np.ndarray,
    ends: np.ndarray,
    addresses: np.ndarray,
) -> None:
    """Writes payloads, headers included, to `addresses` `[rows]`.

    Row i has the parts from `last[i]` to before `last[i + 1]`, each of `sizes` bytes at an address of
    `places`; what is agreed is as in `write_floats`.
    """
    state, checksum = _new_state(), np.empty(1, np.uint32)
    for row in range(len(addresses)):
        to = np.uint64(addresses[row])
        _reset(state)
        for part in range(last[row], last[row + 1]):
            place, left = np.uint64(places[part]), np.uint64(sizes[part])
            while left > 0:
                size = min(left, _STRIP_BYTES)
                _copy(to, place, size)
                _update(state, to, size)
                to, place, left = to + size, place + size, left - size
        _close(state, agreed[ends[row] : ends[row + 1]], checksum)
        _copy(to, np.uint64(checksum.ctypes.data), np.uint64(_CHECKSUM_BYTES))
    _free_state(state)


@compiled
def are_right(
    payloads: np.ndarray, sizes: np.ndarray, agreed: np.ndarray, ends: np.ndarray
) -> bool:
    """Whether payloads of `sizes` bytes at addresses `[rows]` end in the right checksums.

    What is agreed is as in `write_floats`.
    """
    state, right = _new_state(), True
    checksum, got = np.empty(1, np.uint32), np.empty(1, np.uint32)
    for row in range(len(payloads)):
        place, size = np.uint64(payloads[row]), np.uint64(sizes[row] - _CHECKSUM_BYTES)
        _reset(state)
        _update(state, place, size)
        _close(state, agreed[ends[row] : ends[row + 1]], checksum)
        _copy(np.uint64(got.ctypes.data), place + size, np.uint64(_CHECKSUM_BYTES))
        right = right and got[0] == checksum[0]
    _free_state(state)
    return bool(right)


@compiled
def _close(state: int, agreed: np.ndarray, checksum: np.ndarray) -> None:
    """Writes the checksum to `checksum` `[1]`, once what is agreed is part of it."""
    _update(state, np.uint64(agreed.ctypes.data), np.uint64(len(agreed)))
    checksum[0] = np.uint32(_digest(state) & np.uint64(0xFFFFFFFF))
