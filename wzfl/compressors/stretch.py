"""By what factor a client stretches the cells that were planned for it.

Updates of small batches are some rounds a third larger than in others, in all coordinates. A client knows,
the server does not, and a byte tells it.
"""

import numpy as np

from wzfl.kernels import density as kernel
from wzfl.kernels.density import BINS, EDGES

_PER_OCTAVE = 32
_STEPS = np.arange(-128, 128)  # an int8
_MIDDLES = (EDGES[:-1] + EDGES[1:]) / 2


def factor(step: int) -> float:
    """The factor of a step: 2 to the power of `step` / 32."""
    return float(2.0 ** (step / _PER_OCTAVE))


def level(values: np.ndarray, cell: float) -> float:
    """Mean of log2(1 + (value / cell)^2), about the bits that float32 `values` take.

    Squares: values within a cell, of which the server knows little, hardly count.
    """
    return float(_levels(values, cell, np.zeros(1))[0])


def step_for(values: np.ndarray, cell: float, wanted: float) -> int:
    """The smallest step by which stretched cells bring the `level` of `values` down to `wanted`."""
    # Levels fall from step to step.
    fits = _levels(values, cell, _STEPS) <= wanted
    return int(_STEPS[np.argmax(fits)] if fits.any() else _STEPS[-1])


def _levels(values: np.ndarray, cell: float, steps: np.ndarray) -> np.ndarray:
    """`[steps]`: the `level` of `values` in cells that are stretched by each of `steps`."""
    bins = np.empty(len(values), np.uint8)
    kernel.bin_numbers(np.abs(values), 1 / cell, bins)
    shares = np.bincount(bins, minlength=BINS) / len(values)
    return np.log2(1 + (_MIDDLES * 2.0 ** (-steps[:, None] / _PER_OCTAVE)) ** 2) @ shares
