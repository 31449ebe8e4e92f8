"""Strings as others than Python see them."""

from wzfl.memory import as_tensor, new_string


def test_a_tensor_of_a_string_copies_nothing():
    string = bytearray(b"abc")
    assert as_tensor(string).data_ptr() == as_tensor(memoryview(string)).data_ptr()
    assert bytes(as_tensor(b"abc").numpy()) == b"abc"


def test_a_new_string_is_filled_in_place():
    string = new_string(300_000)
    assert type(string) is bytes
    assert len(string) == 300_000
    as_tensor(string).fill_(7)
    assert string == b"\7" * 300_000
