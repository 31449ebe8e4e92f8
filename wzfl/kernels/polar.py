"""Polar codes (Arikan, IEEE Trans. IT 55(7), 2009): the transform, its decoder, its reliabilities."""

import numpy as np

from wzfl.kernels import compiled

_EVERY_SECOND = np.uint64(0x00FF00FF00FF00FF)
_EVERY_SECOND_PAIR = np.uint64(0x0000FFFF0000FFFF)
_LINEAR, _SQUARE = np.float32(0.0906377), np.float32(0.0136833)  # of `_inverse_tail`, fitted


@compiled
def transform(bits: np.ndarray) -> None:
    """Multiplies uint8 `bits` `[2**m]` by the m-fold Kronecker power of [[1, 0], [1, 1]], in place.

    It is its own inverse.
    """
    if len(bits) < 32:
        _transform_from(bits, 1)
        return
    # Eight bits at once, one in each byte of a word, the first in the lowest.
    words = bits.view(np.uint64)
    for first in range(0, len(words), 4):
        for index in range(first, first + 4):
            word = words[index]
            word ^= (word >> np.uint64(8)) & _EVERY_SECOND
            word ^= (word >> np.uint64(16)) & _EVERY_SECOND_PAIR
            words[index] = word ^ (word >> np.uint64(32))
        words[first] ^= words[first + 1]
        words[first + 2] ^= words[first + 3]
        words[first] ^= words[first + 2]
        words[first + 1] ^= words[first + 3]
    _transform_from(words, 4)


@compiled
def _transform_from(values: np.ndarray, half: int) -> None:
    """The factors of the transform from that at distance `half` on."""
    while half < len(values):
        for start in range(0, len(values), 2 * half):
            for index in range(start, start + half):
                values[index] ^= values[index + half]
        half *= 2


@compiled
def decode(
    llr: np.ndarray,
    sent_before: np.ndarray,
    sent: np.ndarray,
    first: int,
    bits: np.ndarray,
    scratch: np.ndarray,
    reversed_place: int,
    doubtful: np.ndarray,
    margins: np.ndarray,
) -> None:
    """Fills uint8 `bits` `[n]` by successive cancellation.

    float32 `llr` `[n]` are log P(0) / P(1). Of the transform of all bits, uint8 `sent` holds what is
    known, `sent_before` `[len(sent) + 1]` how many places before each are; those of `bits` start at
    `first`. float32 `scratch` has room for n.

    The decision at `reversed_place` is reversed; -1 is none. The places of the decisions that were closest
    are inserted into int64 `doubtful`, and how close they were into float32 `margins`, the closest first.
    """
    count = len(llr)
    known = sent_before[first + count] - sent_before[first]
    if known == 0:
        for index in range(count):
            bits[index] = llr[index] < 0
            if abs(llr[index]) < margins[-1]:
                _insert(abs(llr[index]), first + index, margins, doubtful)
        if first <= reversed_place < first + count:
            bits[reversed_place - first] ^= 1
        return
    if known == count:
        bits[:] = sent[first : first + count]
        transform(bits)
        return
    half = count // 2
    inner, rest = scratch[:half], scratch[half:]
    for index in range(half):
        left, right = llr[index], llr[index + half]
        size = min(abs(left), abs(right))
        agreed, differing = _inverse_tail(abs(left + right)), _inverse_tail(abs(left - right))
        extra = np.float32(np.log(2)) * (differing - agreed) / (agreed * differing)
        inner[index] = extra + (size if (left < 0) == (right < 0) else -size)
    last = (reversed_place, doubtful, margins)
    decode(inner, sent_before, sent, first, bits[:half], rest, *last)
    for index in range(half):
        left, right = llr[index], llr[index + half]
        inner[index] = right - left if bits[index] else right + left
    decode(inner, sent_before, sent, first + half, bits[half:], rest, *last)
    for index in range(half):
        bits[index] ^= bits[index + half]


@compiled
def _insert(margin: float, place: int, margins: np.ndarray, doubtful: np.ndarray) -> None:
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
def look_up_ratios(
    places: np.ndarray, below: np.ndarray, plane: int, table: np.ndarray, ratios: np.ndarray
) -> None:
    """Fills float32 `ratios` from a plane's table over a period of two spacings.

    float64 `places` are what is expected, in cells; int64 `below` the bits of the planes below.
    """
    spacing = 2.0**plane
    for index in range(len(places)):
        offset = (places[index] - below[index]) / spacing
        share = (offset - 2 * np.floor(offset / 2)) / 2
        # What is too large to have a fraction, or infinite, has no place.
        ratios[index] = table[int(share * len(table))] if 0 <= share < 1 else 0


@compiled
def spread(means: np.ndarray, dual: np.ndarray, lowest: float, per_unit: float) -> None:
    """From the reliabilities of bits to those of their transform's, in place; float64 `[2**m]`.

    A reliability is the log of the mean log-likelihood ratio of a Gaussian channel; `dual` at places
    `lowest` + index / `per_unit` is that of the channel whose capacity is this one's entropy.
    """
    half = len(means) // 2
    while half:
        for start in range(0, len(means), 2 * half):
            for index in range(start, start + half):
                left, right = means[index], means[index + half]
                worse = _log_sum(
                    _interpolate(dual, lowest, per_unit, left),
                    _interpolate(dual, lowest, per_unit, right),
                )
                means[index] = _interpolate(dual, lowest, per_unit, worse)
                means[index + half] = _log_sum(left, right)
        half //= 2


@compiled
def _interpolate(table: np.ndarray, lowest: float, per_unit: float, x: float) -> float:
    place = min(max((x - lowest) * per_unit, 0.0), len(table) - 1.0)
    index = min(int(place), len(table) - 2)
    return table[index] + (place - index) * (table[index + 1] - table[index])


@compiled
def _log_sum(left: float, right: float) -> float:
    """log(exp(left) + exp(right))."""
    return max(left, right) + np.log1p(np.exp(-abs(left - right)))
