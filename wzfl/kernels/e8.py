"""Rounding to points of the lattice E8, modulo a multiple of it.

Eight coordinates at a time. Labels are coordinates in the basis (2, 0, ...), (-1, 1, 0, ...), (0, -1, 1, 0,
...), ..., (1/2, ..., 1/2), of Conway & Sloane, "Sphere Packings, Lattices and Groups", chapter 4.
"""

import numpy as np

from wzfl.kernels import compiled

_SIZE = 8


@compiled
def fold_row(
    values: np.ndarray,
    noise: np.ndarray,
    cell: float,
    bits: int,
    covered: int,
    symbols: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Fills `symbols` with the labels, modulo 2**bits, of the points nearest to values / cell + dither.

    The dither's labels are `noise`, which makes it uniform. Adds what is left out of the first `covered`
    coordinates' points, in units of 2**bits, modulo 256, to the four `sums` in turn; coordinates are whole
    or half, but those of a point that go to the same sum are whole together.
    """
    modulus = 2.0**bits
    near, label, block, turns = np.empty(8), np.empty(8), np.empty(8), np.empty(8)
    for start in range(0, len(values), _SIZE):
        point_of(noise[start : start + _SIZE], near)
        for index in range(_SIZE):
            near[index] += np.float64(values[start + index]) / cell
        nearest(near, near)
        label_of(near, label)
        for index in range(_SIZE):
            block[index] = np.floor(label[index] / modulus)
            symbols[start + index] = np.int32(label[index] - block[index] * modulus)
        if start < covered:
            point_of(block, turns)
            _add(turns, sums)


@compiled
def unfold_row(
    symbols: np.ndarray,
    noise: np.ndarray,
    expected: np.ndarray,
    cell: float,
    bits: int,
    covered: int,
    residuals: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Fills `residuals` with distances from `expected` to the nearest points with these labels, less dither.

    Adds to `sums` as `fold_row` does.
    """
    modulus = 2.0**bits
    label, distance, turns, offset = np.empty(8), np.empty(8), np.empty(8), np.empty(8)
    for start in range(0, len(symbols), _SIZE):
        for index in range(_SIZE):
            label[index] = symbols[start + index]
        point_of(label, distance)
        point_of(noise[start : start + _SIZE], offset)
        for index in range(_SIZE):
            distance[index] -= offset[index]
            distance[index] -= np.float64(expected[start + index]) / cell
            turns[index] = distance[index] / -modulus
        nearest(turns, turns)
        for index in range(_SIZE):
            residuals[start + index] = (distance[index] + turns[index] * modulus) * cell
        if start < covered:
            _add(turns, sums)


@compiled
def point_of(label: np.ndarray, point: np.ndarray) -> None:
    """Fills `point` with the combination of basis vectors whose coefficients are `label`."""
    half = np.float64(label[7]) / 2
    point[0] = 2 * np.float64(label[0]) - np.float64(label[1]) + half
    for index in range(1, 6):
        point[index] = np.float64(label[index]) - np.float64(label[index + 1]) + half
    point[6] = np.float64(label[6]) + half
    point[7] = half


@compiled
def label_of(point: np.ndarray, label: np.ndarray) -> None:
    """Fills `label` with the coefficients of `point`: the inverse of `point_of`."""
    half = point[7]
    label[7] = 2 * half
    label[6] = point[6] - half
    for index in range(5, 0, -1):
        label[index] = point[index] - half + label[index + 1]
    label[0] = (point[0] - half + label[1]) / 2


@compiled
def nearest(place: np.ndarray, point: np.ndarray) -> None:
    """Fills `point` with the lattice point nearest to `place`, of D8 (integers, even sum) or of D8 + 1/2.

    Source: Conway & Sloane, IEEE Trans. IT 28(2), 1982.
    """
    whole, half = np.empty(8), np.empty(8)
    closer = _nearest_even(place, 0.0, whole) <= _nearest_even(place, 0.5, half)
    for index in range(_SIZE):
        point[index] = whole[index] if closer else half[index]


@compiled
def _nearest_even(place: np.ndarray, shift: float, point: np.ndarray) -> float:
    """Fills `point` with the nearest integers of even sum, plus `shift`; returns the squared distance."""
    worst, total, distance = 0, 0.0, 0.0
    for index in range(_SIZE):
        point[index] = np.floor(place[index] - shift + 0.5)
        total += point[index]
        if abs(place[index] - shift - point[index]) > abs(place[worst] - shift - point[worst]):
            worst = index
    if total - 2 * np.floor(total / 2) != 0:
        point[worst] += 1.0 if place[worst] - shift >= point[worst] else -1.0
    for index in range(_SIZE):
        point[index] += shift
        distance += (place[index] - point[index]) * (place[index] - point[index])
    return distance


@compiled
def _add(turns: np.ndarray, sums: np.ndarray) -> None:
    """Adds `turns` modulo 256 to the four `sums` in turn."""
    for index in range(_SIZE):
        sums[index % 4] += turns[index] - np.floor(turns[index] * 2.0**-8) * 2.0**8


@compiled
def nearest_rows(places: np.ndarray, points: np.ndarray) -> None:
    """Does `nearest` for each row of float64 `places` `[n, 8]`."""
    for row in range(len(places)):
        nearest(places[row], points[row])
