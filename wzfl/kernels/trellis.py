"""Trellis-coded quantization of one vector: the path of least squared error, and what a path says.

Points are integers and halves, those of integers where the state is even, of halves where it is odd; the
parity of the integer part leads to the next state. The trellis is Ungerboeck's of eight states, of parity
polynomials 13 and 04 (octal): "Channel Coding with Multilevel/Phase Signals", IEEE Trans. IT 28(1), 1982.
"""

import numpy as np

from wzfl.kernels import compiled

_STATES = 8
_ODD_STATE, _ODD_NUMBER = 0b101, 0b010  # what moves the state on, beside a shift
_AS_EVEN = _ODD_STATE - _STATES // 2
_UNREACHED = 1e9


@compiled
def quantize(places: np.ndarray, numbers: np.ndarray) -> None:
    """Fills float64 `numbers` with the integer parts of the points on the path nearest to `places`.

    By the Viterbi algorithm, from state 0.

    Source: Marcellin & Fischer, "Trellis Coded Quantization", IEEE Trans. Comm. 38(1), 1990.
    """
    parities, half = np.empty(len(places), np.uint8), _STATES // 2
    state = _forward(places, parities)
    for index in range(len(places) - 1, -1, -1):
        parity = parities[index] >> state & 1
        odd_state = state // half
        before = (state ^ _AS_EVEN) % half if odd_state else state
        before ^= _ODD_NUMBER if parity else 0
        subset = 2 * parity + odd_state
        numbers[index] = 2 * np.floor(places[index] / 2 - subset / 4 + 0.5) + parity
        state = 2 * before + odd_state


@compiled
def _forward(places: np.ndarray, parities: np.ndarray) -> int:
    """The last state of the nearest path; bit s of `parities` is that of the number which leads to state s.

    What it costs to get to each of the states is in a variable of its own: to write an array and read it
    again for every coordinate takes three times as long.
    """
    a, b, c, d = 0.0, _UNREACHED, _UNREACHED, _UNREACHED
    e, f, g, h = _UNREACHED, _UNREACHED, _UNREACHED, _UNREACHED
    for index in range(len(places)):
        place = places[index]
        even, odd = _squared(place, 0), _squared(place, 2)
        first, first_bit = _nearer(a + even, e + odd, 0)
        second, second_bit = _nearer(c + even, g + odd, 1)
        third, third_bit = _nearer(e + even, a + odd, 2)
        fourth, fourth_bit = _nearer(g + even, c + odd, 3)
        bits = first_bit | second_bit | third_bit | fourth_bit
        even, odd = _squared(place, 1), _squared(place, 3)
        fifth, fifth_bit = _nearer(d + even, h + odd, 4)
        sixth, sixth_bit = _nearer(b + even, f + odd, 5)
        seventh, seventh_bit = _nearer(h + even, d + odd, 6)
        eighth, eighth_bit = _nearer(f + even, b + odd, 7)
        parities[index] = bits | fifth_bit | sixth_bit | seventh_bit | eighth_bit
        least = min(first, second, third, fourth, fifth, sixth, seventh, eighth)
        a, b, c, d = first - least, second - least, third - least, fourth - least
        e, f, g, h = fifth - least, sixth - least, seventh - least, eighth - least
    return int(np.argmin(np.array([a, b, c, d, e, f, g, h])))


@compiled
def _squared(place: float, subset: int) -> float:
    """Squared distance from `place` to the nearest point of a subset, in units of two.

    A subset's points are two apart and begin at half of `subset`.
    """
    error = place / 2 - subset / 4
    error -= np.floor(error + 0.5)
    return error * error


@compiled
def _nearer(even: float, odd: float, state: int) -> tuple[float, np.uint8]:
    """What the better way to `state` costs, and the state's bit where that is an odd number's."""
    return min(odd, even), np.uint8(odd < even) << state


@compiled
def follow(numbers: np.ndarray, halves: np.ndarray) -> None:
    """Fills float32 `halves` with what each of integer `numbers` lacks to its point, 0 or 1/2."""
    state = 0
    for index in range(len(numbers)):
        odd_state = state & 1
        halves[index] = odd_state / 2
        state = state >> 1
        if odd_state:
            state ^= _ODD_STATE
        if numbers[index] & 1:
            state ^= _ODD_NUMBER
