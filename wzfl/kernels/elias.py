"""How many bits rounded magnitudes take, Elias coded."""

import numpy as np

from wzfl.kernels import compiled


@compiled
def coded_bits(
    magnitudes: np.ndarray, step: float, noise: np.ndarray, largest: int, lengths: np.ndarray
) -> tuple[int, int]:
    """Of the levels floor(magnitude / step + noise): of the nonzero ones and the gaps before them; of all.

    float64 `magnitudes`, none of which goes beyond level `largest`; codewords' int64 `lengths` by a
    number's binary digits. Every nonzero level takes another bit, its sign. All are coded plus 1.
    """
    sparse = dense = 0
    before = -1
    for index in range(len(magnitudes)):
        level = int(np.floor(min(magnitudes[index] / step, float(largest)) + noise[index]))
        dense += lengths[_digits(level + 1)]
        if level:
            sparse += 1 + lengths[_digits(level)] + lengths[_digits(index - before)]
            dense += 1
            before = index
    return sparse, dense


@compiled
def _digits(number: int) -> int:
    """Binary digits of a positive integer below 2**53."""
    return int(np.float64(number).view(np.int64) >> 52) - 1022
