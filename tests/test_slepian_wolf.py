import re

import pytest
import torch

from wzfl import InputError
from wzfl.compressors.bit_planes import design
from wzfl.compressors.learned_slepian_wolf import LearnedSlepianWolf
from wzfl.compressors.slepian_wolf import SlepianWolf
from wzfl.compressors.slepian_wolf_trellis import SlepianWolfTrellis
from wzfl.public import Public
from wzfl.theory import gap_db, modulo_moments, posterior_energy

CLIENTS = 2


def gaussian(dim, seed, scale=1.0):
    return scale * torch.randn(CLIENTS, dim, generator=torch.Generator().manual_seed(seed))


def planned(scale, round=0):
    return Public(0, round, tuple(range(CLIENTS)), torch.full((CLIENTS,), scale))


@pytest.mark.parametrize(
    ("bitrate", "estimator", "most"),
    [
        *((1, "posterior_mean", 2.4), (2, "posterior_mean", 2.5)),
        *((3, "posterior_mean", 2.5), (4, "posterior_mean", 2.5)),
        *((2, "plain", 3.0), (4, "plain", 2.5)),
    ],
)
def test_it_is_near_the_limit(bitrate, estimator, most):
    compressor, dim, scale = SlepianWolf(bitrate, estimator), 2**17, 0.1
    updates = gaussian(dim, 0)
    side = updates + gaussian(dim, 1, scale)
    payloads = compressor.encode(updates, planned(scale))
    estimates, failed = compressor.decode_checked(payloads, side, planned(scale))
    assert not failed.any()
    error = float((estimates - updates).double().square().mean()) / scale**2
    assert 1 < gap_db(error, 8 * len(payloads[0]) / dim) < most


def test_the_plain_error_is_uniform_and_its_gain_as_stated():
    compressor, dim, scale = SlepianWolf(2), 2**15, 0.1
    updates, residuals = gaussian(dim, 0), gaussian(dim, 1, scale / 1.2)
    side = updates - residuals
    payloads = compressor.encode(updates, planned(scale))
    estimates = compressor.decode(payloads, side, planned(scale))
    _, code = compressor._code(dim)
    variance = (code.cell * scale) ** 2 / 12
    assert float((estimates - updates).square().mean()) == pytest.approx(variance, rel=0.03)
    gain = float((estimates - side).square().sum() / residuals.square().sum())
    assert gain == pytest.approx(compressor.residual_gain(dim, 1.2), rel=0.02)


@pytest.mark.parametrize("scales", [(0.0, 0.0), (0.1, 0.0)])
def test_an_unplanned_client_is_decoded_without_side_information(scales):
    compressor, dim = SlepianWolf(2), 500
    updates, nonsense = gaussian(dim, 0), gaussian(dim, 5, 100.0)
    public = Public(0, 0, tuple(range(CLIENTS)), torch.tensor(scales))
    payloads = compressor.encode(updates, public)
    estimates = compressor.decode(payloads, nonsense, public)
    assert torch.equal(
        estimates[1], compressor.decode(payloads, torch.zeros(CLIENTS, dim), public)[1]
    )
    assert (estimates[1] - updates[1]).square().mean() < 0.3


def test_less_than_a_bit_is_a_subset():
    compressor, dim = SlepianWolf(0.25, "posterior_mean"), 2**15
    updates = gaussian(dim, 0)
    side = updates + gaussian(dim, 1, 0.1)
    payloads = compressor.encode(updates, planned(0.1))
    moved = compressor.decode(payloads, side, planned(0.1)) - side
    expected = compressor.residual_gain(dim, 1.0)
    assert float(moved.square().mean() / 0.01) == pytest.approx(expected, rel=0.05)


def test_a_plain_subset_makes_up_for_what_it_leaves_out():
    """What it moves the side information by is the whole residual, on average over subsets."""
    compressor, dim, scale = SlepianWolf(0.5), 600, 0.1
    updates = gaussian(dim, 0)
    residuals = gaussian(dim, 1, scale)
    shares = []
    for round in range(30):
        public = planned(scale, round)
        payloads = compressor.encode(updates, public)
        moved = compressor.decode(payloads, updates - residuals, public) - (updates - residuals)
        shares.append(float((moved * residuals).sum() / residuals.square().sum()))
    assert sum(shares) / len(shares) == pytest.approx(1, abs=0.05)


def test_a_residual_twice_as_large_as_planned_is_noticed_and_the_side_information_kept():
    compressor, dim = SlepianWolf(2), 2**14
    updates = gaussian(dim, 0)
    side = updates + gaussian(dim, 1, 0.2)
    payloads = compressor.encode(updates, planned(0.1))
    estimates, failed = compressor.decode_checked(payloads, side, planned(0.1))
    assert failed.all()
    torch.testing.assert_close(estimates, side, atol=1e-5, rtol=1e-4)


def test_a_decision_that_was_wrong_is_reversed(monkeypatch):
    """A residual 4 % larger than planned, in many short blocks."""
    compressor, dim = SlepianWolf(2, block=2**12), 2**17
    updates, public = gaussian(dim, 0), planned(0.1)
    side = updates + gaussian(dim, 8, 0.104)
    payloads = compressor.encode(updates, public)
    _, failed = compressor.decode_checked(payloads, side, public)
    assert not failed.any()
    monkeypatch.setattr("wzfl.compressors.plane_reader._correct", lambda *_: None)
    _, failed = compressor.decode_checked(payloads, side, public)
    assert failed.any()


def test_blocks_are_read_side_by_side_as_each_alone():
    """Of three clients: one as planned, one of whom a few blocks are misread, one of whom all are."""
    compressor, dim = SlepianWolf(2, block=2**10), 20 * 2**10 - 7
    public = Public(0, 0, (0, 1, 2), torch.full((3,), 0.1))
    updates = torch.randn(3, dim, generator=torch.Generator().manual_seed(0))
    residuals = torch.randn(3, dim, generator=torch.Generator().manual_seed(1))
    side = updates + residuals * torch.tensor([0.09, 0.115, 0.2])[:, None]
    payloads = compressor.encode(updates, public)
    estimates, failed = compressor.decode_checked(payloads, side, public)
    assert failed.tolist() == [False, True, True]
    for client in range(3):
        row = slice(client, client + 1)
        alone = compressor.decode_checked(payloads[row], side[row], public.rows(row))
        assert torch.equal(alone[0][0], estimates[client])
        assert alone[1].tolist() == [failed[client]]


def test_a_block_that_fails_leaves_the_others(monkeypatch):
    """Where the server is wrong about a few of the rotated coordinates."""
    compressor, dim = SlepianWolf(2, block=4096), 4 * 4096
    updates = gaussian(dim, 0)
    public = planned(0.1)
    allocation, code = compressor._code(dim)
    assert code.count == 4096
    monkeypatch.setattr("wzfl.compressors.slepian_wolf.rotate", lambda vectors, *_: vectors)
    monkeypatch.setattr("wzfl.compressors.slepian_wolf.rotate_back", lambda vectors, *_: vectors)
    residuals = gaussian(dim, 1, 0.1)
    order = allocation._order(public)[0]
    residuals[:, order[: code.count]] *= 10
    payloads = compressor.encode(updates, public)
    estimates, failed = compressor.decode_checked(payloads, updates - residuals, public)
    assert failed.all()
    errors = (estimates - updates)[:, order].view(CLIENTS, 4, -1).square().mean(dim=2)
    assert (errors[:, 0] > 0.5).all()
    assert (errors[:, 1:] < 0.004).all()


@pytest.mark.parametrize(
    ("dim", "bitrate", "block", "count", "size", "bits"),
    [
        (1000, 2, 1000, 1000, 1000, 2000),  # one block
        (1000, 2, 999, 1000, 500, 1000),  # two, as alike as can be
        (1000, 2.3, 300, 1000, 250, 575),
        (1000, 0.5, 300, 500, 250, 250),  # every second coordinate, a bit each
        (10, 0.02, 300, 1, 1, 1),  # never none
    ],
)
def test_blocks_are_alike_and_share_the_bits(dim, bitrate, block, count, size, bits):
    allocation, code = SlepianWolf(bitrate, block=block)._code(dim)
    assert (allocation.dim, allocation.count, code.count) == (dim, count, size)
    assert allocation.shuffled
    expected = design(size, bits)
    assert (code.cell, list(code.sizes)) == (expected.cell, list(expected.sizes))


@pytest.mark.parametrize("estimator", ["plain", "posterior_mean"])
@pytest.mark.parametrize("bitrate", [0.5, 2])
def test_gains_are_those_of_the_modulo_quantizer_of_the_same_cells(bitrate, estimator):
    """Of the coordinates that are sent; of which the plain estimate makes up for the others."""
    compressor, dim = SlepianWolf(bitrate, estimator), 4000
    _, code = compressor._code(dim)
    levels = 2 ** len(code.planes)
    quantizer = levels, code.cell * (levels - 1) / 2
    sampled = min(1, bitrate)
    if estimator == "plain":
        expected = modulo_moments(*quantizer, "dither", 1 / 1.2).energy / sampled
    else:
        expected = posterior_energy(*quantizer, 1 / 1.2) * sampled
    assert compressor.residual_gain(dim, 1.2) == pytest.approx(1.2**2 * expected)
    assert compressor.unbiased == (estimator == "plain")


def test_blocks_of_one_coordinate_and_of_the_most_are_taken():
    assert SlepianWolf(2, block=1).block == 1
    assert SlepianWolf(2, block=2**20).block == 2**20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bitrate": 2, "block": 2**20 + 1}, "block must be 1 to 1048576; got 1048577"),
        ({"bitrate": 17}, "out of range for slepian_wolf"),
        (
            {"bitrate": 2, "estimator": "wiener"},
            "^estimator must be one of plain, posterior_mean; got 'wiener'",
        ),
        ({"bitrate": 2, "block": 0}, "block must be 1 to"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SlepianWolf(**settings)


@pytest.mark.parametrize("kind", [SlepianWolf, SlepianWolfTrellis, LearnedSlepianWolf])
@pytest.mark.parametrize(("bitrate", "block"), [(2, 1), (2, 100), (0.3, 20), (16, 10)])
@pytest.mark.parametrize("dim", [1000, 20_000])
def test_blocks_are_long_enough_for_the_bitrate(kind, bitrate, block, dim):
    """To the block that the refusal names, which is the least."""
    updates, public = gaussian(dim, 0)[:1], Public(0, 0, (0,))
    with pytest.raises(
        InputError, match=f"block={block} is too short: .* set block to "
    ) as refusal:
        kind(bitrate, block=block).encode(updates, public)
    least = int(re.search(r"set block to (\d+) or more", str(refusal.value))[1])
    (payload,) = kind(bitrate, block=least).encode(updates, public)
    assert len(payload) <= 1.02 * bitrate * dim / 8 + 24
    with pytest.raises(InputError, match="is too short"):
        kind(bitrate, block=least - 1).encode(updates, public)


def test_checksums_are_two_in_a_hundred_bytes_and_five():
    """Of 5 000 bytes 100 are 50 checksums: of 55 blocks 364 coordinates each."""
    with pytest.raises(InputError, match="set block to 364 or more"):
        SlepianWolf(2, block=100).encode(gaussian(20_000, 0)[:1], Public(0, 0, (0,)))


def test_a_last_block_that_is_shorter_is_filled_up():
    compressor, dim, scale = SlepianWolf(3, block=16), 50, 0.1  # four blocks of 13
    updates = gaussian(dim, 0)
    side = updates + gaussian(dim, 1, scale / 5)
    payloads = compressor.encode(updates, planned(scale))
    estimates, failed = compressor.decode_checked(payloads, side, planned(scale))
    assert not failed.any()
    assert float((estimates - updates).abs().max()) < 2 * scale
