import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wzfl.bitpack import pack, pack_signs, packed_size, unpack, unpack_signs


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 16), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_unpack_inverts_pack(bits, count, seed):
    symbols = torch.from_numpy(np.random.default_rng(seed).integers(0, 2**bits, (2, count)))
    strings = pack(symbols, bits)
    assert [len(string) for string in strings] == [packed_size(count, bits)] * 2
    back = unpack(strings, bits, count)
    assert torch.equal(back.int(), symbols.int())
    assert back.dtype == (torch.uint8 if bits <= 8 else torch.int32)


@pytest.mark.parametrize(
    ("symbols", "bits", "expected"),
    [([1, 0, 1, 1], 1, "b0"), ([3, 0, 1], 2, "b0"), ([2, 3], 2, "70"), ([0x1234], 16, "2c48")],
)
def test_layout_is_fixed(symbols, bits, expected):
    """Planes from the lowest bit on, the first symbol at a byte's highest bit."""
    assert pack(torch.tensor([symbols]), bits)[0].hex() == expected


def test_of_several_rows_each_is_packed_alone():
    symbols = torch.arange(3 * 11).view(3, 11)
    for bits in (6, 8, 9, 16):
        alone = [pack(row[None], bits)[0] for row in symbols]
        assert pack(symbols, bits) == alone
        assert torch.equal(unpack(alone, bits, 11).int(), symbols.int())


@pytest.mark.parametrize(("count", "bits", "size"), [(0, 3, 0), (1, 1, 1), (8, 1, 1), (3, 3, 2)])
def test_bytes_are_begun_and_not_more(count, bits, size):
    assert packed_size(count, bits) == size


def test_symbols_are_read_where_a_string_is_a_part_of_another():
    (string,) = pack(torch.tensor([[5, 300, 511]]), 9)
    part = memoryview(b"?" + string)[1:]
    assert unpack([part], 9, 3).tolist() == [[5, 300, 511]]


def test_signs_take_a_bit_each_and_zero_counts_as_positive():
    values = torch.tensor([[-1.0, 2.0, 0.0, -0.0, -3.0, 1.0, 1.0, 1.0, -0.5], [1.0] * 9])
    packed = pack_signs(values)
    assert [string.hex() for string in packed] == ["8880", "0000"]
    signs = unpack_signs(packed, 9)
    assert signs.dtype == torch.float32
    assert torch.equal(signs, torch.where(values < 0, -1.0, 1.0))


@pytest.mark.parametrize("bits", [8, 9])
def test_whole_numbers_in_floating_point_are_packed_as_integers(bits):
    """As torch's operations on a GPU leave them."""
    symbols = torch.tensor([[0, 1, 200, 255]])
    assert pack(symbols.float(), bits) == pack(symbols, bits)
