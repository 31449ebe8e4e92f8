"""Loops compiled for one CPU core: numpy arrays in, results written into arrays that are passed in.

Each does what the torch code next to its caller does, in the same order of floating-point operations,
so that a CPU and a GPU send the same bytes; here a vector passes the caches once instead of once per
operation. They hold no lock, so threads run them side by side (see `wzfl.threads`).
"""

from collections.abc import Callable
from typing import Any

import numba

# If False, Python itself runs the loops, which can then call nothing but Python.
IS_COMPILED = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles `function` at its first call, and keeps the result on disk where a cache can be written.

    Floating point stays IEEE: nothing is reordered or contracted.
    """
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable place for a cache
        return numba.njit(nogil=True, error_model="numpy")(function)
