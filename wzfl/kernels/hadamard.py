"""The randomized Hadamard rotation of `wzfl.rotation`, one vector at a time, parts that fit a cache first."""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.draws import flip_signs, flipped

_L1 = 4096  # floats that fit the first cache beside what else is needed
_L2 = 65_536  # floats that fit the second
_L3 = 2_097_152  # floats that fit a core's share of the third


@compiled
def rotate_rows(
    vectors: np.ndarray,
    keys: np.ndarray,
    block: int,
    lanes: np.ndarray,
    places: np.ndarray,
    out: np.ndarray,
) -> None:
    """Rotates float32 `[clients, dim]` into `out`; `keys` `[2, clients]` are those of each pass."""
    dim = vectors.shape[1]
    rest = dim % block
    together, factor = np.empty(block, np.float32), np.float32(float(block) ** -0.5)
    for row in range(len(vectors)):
        values, bits = out[row], out[row].view(np.uint32)
        flipped(keys[0, row], vectors[row].view(np.uint32), bits)
        _transform(values[: dim - rest], dim // block, factor)
        if rest:
            _mix_rest(values, places[: block - rest], keys[0, row], False, together)
            _swap_rest(values, places[block - rest :])
        _stretches(values, block, lanes, factor, keys[1, row], True)
        if rest:
            flip_signs(keys[1, row], dim - rest, bits[dim - rest :])
            _mix_rest(values, places[: block - rest], keys[1, row], False, together)


@compiled
def rotate_rows_back(
    vectors: np.ndarray,
    keys: np.ndarray,
    block: int,
    lanes: np.ndarray,
    places: np.ndarray,
    out: np.ndarray,
) -> None:
    """The inverse of `rotate_rows`."""
    dim = vectors.shape[1]
    rest = dim % block
    together, factor = np.empty(block, np.float32), np.float32(float(block) ** -0.5)
    for row in range(len(vectors)):
        values, bits = out[row], out[row].view(np.uint32)
        for index in range(dim):  # an assignment takes numba longer
            values[index] = vectors[row, index]
        if rest:
            _mix_rest(values, places[: block - rest], keys[1, row], True, together)
        _stretches(values, block, lanes, factor, keys[1, row], False)
        if rest:
            flip_signs(keys[1, row], dim - rest, bits[dim - rest :])
            _swap_rest(values, places[block - rest :])
            _mix_rest(values, places[: block - rest], keys[0, row], True, together)
        _transform(values[: dim - rest], dim // block, factor)
        flip_signs(keys[0, row], 0, bits)


@compiled
def _transform(values: np.ndarray, lanes: int, factor: np.float32) -> None:
    """Hadamard transform along the first axis of `[block, lanes]`, flat, times `factor`, in place."""
    size = _sweeps(values, len(values), lanes, _L3)
    for start in range(0, len(values), size):
        _transform_nearby(values[start : start + size], lanes, factor)


@compiled
def _transform_nearby(values: np.ndarray, lanes: int, factor: np.float32) -> None:
    """Does what `_transform` does, for a part that fits the third cache."""
    size = _sweeps(values, len(values), lanes, _L2)
    for start in range(0, len(values), size):
        part = values[start : start + size]
        inner = _sweeps(part, size, lanes, _L1)
        for first in range(0, size, inner):
            _finish(part[first : first + inner], lanes, factor)


@compiled
def _sweeps(values: np.ndarray, size: int, lanes: int, fits: int) -> int:
    """Takes three stages at a time until independent parts fit a cache or are short; returns their size."""
    while size > fits and size >= 8 * lanes:
        for start in range(0, len(values), size):
            _three_stages(values[start : start + size])
        size //= 8
    return size


@compiled
def _stretches(
    values: np.ndarray,
    block: int,
    lanes: np.ndarray,
    factor: np.float32,
    key: np.uint64,
    flip_first: bool,
) -> None:
    """Transforms contiguous `[block, lanes]` stretches, one per entry of `lanes`, in place.

    The signs of each change before or after it.
    """
    start = 0
    for width in lanes:
        part = values[start : start + block * width]
        if flip_first:
            flip_signs(key, start, part.view(np.uint32))
        if width == 1:
            _transform_alone(part, factor)
        else:
            _transform(part, width, factor)
        if not flip_first:
            flip_signs(key, start, part.view(np.uint32))
        start += block * width


@compiled
def _transform_alone(values: np.ndarray, factor: np.float32) -> None:
    """Transforms one lane as a matrix: along one axis and then, transposed, along the other.

    Neighbours in memory would have to be added to each other, which no vector instruction does.
    """
    columns = 1
    while columns * columns < len(values):
        columns *= 2
    rows, transposed = len(values) // columns, np.empty_like(values)
    _transform(values, columns, np.float32(1))
    _transpose(values, columns, transposed)
    _transform(transposed, rows, factor)
    _transpose(transposed, rows, values)


@compiled
def _transpose(values: np.ndarray, columns: int, out: np.ndarray) -> None:
    """Fills flat `out` with the transpose of `[rows, columns]`, flat as well."""
    rows = len(values) // columns
    for column in range(columns):
        for row in range(rows):
            out[column * rows + row] = values[row * columns + column]


@compiled
def _mix_rest(
    values: np.ndarray, places: np.ndarray, key: np.uint64, undo: bool, together: np.ndarray
) -> None:
    """Transforms the end of `values` together with the values at `places`, in place.

    `together` `[block]` is scratch; its last `block - len(places)` are the end of `values`.
    """
    block, taken, bits = len(together), len(places), together.view(np.uint32)
    end = len(values) - (block - taken)
    for index in range(taken):
        together[index] = values[places[index]]
    together[taken:] = values[end:]
    if not undo:
        flip_signs(key, len(values), bits)
    _transform_alone(together, np.float32(float(block) ** -0.5))
    if undo:
        flip_signs(key, len(values), bits)
    for index in range(taken):
        values[places[index]] = together[index]
    values[end:] = together[taken:]


@compiled
def _swap_rest(values: np.ndarray, places: np.ndarray) -> None:
    """Exchanges the end of `values` with the values at `places`, in place."""
    end = len(values) - len(places)
    for index in range(len(places)):
        place = places[index]
        kept = values[place]
        values[place] = values[end + index]
        values[end + index] = kept


@compiled
def _three_stages(values: np.ndarray) -> None:
    """Takes the butterflies at distance n/2, n/4, then n/8, of n values, in place."""
    n = len(values) // 8
    v0, v1, v2, v3 = values[:n], values[n : 2 * n], values[2 * n : 3 * n], values[3 * n : 4 * n]
    v4, v5, v6, v7 = (
        values[4 * n : 5 * n],
        values[5 * n : 6 * n],
        values[6 * n : 7 * n],
        values[7 * n :],
    )
    for i in range(n):
        a0, a1, a2, a3 = v0[i] + v4[i], v1[i] + v5[i], v2[i] + v6[i], v3[i] + v7[i]
        a4, a5, a6, a7 = v0[i] - v4[i], v1[i] - v5[i], v2[i] - v6[i], v3[i] - v7[i]
        b0, b1, b2, b3 = a0 + a2, a1 + a3, a0 - a2, a1 - a3
        b4, b5, b6, b7 = a4 + a6, a5 + a7, a4 - a6, a5 - a7
        v0[i], v1[i], v2[i], v3[i] = b0 + b1, b0 - b1, b2 + b3, b2 - b3
        v4[i], v5[i], v6[i], v7[i] = b4 + b5, b4 - b5, b6 + b7, b6 - b7


@compiled
def _two_stages(values: np.ndarray) -> None:
    """Takes the butterflies at distance n/2, then n/4, of n values, in place."""
    quarter = len(values) // 4
    first, second = values[:quarter], values[quarter : 2 * quarter]
    third, fourth = values[2 * quarter : 3 * quarter], values[3 * quarter :]
    for index in range(quarter):
        sum_even, sum_odd = first[index] + third[index], second[index] + fourth[index]
        rest_even, rest_odd = first[index] - third[index], second[index] - fourth[index]
        first[index], second[index] = sum_even + sum_odd, sum_even - sum_odd
        third[index], fourth[index] = rest_even + rest_odd, rest_even - rest_odd


@compiled
def _finish(values: np.ndarray, lanes: int, factor: np.float32) -> None:
    """Takes all remaining butterflies of a part that fits the first cache, then multiplies by the factor."""
    size = len(values)
    while size >= 8 * lanes:
        for start in range(0, len(values), size):
            _three_stages(values[start : start + size])
        size //= 8
    while size >= 4 * lanes:
        for start in range(0, len(values), size):
            _two_stages(values[start : start + size])
        size //= 4
    if size >= 2 * lanes:
        half = size // 2
        for start in range(0, len(values), size):
            left, right = values[start : start + half], values[start + half : start + size]
            for index in range(half):
                total, difference = left[index] + right[index], left[index] - right[index]
                left[index], right[index] = total, difference
    for index in range(len(values)):
        values[index] *= factor
