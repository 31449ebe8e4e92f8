"""Densities of residuals that are uniform within half octaves, and what they say of cell numbers.

`tables` are float64 `[4, contexts, BINS]`: how likely a magnitude is in a bin; in one of those before it;
and the means of magnitude and of its square, counting only those before. Signs are equally likely. Bins
are half octaves, in some unit: two to every power of two, split in the middle; the lowest starts at 0.
"""

import numpy as np

from wzfl.kernels import compiled

BINS = 80
_LOWEST = -30  # power of two at which the second octave's bins start
_OCTAVES = 2.0 ** np.arange(_LOWEST, _LOWEST + BINS // 2)
# In units: where each bin starts, and where the last one ends.
EDGES = np.concatenate([[0.0], np.outer(_OCTAVES, [1, 1.5]).ravel()])
_SHARE, _BELOW, _MEAN, _SQUARE = 0, 1, 2, 3
_TINY = 1e-30
_IMPOSSIBLE = 1e-12  # a chance so small that the model, not the residual, is taken for wrong


@compiled
def bin_numbers(magnitudes: np.ndarray, factor: float, bins: np.ndarray) -> None:
    """Fills uint8 `bins` with those of float32 `magnitudes` * `factor`."""
    for index in range(len(magnitudes)):
        bins[index] = _place(magnitudes[index] * factor)[0]


@compiled
def draw(
    starts: np.ndarray,
    widths: np.ndarray,
    contexts: np.ndarray,
    uniform: np.ndarray,
    tables: np.ndarray,
    values: np.ndarray,
) -> None:
    """Draws residuals that lie within `widths` from `starts` into float64 `values`, by inversion.

    `uniform` are in [0, 1); values are in units.
    """
    for index in range(len(contexts)):
        start, end, context = starts[index], starts[index] + widths[index], contexts[index]
        low = np.copysign(_within(abs(start), context, tables)[0], start)
        high = np.copysign(_within(abs(end), context, tables)[0], end)
        values[index] = (start + end) / 2
        if high - low > _IMPOSSIBLE:
            chance = low + uniform[index] * (high - low)
            share, below = tables[_SHARE, context], tables[_BELOW, context]
            bin = max(0, np.searchsorted(below, abs(chance), "right") - 1)
            part = min(1.0, (abs(chance) - below[bin]) / max(share[bin], _TINY))
            magnitude = EDGES[bin] + part * (EDGES[bin + 1] - EDGES[bin])
            values[index] = min(max(np.copysign(magnitude, chance), start), end)


@compiled
def information(
    starts: np.ndarray,
    widths: np.ndarray,
    factor: float,
    contexts: np.ndarray,
    tables: np.ndarray,
) -> float:
    """Mean bits that tell that residuals lie within `widths` from `starts`; `factor` takes both to units."""
    total = 0.0
    for index in range(len(starts)):
        start, end = factor * starts[index], factor * (starts[index] + widths[index])
        total -= np.log2(_chance(start, end, contexts[index], tables) + _TINY)
    return total / len(starts)


@compiled
def explain(
    starts: np.ndarray,
    widths: np.ndarray,
    contexts: np.ndarray,
    tables: np.ndarray,
    means: np.ndarray,
    squares: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Posterior moments and bins of residuals that lie within `widths` from `starts`, in units.

    Fills float64 `means` and `squares` of each, and adds to `counts` `[contexts, BINS]`, for each, the
    posterior chance of every bin.
    """
    # By bin: how much of all bins before it is to be counted, in units of their shares.
    before = np.zeros_like(counts)
    for index in range(len(starts)):
        start, end, context = starts[index], starts[index] + widths[index], contexts[index]
        chance, mean, square = _between(start, end, context, tables)
        if chance < _IMPOSSIBLE:
            means[index] = (start + end) / 2
            squares[index] = means[index] ** 2
            counts[context, _place(abs(means[index]))[0]] += 1
            continue
        means[index], squares[index] = mean / chance, square / chance
        for magnitude, outwards in ((abs(end), end > 0), (abs(start), start < 0)):
            bin, part = _place(magnitude)
            weight = 0.5 / chance if outwards else -0.5 / chance
            counts[context, bin] += weight * part * tables[_SHARE, context, bin]
            before[context, bin] += weight
    for context in range(len(counts)):
        weight = 0.0
        for bin in range(BINS - 1, 0, -1):
            weight += before[context, bin]
            counts[context, bin - 1] += weight * tables[_SHARE, context, bin - 1]


@compiled
def odds(
    zero: np.ndarray,
    one: np.ndarray,
    places: np.ndarray,
    cell: float,
    contexts: np.ndarray,
    tables: np.ndarray,
    found: np.ndarray,
) -> None:
    """Fills `found` with P(0) / P(1) of bits that say in which of two neighbouring stretches residuals lie.

    They begin at int64 `zero` and `one`, counted in cells, are as long as these are apart, and are seen
    from float64 `places`; a cell is in units.
    """
    for index in range(len(zero)):
        context, zero_first = contexts[index], zero[index] < one[index]
        left, right = min(zero[index], one[index]), max(zero[index], one[index])
        middle = (right - places[index]) * cell
        below_start = _below((left - places[index]) * cell, context, tables)
        below_middle = _below(middle, context, tables)
        below_end = _below(middle + (right - left) * cell, context, tables)
        first, last = below_middle - below_start + _TINY, below_end - below_middle + _TINY
        found[index] = first / last if zero_first else last / first


@compiled
def _below(residual: float, context: int, tables: np.ndarray) -> float:
    """How likely one between 0 and this is, negative where this is; half of it is of its sign."""
    bin, part = _place(abs(residual))
    share = tables[_BELOW, context, bin] + part * tables[_SHARE, context, bin]
    return np.copysign(0.5 * share, residual)


@compiled
def _chance(start: float, end: float, context: int, tables: np.ndarray) -> float:
    """How likely a residual between `start` and `end` is."""
    first, first_part = _place(abs(start))
    last, last_part = _place(abs(end))
    to_start = tables[_BELOW, context, first] + first_part * tables[_SHARE, context, first]
    to_end = tables[_BELOW, context, last] + last_part * tables[_SHARE, context, last]
    return 0.5 * (to_start + to_end) if start < 0 < end else 0.5 * abs(to_end - to_start)


@compiled
def _between(
    start: float, end: float, context: int, tables: np.ndarray
) -> tuple[float, float, float]:
    """How likely a residual between `start` and `end` is; the means of these alone and of their squares.

    Small chances come without cancellation.
    """
    to_start, mean_to_start, square_to_start = _within(abs(start), context, tables)
    to_end, mean_to_end, square_to_end = _within(abs(end), context, tables)
    mean = 0.5 * (mean_to_end - mean_to_start)
    if start < 0 < end:
        return 0.5 * (to_start + to_end), mean, 0.5 * (square_to_start + square_to_end)
    return 0.5 * abs(to_end - to_start), mean, 0.5 * abs(square_to_end - square_to_start)


@compiled
def _within(magnitude: float, context: int, tables: np.ndarray) -> tuple[float, float, float]:
    """How likely a magnitude below this one is; the means of these alone and of their squares."""
    bin, part = _place(magnitude)
    chance, start = part * tables[_SHARE, context, bin], EDGES[bin]
    end = start + part * (EDGES[bin + 1] - start)
    return (
        tables[_BELOW, context, bin] + chance,
        tables[_MEAN, context, bin] + chance * (start + end) / 2,
        tables[_SQUARE, context, bin] + chance * (start * start + start * end + end * end) / 3,
    )


@compiled
def _place(magnitude: float) -> tuple[int, float]:
    """The bin of a magnitude, in units, and which part of the bin is below it."""
    bits = np.float64(magnitude).view(np.int64)  # exponent, then mantissa, whose first bit halves
    bin = (bits >> 51) - 2 * (1023 + _LOWEST) + 1
    if bin < 1:
        return 0, magnitude / 2.0**_LOWEST
    if bin >= BINS:
        return BINS - 1, 1.0
    return int(bin), (bits & (2**51 - 1)) * 2.0**-51
