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
    half = _STATES // 2
    parities, cost, later = np.empty(len(places), np.uint8), np.empty(_STATES), np.empty(_STATES)
    cost[:] = _UNREACHED
    cost[0] = 0
    away = np.empty(4)
    for index in range(len(places)):
        for subset in range(4):
            error = places[index] / 2 - subset / 4
            error -= np.floor(error + 0.5)
            away[subset] = error * error
        chosen = 0
        for state in range(half):
            even, odd = cost[2 * state] + away[0], cost[2 * (state ^ _ODD_NUMBER)] + away[2]
            chosen |= int(odd < even) << state
            later[state] = min(odd, even)
            even, odd = cost[2 * state + 1] + away[1], cost[2 * (state ^ _ODD_NUMBER) + 1] + away[3]
            reached = state ^ _AS_EVEN | half
            chosen |= int(odd < even) << reached
            later[reached] = min(odd, even)
        parities[index] = chosen
        least = later.min()
        for state in range(_STATES):
            cost[state] = later[state] - least
    state = int(np.argmin(cost))
    for index in range(len(places) - 1, -1, -1):
        parity = parities[index] >> state & 1
        odd_state = state // half
        before = (state ^ _AS_EVEN) % half if odd_state else state
        before ^= _ODD_NUMBER if parity else 0
        subset = 2 * parity + odd_state
        numbers[index] = 2 * np.floor(places[index] / 2 - subset / 4 + 0.5) + parity
        state = 2 * before + odd_state


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
