"""Gaps as symbols of a small alphabet: one for each, then the next of those that are too long, and so on.

A gap of the longest symbol or more has that symbol, and then those of what is left of it.
"""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.range_coder import read_symbols


@compiled
def in_symbols(gaps: np.ndarray, longest: int) -> np.ndarray:
    """The symbols, int32, of int64 `gaps`."""
    left, going_on = np.empty(len(gaps), np.int64), 0
    for gap in gaps:
        left[going_on] = gap - longest  # the next one's, if this has ended
        going_on += gap >= longest
    more = going_on + np.sum(left[:going_on] // longest)
    symbols = np.empty(len(gaps) + more, np.int32)
    for place in range(len(gaps)):
        symbols[place] = min(gaps[place], longest)
    found = len(gaps)
    while going_on:
        here, going_on = going_on, 0
        for place in range(here):
            gap = left[place]
            symbols[found] = min(gap, longest)
            found += 1
            left[going_on] = gap - longest
            going_on += gap >= longest
    return symbols


@compiled
def read_gaps(
    words: np.ndarray,
    state: np.ndarray,
    cumulative: np.ndarray,
    first: np.ndarray,
    longest: int,
    limit: int,
    gaps: np.ndarray,
) -> bool:
    """Fills int64 `gaps` from a range coder's words, with arguments and result of `read_symbols`.

    Reading ends when the sum of the gaps has reached `limit`, which that of true ones does not.
    """
    if not read_symbols(words, state, cumulative, first, gaps):
        return False
    total, unfinished = gaps.sum(), np.flatnonzero(gaps == longest)
    while len(unfinished) and total < limit:
        symbols = np.empty(len(unfinished), np.int64)
        if not read_symbols(words, state, cumulative, first, symbols):
            return False
        gaps[unfinished] += symbols
        total += symbols.sum()
        unfinished = unfinished[symbols == longest]
    return True
