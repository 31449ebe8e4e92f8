"""Elias codewords, one number at a time; bits are 0 and 1 in uint8.

`omega` says which code: omega, or else gamma. Numbers are 1 to 2**32 - 1.
"""

import numpy as np

from wzfl.kernels import compiled

_STRIP = 1024  # levels that stay in the first cache
_DIGITS = 32  # most binary digits of a number


@compiled
def code_lengths(numbers: np.ndarray, omega: bool) -> np.ndarray:
    """Bits that each of uint64 `numbers` takes, int64 `[count]`."""
    lengths = np.empty(len(numbers), np.int64)
    for index in range(len(numbers)):
        lengths[index] = _codeword(numbers[index], omega)[1]
    return lengths


@compiled
def write(numbers: np.ndarray, omega: bool, bits: np.ndarray) -> None:
    """Fills `bits` with the codewords of uint64 `numbers`, one after the other."""
    position = 0
    for number in numbers:
        word, length = _codeword(number, omega)
        for place in range(length):
            bits[position + place] = (word >> np.uint64(length - 1 - place)) & np.uint64(1)
        position += length


@compiled
def read(bits: np.ndarray, omega: bool, numbers: np.ndarray) -> tuple[int, int]:
    """Fills uint64 `numbers`; returns how many there were, and where the codeword after them starts."""
    position = 0
    for index in range(len(numbers)):
        number, end = _read_omega(bits, position) if omega else _read_gamma(bits, position)
        if not number:
            return index, position
        numbers[index] = number
        position = end
    return len(numbers), position


@compiled
def coded_bits(
    magnitudes: np.ndarray, step: float, noise: np.ndarray, largest: int, lengths: np.ndarray
) -> tuple[int, int]:
    """Bits of the levels floor(magnitude / step + noise): of the nonzero ones and their gaps, and of all.

    `magnitudes` are float64, levels go up to `largest`, and int64 `lengths` are those of codewords by a
    number's binary digits. Every nonzero level takes another bit, its sign. Where all are coded, level
    n has the codeword of n + 1.
    """
    sparse = dense = 0
    before = -1
    levels, places = np.empty(_STRIP, np.int64), np.empty(_STRIP, np.int64)
    for start in range(0, len(magnitudes), _STRIP):
        part, offsets = magnitudes[start : start + _STRIP], noise[start : start + _STRIP]
        for index in range(len(part)):
            levels[index] = int(np.floor(min(part[index] / step, float(largest)) + offsets[index]))
        count = 0  # without a branch, which could not be foreseen
        for index in range(len(part)):
            places[count] = index
            count += int(levels[index] > 0)
        dense += (len(part) - count) * lengths[1] + count
        sparse += count
        for place in places[:count]:
            level, here = levels[place], start + place
            dense += lengths[_digits(level + 1)]
            sparse += lengths[_digits(level)] + lengths[_digits(here - before)]
            before = here
    return sparse, dense


@compiled
def _codeword(number: np.uint64, omega: bool) -> tuple[np.uint64, int]:
    """A number's codeword, as a number, and how many bits it has.

    Gamma: a zero for each digit but the first, then the digits. Omega: a number's digits after those of
    their count less one, down to 1; then a zero.
    """
    digits = _digits(number)
    if not omega:
        return number, 2 * digits - 1
    word, length = np.uint64(0), 1
    while digits > 1:
        word |= number << np.uint64(length)
        length += digits
        number = np.uint64(digits - 1)
        digits = _digits(number)
    return word, length


@compiled
def _read_gamma(bits: np.ndarray, start: int) -> tuple[np.uint64, int]:
    """The number whose codeword is at `start`, and where it ends; 0 if it is too large or ends too early."""
    first = start
    while first < len(bits) and not bits[first]:
        first += 1
    return _integer(bits, first, first - start + 1)


@compiled
def _read_omega(bits: np.ndarray, start: int) -> tuple[np.uint64, int]:
    """The number whose omega codeword starts there, as `_read_gamma` does."""
    number, position = np.uint64(1), start
    while position < len(bits) and bits[position] and number:
        number, position = _integer(bits, position, int(number) + 1)
    return (number, position + 1) if position < len(bits) else (np.uint64(0), position)


@compiled
def _integer(bits: np.ndarray, start: int, digits: int) -> tuple[np.uint64, int]:
    """The number of `digits` digits at `start`, and where it ends; 0 if there is none."""
    number, end = np.uint64(0), start + digits
    if digits > _DIGITS or end > len(bits):
        return number, len(bits)
    for position in range(start, end):
        number = number << np.uint64(1) | np.uint64(bits[position])
    return number, end


@compiled
def _digits(number: int) -> int:
    """Binary digits of a positive integer below 2**53."""
    return int(np.float64(number).view(np.int64) >> 52) - 1022
