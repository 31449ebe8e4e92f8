"""The range coder of the `constriction` library, without holding Python's lock.

The library's own holds the lock and takes about twice as long. Words are 32 bits, the state 64, and
probabilities 24.

A symbol s has the probabilities from `cumulative[s]` to `cumulative[s + 1]`, uint64.
"""

import numpy as np

from wzfl.kernels import compiled

# Bits of probabilities, and how many of them symbols are looked up by.
PRECISION, LOOKUP = 24, 12
# Words that an encoder's state takes after the symbols, at most.
LAST_WORDS = 2
# A range below this takes in another word.
_LEAST = np.uint64(1 << 32)
_WORD, _FULL = np.uint64(32), np.uint32(2**32 - 1)


@compiled
def write_symbols(symbols: np.ndarray, cumulative: np.ndarray, words: np.ndarray) -> int:
    """Fills uint32 `words` with `symbols`, at least one, and returns how many words they take.

    These are at most one for each symbol, and `LAST_WORDS`.
    """
    lower, width, written = np.uint64(0), np.uint64(2**64 - 1), 0
    # Words that wait, as a carry may reach them: `first`, and then full ones, `held` in all.
    first, held = np.uint32(0), 0
    for symbol in symbols:
        scale, before = width >> np.uint64(PRECISION), lower
        lower += scale * cumulative[symbol]
        width = scale * (cumulative[symbol + 1] - cumulative[symbol])
        if held and lower + width > lower:
            written = _release(first, held, lower < before, words, written)
            held = 0
        if width < _LEAST:
            word = np.uint32(lower >> _WORD)
            lower, width = lower << _WORD, width << _WORD
            if held:
                held += 1
            elif lower + width > lower:
                words[written] = word
                written += 1
            else:
                first, held = word, 1
    point = lower + np.uint64(_FULL)
    if held:
        written = _release(first, held, point < lower, words, written)
    words[written] = np.uint32(point >> _WORD)
    written += 1
    if (lower + width) >> _WORD == point >> _WORD:  # whatever follows must not count
        words[written] = 0
        written += 1
    return written


@compiled
def _release(first: np.uint32, held: int, carry: bool, words: np.ndarray, written: int) -> int:
    """Writes the words that wait, and returns how many are written then."""
    words[written] = first + np.uint32(carry)
    for place in range(written + 1, written + held):
        words[place] = 0 if carry else _FULL
    return written + held


@compiled
def read_symbols(
    words: np.ndarray,
    state: np.ndarray,
    cumulative: np.ndarray,
    first: np.ndarray,
    symbols: np.ndarray,
) -> bool:
    """Fills `symbols` int64 with the next ones in `words` uint32; returns False if there are no such symbols.

    `state` uint64 is lower end, range, point, and how many words were read; see `start`. Probabilities whose
    highest bits are b begin with the symbol `first[b]`.
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
