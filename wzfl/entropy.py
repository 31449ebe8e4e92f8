"""Entropy coding as the `constriction` library does it, whose range coder is compiled here once more."""

from functools import lru_cache
from math import floor, log2
from typing import Any, NamedTuple

import constriction
import numpy as np
import torch

from wzfl.bitpack import pack, packed_size, unpack
from wzfl.errors import PayloadError
from wzfl.kernels import range_coder
from wzfl.kernels.gaps import in_symbols, read_gaps

# Gaps up to this many times the mean get a symbol of their own; 0.03 % are longer.
_SYMBOLS_PER_MEAN = 8
# The mean gap in units of the coded part; the bits below it are uniform, and sent as such.
_COARSE = 64


def encode_positions(positions: np.ndarray, length: int) -> bytes:
    """Bytes that say ascending distinct `positions` below `length`, close to log2 C(length, count) bits.

    Gaps are range coded, geometrically distributed as between positions chosen at random; of long
    gaps the lowest bits go plain.
    """
    count = len(positions)
    if not count:
        return b""
    gaps = np.diff(positions, prepend=-1) - 1
    low_bits, longest, table = _gaps(length, count)
    symbols = in_symbols(gaps >> low_bits, longest)
    words = np.empty(len(symbols) + range_coder.LAST_WORDS, np.uint32)
    written = range_coder.write_symbols(symbols, table.cumulative, words)
    (low,) = pack(torch.from_numpy(gaps & (2**low_bits - 1))[None], low_bits)
    return b"".join([low, words[:written].astype("<u4").tobytes()])


def decode_positions(body: bytes | memoryview, length: int, count: int) -> np.ndarray:
    """The positions `[count]` int64 that `encode_positions` was given.

    Raises:
        PayloadError: the bytes are not those of `count` positions below `length`.
    """
    if not count:
        if len(body):
            raise PayloadError(f"got {len(body)} bytes of no positions")
        return np.empty(0, np.int64)
    low_bits, longest, table = _gaps(length, count)
    start = packed_size(count, low_bits)
    # Of every gap a symbol, and one for each time that a longest one fits; a word is more than one takes.
    most = start + 4 * (count + (length >> low_bits) // longest + range_coder.LAST_WORDS)
    if len(body) > most:
        raise PayloadError(f"coded positions are at most {most} bytes; got {len(body)}")
    if len(body) < start or (len(body) - start) % 4:
        raise PayloadError(
            f"coded positions are {start} bytes and whole 4-byte words; got {len(body)} bytes"
        )
    words = np.frombuffer(body[start:], dtype="<u4").astype(np.uint32)
    high, limit = np.empty(count, np.int64), -(-length >> low_bits)
    if not read_gaps(words, range_coder.start(words), *table, longest, limit, high):
        raise PayloadError("coded positions are invalid: they are of no gaps")
    low = unpack([body[:start]], low_bits, count)[0].numpy()
    positions = np.cumsum((high << low_bits) + low + 1) - 1
    if positions[-1] >= length:
        raise PayloadError(f"got position {positions[-1]}; expected {count} below {length}")
    return positions


class _Table(NamedTuple):
    """Probabilities as the coder has them: see `range_coder.read_symbols`."""

    cumulative: np.ndarray
    first: np.ndarray


class _Gaps(NamedTuple):
    """How many bits of a gap go plain, the longest symbol of the others, and their distribution."""

    low_bits: int
    longest: int
    table: _Table


@lru_cache
def _gaps(length: int, count: int) -> _Gaps:
    """How the gaps between `count` positions below `length` are coded."""
    low_bits = max(0, floor(log2(length / count / _COARSE)))
    # Kept off 0 and 1, where the coder has no code word for a surprise.
    chance = min(max(count / length, 1e-6), 1 - 1e-6)
    stay = (1 - chance) ** (2**low_bits)  # a coarse gap is as likely to go on
    longest = max(1, min(_SYMBOLS_PER_MEAN * 2 * _COARSE, round(_SYMBOLS_PER_MEAN / (1 - stay))))
    chances = np.append((1 - stay) * stay ** np.arange(longest), stay**longest)
    # Fixed point is enough: a perfect one takes far longer to make.
    model = constriction.stream.model.Categorical(chances / chances.sum(), perfect=False)
    return _Gaps(low_bits, longest, _table(model, longest + 1))


def _table(model: Any, symbols: int) -> _Table:
    """The probabilities, read off what each symbol makes of a new encoder's range."""
    whole = (2**64 - 1) >> range_coder.PRECISION
    cumulative = np.full(symbols + 1, 1 << range_coder.PRECISION, np.uint64)
    for symbol in range(symbols):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(symbol, model)
        _, (lower, _) = encoder.pos()
        cumulative[symbol] = lower // whole
    starts = np.arange(1 << range_coder.LOOKUP, dtype=np.uint64)
    starts <<= np.uint64(range_coder.PRECISION - range_coder.LOOKUP)
    return _Table(cumulative, np.searchsorted(cumulative, starts, side="right") - 1)
