import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wzfl
from wzfl.elias import CODES, LARGEST, code_lengths, decode, encode, lengths_by_digits
from wzfl.kernels.elias import coded_bits


def test_published_lengths():
    assert code_lengths(np.arange(1, 9), "omega").tolist() == [1, 3, 3, 6, 6, 6, 6, 7]
    numbers = np.array([*range(1, 3000), 2**20 - 1, 2**20, LARGEST])
    expected = [2 * (int(number).bit_length() - 1) + 1 for number in numbers]
    assert code_lengths(numbers, "gamma").tolist() == expected


@pytest.mark.parametrize(
    ("code", "number", "word"),
    [
        ("omega", 1, "0"),
        ("omega", 2, "100"),
        ("omega", 3, "110"),
        ("omega", 4, "101000"),
        ("omega", 8, "1110000"),
        ("omega", 17, "10100100010"),
        ("gamma", 1, "1"),
        ("gamma", 2, "010"),
        ("gamma", 3, "011"),
        ("gamma", 9, "0001001"),
    ],
)
def test_published_codewords(code, number, word):
    assert "".join(map(str, encode(np.array([number]), code))) == word


@pytest.mark.parametrize("code", CODES)
@given(st.lists(st.integers(1, LARGEST) | st.integers(1, 20), max_size=50))
@settings(deadline=None)  # the first call compiles
def test_what_is_encoded_is_decoded(code, numbers):
    array = np.array(numbers, dtype=np.int64)
    bits = encode(array, code)
    assert len(bits) == code_lengths(array, code).sum()
    decoded, used = decode(np.append(bits, 1), len(numbers), code)
    assert decoded.tolist() == numbers
    assert used == len(bits)


@pytest.mark.parametrize("code", CODES)
@given(st.lists(st.integers(0, 1), max_size=80), st.integers(0, 40))
@settings(max_examples=500, deadline=None)
def test_any_bits_are_numbers_or_a_payload_error(code, bits, count):
    try:
        numbers, used = decode(np.array(bits, dtype=np.uint8), count, code)
    except wzfl.PayloadError:
        return
    assert len(numbers) == count
    assert used <= len(bits)
    assert (encode(numbers, code) == np.array(bits[:used], dtype=np.uint8)).all()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 1e6])
def test_rounded_magnitudes_take_the_bits_of_their_codewords(code, scale):
    generator = np.random.default_rng(0)
    magnitudes, noise = scale * generator.exponential(size=1000), generator.random(1000)
    levels = np.floor(magnitudes + noise).astype(np.int64)
    places = np.flatnonzero(levels)
    gaps = np.diff(places, prepend=-1)
    few = sum(code_lengths(numbers, code).sum() for numbers in (gaps, levels[places])) + len(places)
    every = code_lengths(levels + 1, code).sum() + len(places)
    counted = coded_bits(magnitudes, 1.0, noise, LARGEST - 2, lengths_by_digits(code))
    assert counted == (few, every)
