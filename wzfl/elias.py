"""Elias gamma and omega coding of positive integers, whole arrays at a time.

Source: Elias, "Universal codeword sets and representations of the integers" (IEEE Trans. IT, 1975).
"""

from functools import lru_cache

import numpy as np

from wzfl.errors import PayloadError
from wzfl.kernels import elias as kernel

CODES = ("omega", "gamma")
LARGEST = 2**32 - 1


def code_lengths(numbers: np.ndarray, code: str) -> np.ndarray:
    """Bits that each of `numbers` `[count]`, 1 to `LARGEST`, takes."""
    return kernel.code_lengths(numbers.astype(np.uint64), code == "omega")


@lru_cache
def lengths_by_digits(code: str) -> np.ndarray:
    """int64 `[33]`: bits of numbers of as many binary digits; their codewords are of the same length."""
    return np.concatenate([[0], code_lengths(2 ** np.arange(32, dtype=np.uint64), code)])


def encode(numbers: np.ndarray, code: str) -> np.ndarray:
    """The codewords of `numbers` `[count]`, 1 to `LARGEST`, as one array of bits 0 and 1, uint8."""
    bits = np.empty(int(code_lengths(numbers, code).sum()), np.uint8)
    kernel.write(numbers.astype(np.uint64), code == "omega", bits)
    return bits


def decode(bits: np.ndarray, count: int, code: str) -> tuple[np.ndarray, int]:
    """The first `count` numbers, uint64, and how many of `bits` they took.

    Raises:
        PayloadError: the bits end before they do, or one is above `LARGEST`.
    """
    numbers = np.empty(count, np.uint64)
    known, end = kernel.read(bits, code == "omega", numbers)
    if known < count and end == len(bits):
        raise PayloadError(f"coded integers end after {known} of {count}")
    if known < count:
        raise PayloadError("a coded integer is damaged: it is too large, or ends too early")
    return numbers, end
