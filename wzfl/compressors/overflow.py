"""A checksum by which the decoder of a modulo quantizer notices that it lands in wrong blocks."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.signal import fftconvolve
from scipy.stats import skellam
from torch import Tensor

CHECK_BYTES = 4  # one sum each, modulo 256
_FALSE_ALARM = 1e-6
# Of a check whose sums, uniform modulo 256, still differ from a well planned one's.
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

    def __init__(self, overflow: Mapping[int, float]) -> None:
        """`overflow`: E o**2 per coordinate by bits per symbol, o blocks off at the planned scale."""
        self._overflow = overflow
        self._expected = 0.0
        self._sums: Tensor | None = None

    def add(self, bits: int, blocks: Tensor) -> None:
        """Takes in block numbers `[clients, count]` of symbols of `bits` bits, float64 integers."""
        covered = min(blocks.shape[1], int(_MOST_OVERFLOWS / max(self._overflow[bits], 1e-12)))
        self._expected += covered * self._overflow[bits]
        blocks = blocks[:, :covered]
        blocks = blocks - torch.floor(blocks * 2.0**-8) * 2.0**8
        padded = torch.nn.functional.pad(blocks, (0, -covered % CHECK_BYTES))
        sums = padded.view(len(blocks), -1, CHECK_BYTES).sum(dim=1)
        self._sums = sums if self._sums is None else self._sums + sums

    def to_bytes(self) -> list[bytes]:
        """`CHECK_BYTES` bytes per row."""
        assert self._sums is not None
        return [row.tobytes() for row in self._sums.remainder(256).to(torch.uint8).cpu().numpy()]

    def differs(self, sent: Sequence[bytes | memoryview]) -> Tensor:
        """`[clients]` bool: whether the indices are not those that `sent` are the sums of."""
        assert self._sums is not None
        theirs = torch.frombuffer(bytearray(b"".join(sent)), dtype=torch.uint8)
        theirs = theirs.view(-1, CHECK_BYTES).to(self._sums)
        difference = (self._sums - theirs + 128).remainder(256) - 128
        return difference.square().sum(dim=1) > _threshold(self._expected)


@lru_cache
def _threshold(expected: float) -> int:
    """What the squared differences exceed in one of a million payloads with `expected` overflows.

    Overflows either way are Poisson, so their sums are Skellam distributed.
    """
    if expected < 1e-9:
        return 0
    difference = np.arange(-127, 128)
    chance = skellam.pmf(difference, *[expected / CHECK_BYTES / 2] * 2)
    squared = np.bincount(difference**2, weights=chance)
    total = squared
    for _ in range(CHECK_BYTES - 1):
        total = fftconvolve(total, squared)
    exceeded = 1 - np.cumsum(total)
    return int(np.argmax(exceeded <= _FALSE_ALARM))
