import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wzfl.bitpack import pack, packed_size, unpack


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 16), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_unpack_inverts_pack(bits, count, seed):
    symbols = torch.from_numpy(np.random.default_rng(seed).integers(0, 2**bits, (2, count)))
    strings = pack(symbols, bits)
    assert [len(string) for string in strings] == [packed_size(count, bits)] * 2
    assert torch.equal(unpack(strings, bits, count).int(), symbols.int())


@pytest.mark.parametrize(
    ("symbols", "bits", "expected"),
    [([1, 0, 1, 1], 1, "b0"), ([3, 0, 1], 2, "b0"), ([2, 3], 2, "70"), ([0x1234], 16, "2c48")],
)
def test_layout_is_fixed(symbols, bits, expected):
    """Planes from the lowest bit on, the first symbol at a byte's highest bit."""
    assert pack(torch.tensor([symbols]), bits)[0].hex() == expected
