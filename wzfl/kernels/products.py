"""Products of float32 matrices, one after the other, by the BLAS that scipy ships.

They serve training, not coding: unlike what other kernels give, these are not torch's numbers bit for bit.
"""

from typing import Any

import numpy as np
from llvmlite import binding
from numba import types
from numba.extending import get_cython_function_address

from wzfl.kernels import compiled

# By name, not by address, which would be another in the next process that loads what was compiled.
binding.add_symbol("wzfl_sgemm", get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))
_sgemm: Any = types.ExternalFunction("wzfl_sgemm", types.void(*[types.uintp] * 13))

# An address, bytes to the next matrix, floats to the next row, and 0; or to the next column, and 1.
Place = tuple[int, int, int, int]


@compiled
def add_products(
    count: int,
    sizes: tuple[int, int, int],
    left: Place,
    right: Place,
    out: Place,
    keep: float,
    scale: float,
) -> None:
    """`count` times, `out` becomes `keep` times itself plus `scale` times `left @ right`.

    Args:
        sizes: rows of `left`, its columns, columns of `right`.
        left: where the matrices are.
        right: the same.
        out: the same; rows in one piece.
    """
    rows, inner, columns = sizes
    # BLAS is Fortran's: all by reference, and to it our matrices are their transposes, right' left'. Of a
    # whole number it may read 32 bits only, the lower half, which on a little-endian machine come first.
    turned = np.array([ord("N"), ord("T")], dtype=np.uint8)
    whole = np.array([columns, rows, inner, right[2], left[2], out[2]], dtype=np.int64)
    factors = np.array([scale, keep], dtype=np.float32)
    for number in range(count):
        _sgemm(
            turned[right[3] :].ctypes.data,
            turned[left[3] :].ctypes.data,
            whole.ctypes.data,
            whole[1:].ctypes.data,
            whole[2:].ctypes.data,
            factors.ctypes.data,
            np.uint64(right[0] + number * right[1]),
            whole[3:].ctypes.data,
            np.uint64(left[0] + number * left[1]),
            whole[4:].ctypes.data,
            factors[1:].ctypes.data,
            np.uint64(out[0] + number * out[1]),
            whole[5:].ctypes.data,
        )
