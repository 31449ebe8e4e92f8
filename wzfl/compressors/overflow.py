"""A checksum by which the decoder of a modulo quantizer notices that it lands in wrong blocks."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.special import ive
from torch import Tensor

from wzfl.compressors.modulo import SUMS
from wzfl.host import ask, numbers_to_device

CHECK_BYTES = SUMS  # a byte each
_FALSE_ALARM = 1e-6
# Overflows of a well planned check, at most: with more, its sums are as good as uniform modulo 256.
_MOST_OVERFLOWS = 100


class OverflowCheck:
    """Four sums, modulo 256, of the unwrapped indices' block numbers, every fourth one in each.

    The best modulo quantizers overflow now and then, so a checksum that must match would refuse good
    payloads. These sums differ between the two ends by the sums of the overflows, whose signs are
    random: the squared differences estimate the overflows' energy, whatever their distribution. A row
    fails when they exceed what a Gaussian residual of the planned scale leaves once in a million payloads.

    Source: the second-moment sketch of Alon, Matias, Szegedy (STOC 1996), with buckets as in Charikar,
    Chen, Farach-Colton (ICALP 2002).
    """

    def __init__(self) -> None:
        self._expected = 0.0
        self._sums: Tensor | None = None

    def add(self, covered: int, overflow: float, sums: Tensor) -> None:
        """Takes in the sums `[clients, 4]` of `covered` block numbers with E o**2 = `overflow` each."""
        self._expected += covered * overflow
        self._sums = sums if self._sums is None else self._sums + sums

    def ask(self) -> Callable[[], list[bytes]]:
        """Starts copying the sums to the host; calling the result gives `CHECK_BYTES` bytes per row."""
        assert self._sums is not None
        copied = ask(self._sums.remainder(256).to(torch.uint8))
        return lambda: [row.tobytes() for row in copied()]

    def differs(self, sent: Sequence[bytes | memoryview]) -> Tensor:
        """`[clients]` bool: whether the indices are not those that `sent` are the sums of."""
        assert self._sums is not None
        numbers = np.frombuffer(b"".join(sent), np.uint8).astype(np.float64)
        theirs = numbers_to_device(numbers.reshape(-1, CHECK_BYTES), self._sums.device)
        difference = (self._sums - theirs + 128).remainder(256) - 128
        return difference.square().sum(dim=1) > _threshold(self._expected)


def covered(count: int, overflow: float, at_once: int = 1) -> int:
    """How many of `count` symbols to take the sums of, where each is o blocks off, E o**2 = `overflow`."""
    return min(count, int(_MOST_OVERFLOWS / max(overflow, 1e-12)) // at_once * at_once)


@lru_cache
def _threshold(expected: float) -> int:
    """What the squared differences exceed in one of a million payloads with `expected` overflows.

    Overflows either way are Poisson, so their sums are Skellam distributed: k has the chance
    exp(-2 m) I_k(2 m), with m overflows either way expected (Skellam 1946).
    """
    if expected < 1e-9:
        return 0
    difference = np.arange(-127, 128)
    chance = ive(abs(difference), expected / CHECK_BYTES)
    squared = np.bincount(difference**2, weights=chance)
    size = 2 ** (CHECK_BYTES * 127**2).bit_length()  # more than squares add up to
    total = np.fft.irfft(np.fft.rfft(squared, size) ** CHECK_BYTES, size)
    exceeded = 1 - np.cumsum(total)
    return int(np.argmax(exceeded <= _FALSE_ALARM))
