"""Elias gamma and omega coding of positive integers, whole arrays at a time.

Source: Elias, "Universal codeword sets and representations of the integers" (IEEE Trans. IT, 1975).
"""

from functools import lru_cache

import numpy as np

from wzfl.errors import PayloadError

CODES = ("omega", "gamma")
LARGEST = 2**32 - 1
_WINDOW = 16  # bits looked up at once; longer codewords are read bit by bit


def code_lengths(numbers: np.ndarray, code: str) -> np.ndarray:
    """Bits that each of `numbers` `[count]`, 1 to `LARGEST`, takes."""
    return _CODEWORDS[code](numbers)[1]


@lru_cache
def lengths_by_digits(code: str) -> np.ndarray:
    """int64 `[33]`: bits of numbers of as many binary digits; their codewords are of the same length."""
    return np.concatenate([[0], code_lengths(2 ** np.arange(32, dtype=np.uint64), code)])


def encode(numbers: np.ndarray, code: str) -> np.ndarray:
    """The codewords of `numbers` `[count]`, 1 to `LARGEST`, as one array of bits 0 and 1, uint8."""
    codes, lengths = _CODEWORDS[code](numbers)
    ends = np.cumsum(lengths)
    # Of each bit of the output: how many bits of its codeword follow it.
    following = np.repeat(ends, lengths) - np.arange(1, int(lengths.sum()) + 1)
    return ((np.repeat(codes, lengths) >> following.astype(np.uint64)) & 1).astype(np.uint8)


def decode(bits: np.ndarray, count: int, code: str) -> tuple[np.ndarray, int]:
    """The first `count` numbers, uint64, and how many of `bits` they took.

    Raises:
        PayloadError: the bits end within a codeword, or one is of a number above `LARGEST`.
    """
    numbers_of, lengths_of = _table(code)
    windows = _windows(bits)
    lengths = lengths_of[windows].tolist()
    starts, long, position = [], {}, 0
    for index in range(count):
        if position >= len(bits):
            raise PayloadError(f"coded integers end after {index} of {count}")
        starts.append(position)
        length = lengths[position]
        if length == 0:
            long[index], length = _READERS[code](bits, position)
        position += length
    if position > len(bits):
        raise PayloadError(f"coded integers end within the last of {count}")
    numbers = numbers_of[windows[starts]] if count else np.zeros(0, dtype=np.uint64)
    for index, number in long.items():
        numbers[index] = number
    return numbers, position


def _gamma_codewords(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codewords as integers, uint64, and their lengths in bits, int64: a zero per digit but the first."""
    return numbers.astype(np.uint64), 2 * _bit_lengths(numbers) - 1


def _omega_codewords(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same: each number's digits after those of their count less one, down to 1; then a zero."""
    number = numbers.astype(np.uint64)
    codes, lengths = np.zeros(len(number), dtype=np.uint64), np.ones(len(number), dtype=np.int64)
    while True:
        more = number > 1
        if not more.any():
            return codes, lengths
        digits = np.where(more, _bit_lengths(number), 0)
        codes |= np.where(more, number << lengths.astype(np.uint64), 0).astype(np.uint64)
        lengths += digits
        number = np.where(more, digits - 1, 1).astype(np.uint64)


def _bit_lengths(numbers: np.ndarray) -> np.ndarray:
    # Exact: float64 holds every integer up to LARGEST, and frexp reads its exponent.
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def _windows(bits: np.ndarray) -> np.ndarray:
    """`[len(bits)]`: the `_WINDOW` bits from each position on, zeros after the end."""
    octets = np.packbits(np.pad(bits, (0, 3 * 8))).astype(np.uint32)
    triples = (octets[:-2] << 16) | (octets[1:-1] << 8) | octets[2:]
    position = np.arange(len(bits))
    return (triples[position >> 3] >> (8 - (position & 7)).astype(np.uint32)) & 0xFFFF


@lru_cache
def _table(code: str) -> tuple[np.ndarray, np.ndarray]:
    """By window: the number whose codeword it starts with, and that one's length; 0 if longer."""
    numbers, lengths = np.zeros(2**_WINDOW, np.uint64), np.zeros(2**_WINDOW, np.int64)
    candidates = np.arange(1, 2**_WINDOW, dtype=np.uint64)
    for number, word, length in zip(candidates, *_CODEWORDS[code](candidates), strict=True):
        if length <= _WINDOW:
            first = int(word) << (_WINDOW - int(length))
            span = slice(first, first + (1 << (_WINDOW - int(length))))
            numbers[span], lengths[span] = number, length
    return numbers, lengths


def _read_gamma(bits: np.ndarray, start: int) -> tuple[int, int]:
    """The number whose codeword starts there, and the codeword's length."""
    ones = np.flatnonzero(bits[start : start + LARGEST.bit_length()])
    zeros = int(ones[0]) if len(ones) else LARGEST.bit_length()
    stop = start + 2 * zeros + 1
    if zeros >= LARGEST.bit_length() or stop > len(bits):
        raise PayloadError(_DAMAGED)
    return _integer(bits[start + zeros : stop]), stop - start


def _read_omega(bits: np.ndarray, start: int) -> tuple[int, int]:
    """The same."""
    number, position = 1, start
    while position < len(bits) and bits[position]:
        stop = position + number + 1
        if number >= LARGEST.bit_length() or stop > len(bits):
            raise PayloadError(_DAMAGED)
        number = _integer(bits[position:stop])
        position = stop
    if position >= len(bits):
        raise PayloadError(_DAMAGED)
    return number, position + 1 - start


def _integer(bits: np.ndarray) -> int:
    return int("".join(map(str, bits)), 2)


_DAMAGED = "a coded integer is damaged: it is too large, or ends too early"
_CODEWORDS = {"omega": _omega_codewords, "gamma": _gamma_codewords}
_READERS = {"omega": _read_omega, "gamma": _read_gamma}
