"""The decoder of the `constriction` library's range coder, which gives Python's lock away meanwhile.

The library's own holds the lock and takes more than twice as long. Words are 32 bits, the state 64, and
probabilities 24.
"""

import numpy as np

from wzfl.kernels import compiled

PRECISION, LOOKUP = 24, 12  # bits of probabilities, and those by which symbols are looked up

_LEAST = np.uint64(1 << 32)  # a range below takes in another word
_WORD = np.uint64(32)


@compiled
def read_symbols(
    words: np.ndarray,
    state: np.ndarray,
    cumulative: np.ndarray,
    first: np.ndarray,
    symbols: np.ndarray,
) -> bool:
    """Fills `symbols` int64 with the next of `words` uint32; False if these are of no such symbols.

    `state` uint64 is lower end, range, point, and how many words were read; see `start`. A symbol s has
    the probabilities from `cumulative[s]` to `cumulative[s + 1]`, uint64, and those whose highest bits
    are b begin with the symbol `first[b]`.
    """
    lower, width, point, read = state[0], state[1], state[2], state[3]
    for index in range(len(symbols)):
        scale = width >> np.uint64(PRECISION)
        quantile = (point - lower) // scale
        if quantile >= np.uint64(1 << PRECISION):
            return False
        symbol = first[quantile >> np.uint64(PRECISION - LOOKUP)]
        while cumulative[symbol + 1] <= quantile:
            symbol += 1
        symbols[index] = symbol
        lower += scale * cumulative[symbol]
        width = scale * (cumulative[symbol + 1] - cumulative[symbol])
        if width < _LEAST:
            lower, width, point = lower << _WORD, width << _WORD, point << _WORD
            if read < np.uint64(len(words)):
                point |= np.uint64(words[read])
                read += np.uint64(1)
    state[0], state[1], state[2], state[3] = lower, width, point, read
    return True


def start(words: np.ndarray) -> np.ndarray:
    """The state before the first symbol."""
    point = 0
    for word in (*words[:2].tolist(), 0, 0)[:2]:
        point = point << 32 | word
    return np.array([0, 2**64 - 1, point, min(2, len(words))], np.uint64)
