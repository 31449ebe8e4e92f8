"""Published properties of the compressors without side information."""

from math import lgamma, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import wzfl
from wzfl.compressors.qsgd import QSGD
from wzfl.compressors.signsgd import SignSGD
from wzfl.compressors.topk import TopK
from wzfl.entropy import decode_mask, encode_mask
from wzfl.frame import OVERHEAD_BYTES
from wzfl.public import Public


def estimate(compressor, updates, public):
    side = torch.zeros_like(updates)
    return compressor.decode(compressor.encode(updates, public), side, public)


@pytest.mark.parametrize("kind", ["gaussian", "spike", "equal", "sparse"])
@pytest.mark.parametrize("bitrate", [2, 3, 4])
def test_qsgd_meets_its_variance_bound(bitrate, kind):
    """Per bucket with the largest magnitude m as norm: E|error|**2 <= n m**2 / (4 s**2)."""
    draws, dim = 2000, 64
    generator = torch.Generator().manual_seed(0)
    vector = {
        "gaussian": torch.randn(dim, generator=generator),
        "spike": torch.eye(dim)[3],
        "equal": torch.full((dim,), -0.7),
        "sparse": torch.randn(dim, generator=generator) * (torch.arange(dim) < 4),
    }[kind]
    updates = vector.expand(draws, -1)
    compressor = QSGD(bitrate)
    errors = estimate(compressor, updates, Public(0, 0, tuple(range(draws)))) - updates
    bound = dim * float(vector.abs().max()) ** 2 / (4 * compressor.levels**2)
    assert float(errors.square().sum(dim=1).mean()) <= bound
    if kind in ("spike", "equal"):  # on a level: nothing is lost
        assert float(errors.abs().max()) < 1e-6


def test_qsgd_by_hand():
    """One bucket of norm 4 and s = 1: 4 and 0 are exact, 1 becomes 4 once in four times."""
    update = torch.tensor([[4.0, 0.0, 1.0]]).expand(4000, -1)
    estimates = estimate(QSGD(2), update, Public(0, 0, tuple(range(4000))))
    assert torch.equal(estimates[:, :2], update[:, :2])
    assert set(estimates[:, 2].unique().tolist()) == {0.0, 4.0}
    assert float((estimates[:, 2] == 4).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_topk_keeps_the_largest(public):
    updates = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    estimates = estimate(TopK(2, value_bits=32), updates, public)
    for row, kept in zip(updates, estimates, strict=True):
        places = kept.nonzero()[:, 0]
        assert torch.equal(kept[places], row[places])
        assert row[places].abs().min() >= row[kept == 0].abs().max()


@pytest.mark.parametrize(("dim", "ones"), [(199_210, 4000), (65_537, 200), (10_000, 4000)])
def test_positions_cost_no_more_than_their_number_of_subsets(dim, ones):
    mask = np.zeros(dim, dtype=bool)
    mask[np.random.default_rng(0).choice(dim, ones, replace=False)] = True
    subsets = (lgamma(dim + 1) - lgamma(ones + 1) - lgamma(dim - ones + 1)) / log(2)
    body = encode_mask(mask, ones)
    assert 8 * len(body) <= 1.01 * subsets + 64
    assert (decode_mask(body, dim, ones) == mask).all()


@given(st.binary(max_size=64))
@settings(max_examples=300)
def test_damaged_positions_are_a_payload_error_or_a_mask(body):
    try:
        mask = decode_mask(body, 200, 20)
    except wzfl.PayloadError:
        return
    assert mask.sum() == 20


def test_signsgd_is_signs(public):
    updates = torch.tensor([[1.5, -2.0, 0.0], [-0.0, 1e-30, -1e30], [3.0, 3.0, -3.0]])
    expected = torch.tensor([[1.0, -1, 1], [1, 1, -1], [1, 1, -1]])
    assert torch.equal(estimate(SignSGD(), updates, public), expected)
    assert len(SignSGD().encode(updates, public)[0]) == 1 + OVERHEAD_BYTES
