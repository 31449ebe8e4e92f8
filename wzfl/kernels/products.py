"""Products of float32 matrices, one after the other, by the BLAS that scipy ships.

They serve training, not coding: unlike the results of other kernels, these are not torch's bit for bit.
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


# OpenBLAS copies large matrices into an order of its own first, which does not pay where few rows or columns
# are multiplied. These are taken piece by piece, each so small that it is read where it lies. The limits are
# OpenBLAS's, kernel/x86_64/sgemm_small_kernel_permit_skylakex.c: of multiplications, and of numbers in the
# result if sums run along the rows of both matrices.
_MULTIPLICATIONS, _RESULTS = 1_000_000, 1200
FEW = 32


@compiled
def baddbmm(
    count: int,
    sizes: tuple[int, int, int],
    left: Place,
    right: Place,
    out: Place,
    beta: float,
    alpha: float,
) -> None:
    """`out` becomes `beta` times itself plus `alpha` times `left @ right`, for `count` matrices each.

    Args:
        sizes: rows of `left`, its columns, columns of `right`.
        left: where its matrices are.
        right: where its matrices are.
        out: where its matrices are; their rows are each in one piece.
    """
    rows, inner, columns = sizes
    along_rows = right[3] == 1 and left[3] == 0
    height = _piece(rows, columns, inner, along_rows, left[3]) if columns <= FEW else rows
    width = _piece(columns, rows, inner, along_rows, 1 - right[3]) if rows <= FEW else columns
    # BLAS is Fortran's: all by reference, and to it our matrices are their transposes, right' left'. Of a
    # whole number it may read 32 bits only, the lower half, which on a little-endian machine come first.
    transposed = np.array([ord("N"), ord("T")], dtype=np.uint8)  # no, yes
    whole = np.array([columns, rows, inner, right[2], left[2], out[2]], dtype=np.int64)
    factors = np.array([alpha, beta], dtype=np.float32)
    for number in range(count):
        for row in range(0, rows, height):
            whole[1] = min(height, rows - row)
            for column in range(0, columns, width):
                whole[0] = min(width, columns - column)
                _sgemm(
                    transposed[right[3] :].ctypes.data,
                    transposed[left[3] :].ctypes.data,
                    whole.ctypes.data,
                    whole[1:].ctypes.data,
                    whole[2:].ctypes.data,
                    factors.ctypes.data,
                    _address(right, number, 0, column),
                    whole[3:].ctypes.data,
                    _address(left, number, row, 0),
                    whole[4:].ctypes.data,
                    factors[1:].ctypes.data,
                    _address(out, number, row, column),
                    whole[5:].ctypes.data,
                )


@compiled
def _piece(many: int, few: int, inner: int, along_rows: bool, apart: int) -> int:
    """How many of `many` rows or columns are multiplied at once.

    The floats of each lie side by side, or `apart`: then a piece is to fill lines of the cache.
    """
    most = _MULTIPLICATIONS // (few * inner)
    if along_rows:
        most = min(most, _RESULTS // few)
    least = 32 if apart else 4
    if many <= most or most < least:
        return many
    return most // least * least


@compiled
def _address(matrices: Place, number: int, row: int, column: int) -> np.uint64:
    """Where one number is, of one of the matrices."""
    start, step, ahead, transposed = matrices
    floats = column * ahead + row if transposed else row * ahead + column
    return np.uint64(start + number * step + 4 * floats)
