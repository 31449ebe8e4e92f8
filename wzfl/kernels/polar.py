"""Polar codes (Arikan, IEEE Trans. IT 55(7), 2009): the transform, its decoder, its reliabilities."""

import numpy as np

from wzfl.kernels import compiled

_EVERY_SECOND = np.uint64(0x00FF00FF00FF00FF)
_EVERY_SECOND_PAIR = np.uint64(0x0000FFFF0000FFFF)
_CACHED = 4096  # values that fit the first cache
_STRIP = 1024  # coordinates whose scratch stays there
_LINEAR, _SQUARE = np.float32(0.0906377), np.float32(0.0136833)  # of `_inverse_tail`, fitted


@compiled
def transform(bits: np.ndarray, lanes: int = 1) -> None:
    """Multiplies uint8 `bits` `[2**m]` by the m-fold Kronecker power of [[1, 0], [1, 1]], in place.

    With several lanes, `bits` are `[2**m, lanes]`, flat, and each lane is transformed apart. The transform is
    its own inverse.
    """
    if lanes > 1 or len(bits) < 32:
        _transform_from(bits, lanes)
        return
    # Eight bits at once, one in each byte of a word, the first in the lowest.
    words = bits.view(np.uint64)
    for index in range(len(words)):
        word = words[index]
        word ^= (word >> np.uint64(8)) & _EVERY_SECOND
        word ^= (word >> np.uint64(16)) & _EVERY_SECOND_PAIR
        words[index] = word ^ (word >> np.uint64(32))
    _transform_from(words, 1)


@compiled
def _transform_from(values: np.ndarray, half: int) -> None:
    """Applies the factors of the transform from distance `half` on, to parts that fit a cache first."""
    size = half
    while size < len(values) and size < _CACHED:
        size *= 2
    for start in range(0, len(values), size):
        _factors(values[start : start + size], half)
    _factors(values, size)


@compiled
def _factors(values: np.ndarray, half: int) -> None:
    """Applies the factors from distance `half` on, two at a time."""
    while 4 * half <= len(values):
        for start in range(0, len(values), 4 * half):
            part = values[start : start + 4 * half]
            first, second = part[:half], part[half : 2 * half]
            third, fourth = part[2 * half : 3 * half], part[3 * half :]
            for index in range(half):
                second_sum, third_sum = second[index] ^ fourth[index], third[index] ^ fourth[index]
                first[index] ^= second_sum ^ third[index]
                second[index], third[index] = second_sum, third_sum
        half *= 4
    if 2 * half <= len(values):
        _join(values[:half], values[half:])


@compiled
def decode(
    ratios: np.ndarray,
    sent_before: np.ndarray,
    sent: np.ndarray,
    bits: np.ndarray,
    reversed_places: np.ndarray,
    doubtful: np.ndarray,
    margins: np.ndarray,
) -> None:
    """Fills uint8 `bits` `[n, lanes]` by successive cancellation, one block in each lane.

    The first n of float32 `ratios` `[2 * n, lanes]` are log P(0) / P(1), the others scratch. Of the
    transform of a block, uint8 `sent` `[n, lanes]` holds what is known, at the same places in all, and
    `sent_before` `[n + 1]` how many of these are before each.

    In each lane the decision at one of the `reversed_places` `[lanes]` is reversed; -1 is none. The places
    of the decisions that were closest are inserted into int64 `doubtful` `[lanes, some]`, and how close they
    were into float32 `margins`, the closest first.
    """
    places, lanes = bits.shape
    ratios, sent, bits = ratios.reshape(-1), sent.reshape(-1), bits.reshape(-1)
    first, size = 0, places
    while first < places:
        # Down to the next part of which all is known, or nothing; what its ratios are follows theirs.
        known = sent_before[first + size] - sent_before[first]
        while 0 < known < size:
            size //= 2
            known = sent_before[first + size] - sent_before[first]
            if known < size:
                _check(*_halves(ratios, size * lanes))
        here = bits[first * lanes : (first + size) * lanes]
        if known:
            _copy(sent[first * lanes : (first + size) * lanes], here)
            transform(here, lanes)
        else:
            own = ratios[len(ratios) - 2 * size * lanes :][: size * lanes]
            _decide(own, first, lanes, here, reversed_places, doubtful, margins)
        first += size
        # Up to the first part whose second half is not known yet.
        while size < places and first // size % 2 == 0:
            width = size * lanes
            _join(bits[first * lanes - 2 * width :][:width], bits[first * lanes - width :][:width])
            size *= 2
        if first < places:
            _sum(*_halves(ratios, size * lanes), bits[(first - size) * lanes :][: size * lanes])


@compiled
def _halves(ratios: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second half of the ratios of a part of 2 * `width`, and scratch for those of a half."""
    end = len(ratios)
    return (
        ratios[end - 4 * width : end - 3 * width],
        ratios[end - 3 * width : end - 2 * width],
        ratios[end - 2 * width : end - width],
    )


@compiled
def _check(lefts: np.ndarray, rights: np.ndarray, out: np.ndarray) -> None:
    """Fills `out` with the ratios of the sums of two bits each."""
    for index in range(len(out)):
        left, right = lefts[index], rights[index]
        size = min(abs(left), abs(right))
        agreed, differing = _inverse_tail(abs(left + right)), _inverse_tail(abs(left - right))
        extra = np.float32(np.log(2)) * (differing - agreed) / (agreed * differing)
        out[index] = extra + (size if (left < 0) == (right < 0) else -size)


@compiled
def _sum(lefts: np.ndarray, rights: np.ndarray, out: np.ndarray, sums: np.ndarray) -> None:
    """Fills `out` with the ratios of the second bits, when the `sums` of both are known."""
    for index in range(len(out)):
        left, right = lefts[index], rights[index]
        out[index] = right - left if sums[index] else right + left


@compiled
def _join(first: np.ndarray, second: np.ndarray) -> None:
    """Replaces the first half of some bits by the sums of both halves."""
    for index in range(len(first)):
        first[index] ^= second[index]


@compiled
def _copy(source: np.ndarray, out: np.ndarray) -> None:
    for index in range(len(out)):  # an assignment takes numba longer
        out[index] = source[index]


@compiled
def _decide(
    ratios: np.ndarray,
    first: int,
    lanes: int,
    bits: np.ndarray,
    reversed_places: np.ndarray,
    doubtful: np.ndarray,
    margins: np.ndarray,
) -> None:
    """Fills `bits`, those of a part of which nothing is known, with the likelier ones."""
    closest, limit, places = np.float32(np.inf), np.float32(0), len(bits) // lanes
    for index in range(len(bits)):
        bits[index] = ratios[index] < 0
        closest = min(closest, abs(ratios[index]))
    for lane in range(lanes):
        limit = max(limit, margins[lane, -1])
    if closest < limit:
        for lane in range(lanes):
            for place in range(places):
                margin = abs(ratios[place * lanes + lane])
                if margin < margins[lane, -1]:
                    _insert(margin, first + place, margins[lane], doubtful[lane])
    for lane in range(lanes):
        place = reversed_places[lane] - first
        if 0 <= place < places:
            bits[place * lanes + lane] ^= 1


@compiled
def _insert(margin: float, place: int, margins: np.ndarray, doubtful: np.ndarray) -> None:
    """Inserts a decision among the closest, in order; the last of them drops out."""
    index = len(margins) - 1
    while index > 0 and margin < margins[index - 1]:
        margins[index], doubtful[index] = margins[index - 1], doubtful[index - 1]
        index -= 1
    margins[index], doubtful[index] = margin, place


@compiled
def _inverse_tail(x: np.float32) -> np.float32:
    """log(2) / log(1 + exp(-x)) for x >= 0, such that the tail itself is within 0.0005."""
    x = x if x < np.float32(16) else np.float32(16)
    root = np.float32(1) + x * (_LINEAR + x * _SQUARE)
    root *= root
    root *= root
    return root * root


@compiled
def transpose(values: np.ndarray, out: np.ndarray) -> None:
    """Fills `out` `[n, m]` with the transpose of `values` `[m, n]`, which takes numpy longer."""
    for row in range(len(out)):
        for column in range(len(values)):
            out[row, column] = values[column, row]


@compiled
def look_up_ratios(
    places: np.ndarray,
    below: np.ndarray,
    plane: int,
    table: np.ndarray,
    beyond: float,
    ratios: np.ndarray,
) -> None:
    """Fills float32 `ratios` from a plane's table over a period of two spacings; with `beyond` at NaN.

    float64 `places` are what is expected, in cells; int32 `below` the bits of the planes below.
    """
    share_of_period, nowhere = 2.0 ** -(plane + 1), np.uint32(len(table))
    chosen = np.empty(_STRIP, np.uint32)
    for start in range(0, len(places), _STRIP):
        part, lower = places[start : start + _STRIP], below[start : start + _STRIP]
        out = ratios[start : start + _STRIP]
        for index in range(len(part)):
            periods = (part[index] - lower[index]) * share_of_period
            share = periods - np.floor(periods)
            # What is too large to have a fraction, or infinite, has no place.
            within = 0 <= share < 1
            chosen[index] = np.uint32(np.int32(share * len(table))) if within else nowhere
        for index in range(len(part)):
            if chosen[index] < nowhere:
                out[index] = table[chosen[index]]
            else:
                out[index] = beyond if np.isnan(part[index]) else 0


@compiled
def spread(means: np.ndarray, dual: np.ndarray, lowest: float, per_unit: float) -> None:
    """Turns the reliabilities of bits, float64 `[2**m]`, into those of their transform, in place.

    A reliability is the log of the mean log-likelihood ratio of a Gaussian channel; `dual` at places
    `lowest` + index / `per_unit` is that of the channel whose capacity is this one's entropy.
    """
    half = len(means) // 2
    while half:
        for start in range(0, len(means), 2 * half):
            left = right = worse = better = np.nan
            for index in range(start, start + half):
                if not (means[index] == left and means[index + half] == right):  # as most are
                    left, right = means[index], means[index + half]
                    both = _log_sum(
                        _interpolate(dual, lowest, per_unit, left),
                        _interpolate(dual, lowest, per_unit, right),
                    )
                    worse = _interpolate(dual, lowest, per_unit, both)
                    better = _log_sum(left, right)
                means[index], means[index + half] = worse, better
        half //= 2


@compiled
def _interpolate(table: np.ndarray, lowest: float, per_unit: float, x: float) -> float:
    """The table's function at `x`, linear between its entries; its end where `x` is beyond."""
    place = min(max((x - lowest) * per_unit, 0.0), len(table) - 1.0)
    index = min(int(place), len(table) - 2)
    return table[index] + (place - index) * (table[index + 1] - table[index])


@compiled
def _log_sum(left: float, right: float) -> float:
    """log(exp(left) + exp(right))."""
    return max(left, right) + np.log1p(np.exp(-abs(left - right)))
