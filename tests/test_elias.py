import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wzfl
from wzfl.elias import LARGEST, decode_omega, encode_omega, omega_lengths


def test_published_lengths_of_1_to_8():
    assert omega_lengths(np.arange(1, 9)).tolist() == [1, 3, 3, 6, 6, 6, 6, 7]


@pytest.mark.parametrize(
    ("number", "code"),
    [(1, "0"), (2, "100"), (3, "110"), (4, "101000"), (8, "1110000"), (17, "10100100010")],
)
def test_published_codewords(number, code):
    assert "".join(map(str, encode_omega(np.array([number])))) == code


@given(st.lists(st.integers(1, LARGEST) | st.integers(1, 20), max_size=50))
def test_what_is_encoded_is_decoded(numbers):
    array = np.array(numbers, dtype=np.int64)
    bits = encode_omega(array)
    assert len(bits) == omega_lengths(array).sum()
    decoded, used = decode_omega(np.append(bits, 1), len(numbers))
    assert decoded.tolist() == numbers
    assert used == len(bits)


@given(st.lists(st.integers(0, 1), max_size=80), st.integers(0, 40))
@settings(max_examples=500)
def test_any_bits_are_numbers_or_a_payload_error(bits, count):
    try:
        numbers, used = decode_omega(np.array(bits, dtype=np.uint8), count)
    except wzfl.PayloadError:
        return
    assert len(numbers) == count
    assert used <= len(bits)
    assert (encode_omega(numbers) == np.array(bits[:used], dtype=np.uint8)).all()
