import pytest
import torch

import wzfl
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.public import Public
from wzfl.theory import modulo_distortion, modulo_step, wyner_ziv_limit

CLIENTS, DIM = 4, 65_537


def planned(scale, clients=CLIENTS):
    return Public(0, 0, tuple(range(clients)), torch.full((clients,), scale))


def gaussian(seed, scale=1.0):
    return scale * torch.randn(CLIENTS, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rounding", ["dither", "stochastic"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_error_is_the_predicted_one_and_never_below_the_limit(bits, rounding):
    compressor = WynerZiv(bits, rounding)
    updates, scale = 10 * gaussian(0), 0.1
    side = updates + gaussian(1, scale)
    payloads = compressor.encode(updates, planned(scale))
    error = float((compressor.decode(payloads, side, planned(scale)) - updates).square().mean())
    expected = modulo_distortion(2**bits, compressor._reach(bits), rounding) * scale**2
    assert error == pytest.approx(expected, rel=0.03)
    rate = 8 * len(payloads[0]) / DIM
    assert error > wyner_ziv_limit(rate, scale**2)


@pytest.mark.parametrize("rounding", ["dither", "stochastic"])
def test_within_reach_only_rounding_is_lost(rounding):
    """A residual within reach decodes to within a cell: half a one under dither, which is uniform."""
    compressor = WynerZiv(4, rounding, reach=6.0)
    updates = gaussian(0)
    side = updates + gaussian(1, 0.01)
    public = planned(0.01)
    estimates = compressor.decode(compressor.encode(updates, public), side, public)
    cell = modulo_step(16, 6.0, rounding) * 0.01
    variance = cell**2 / (12 if rounding == "dither" else 6)
    assert float((estimates - updates).square().mean()) == pytest.approx(variance, rel=0.02)


def test_beyond_reach_it_lands_a_block_away():
    """With no rotation in dimension 1, one block is 2**bits cells."""
    compressor = WynerZiv(2, reach=1.0)
    public, update = planned(1.0, clients=1), torch.tensor([[0.3]])
    near = compressor.decode(compressor.encode(update, public), update, public)
    far = compressor.decode(compressor.encode(update, public), update + 2.9, public)
    assert abs(float(far - near)) == pytest.approx(4 * modulo_step(4, 1.0, "dither"), rel=1e-5)


def test_an_unplanned_client_is_decoded_without_side_information():
    updates, nonsense = gaussian(0), gaussian(5, 100.0)
    public = planned(0.0)
    payloads = WynerZiv(4).encode(updates, public)
    estimates = WynerZiv(4).decode(payloads, nonsense, public)
    assert torch.equal(estimates, WynerZiv(4).decode(payloads, torch.zeros(CLIENTS, DIM), public))


@pytest.mark.parametrize("bitrate", [0.25, 0.5, 1, 2, 2.5])
@pytest.mark.parametrize("unbiased", [True, False])
def test_the_residual_gain_is_the_measured_one(bitrate, unbiased):
    compressor = WynerZiv(bitrate, unbiased=unbiased)
    updates = gaussian(0)
    side = updates + gaussian(1, 0.1)
    public = planned(0.12)
    estimates = compressor.decode(compressor.encode(updates, public), side, public)
    gain = float((estimates - side).square().sum() / (updates - side).square().sum())
    assert compressor.residual_gain(DIM, scale_ratio=1.2) == pytest.approx(gain, rel=0.06)


def test_shrinking_loses_less():
    updates = gaussian(0)
    side = updates + gaussian(1, 0.1)
    errors = []
    for unbiased in (True, False):
        compressor = WynerZiv(0.5, unbiased=unbiased)
        payloads = compressor.encode(updates, planned(0.1))
        errors.append((compressor.decode(payloads, side, planned(0.1)) - updates).norm())
    assert errors[1] < (side - updates).norm() < errors[0]


def test_the_published_preset_is_its_formula():
    from wzfl.theory import rmq_reach

    preset = wzfl.build_compressor("wyner_ziv_rmq", bitrate=4)
    assert preset.rounding == "stochastic"
    assert preset.reach == pytest.approx(rmq_reach(10**0.5), abs=5e-4)


@pytest.mark.parametrize("setting", [{"rounding": "nearest"}, {"reach": 0.0}, {"reach": -1.0}])
def test_unusable_settings_are_refused(setting):
    with pytest.raises(wzfl.InputError, match="got"):
        wzfl.build_compressor("wyner_ziv", **setting)
