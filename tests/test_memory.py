"""Large strings are the same however they are copied, and results in the order of what they are of."""

import threading

import pytest
import torch

from wzfl.memory import as_tensor, joined
from wzfl.threads import in_shares

PARTS = [b"head", memoryview(bytes(range(256)) * 2000), b"", bytearray(b"x" * 300_000), b"end"]


@pytest.mark.parametrize(
    "rows",
    [[PARTS], [PARTS[:1], PARTS, [], PARTS[1:], PARTS[2:3]], [[]], []],
    ids=["large", "several", "empty", "none"],
)
def test_a_string_is_its_parts(rows, threads):
    strings = joined(rows)
    assert strings == [b"".join(parts) for parts in rows]
    assert all(type(string) is bytes for string in strings)


def test_floats_are_joined_as_bytes(threads):
    floats = torch.arange(100_000.0).numpy()
    assert joined([[b"a", floats.data]]) == [b"a" + floats.tobytes()]


def test_a_tensor_of_a_string_copies_nothing():
    string = bytearray(b"abc")
    assert as_tensor(string).data_ptr() == as_tensor(memoryview(string)).data_ptr()
    assert bytes(as_tensor(b"abc").numpy()) == b"abc"


@pytest.mark.parametrize("size", [0, 2**23, 2**30])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_results_are_in_order(threads, size, count):
    squares = in_shares(lambda item: item**2, list(range(count)), size)
    assert squares == [item**2 for item in range(count)]


def test_few_bytes_wake_no_thread(threads):
    where = in_shares(lambda _: threading.current_thread(), [1, 2], 1000)
    assert set(where) == {threading.current_thread()}


def test_what_goes_wrong_in_a_share_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        in_shares(lambda item: 1 // item, [1, 0], 2**30)
