"""Strings as others than Python see them."""

import ctypes

import numpy as np
import pytest

from wzfl.byte_strings import addresses, as_tensor, new_string


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_address_is_where_the_bytes_are(kind):
    string = kind(b"some bytes")
    (place,) = addresses([string])
    assert ctypes.string_at(int(place), 10) == b"some bytes"


def test_parts_of_a_string_are_where_they_start():
    whole = np.arange(10, dtype=np.uint8)
    first, later = addresses([whole.data, whole[3:].data])
    assert later - first == 3
    assert len(addresses([])) == 0


def test_a_tensor_of_a_string_copies_nothing():
    string = bytearray(b"abc")
    assert as_tensor(string).data_ptr() == as_tensor(memoryview(string)).data_ptr()
    assert bytes(as_tensor(b"abc").numpy()) == b"abc"


def test_a_new_string_is_filled_in_place():
    string = new_string(300_000)
    assert type(string) is bytes
    assert len(string) == 300_000
    (place,) = addresses([string])
    ctypes.memset(int(place), 7, len(string))
    assert string == b"\7" * 300_000
