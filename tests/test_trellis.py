from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import kstest, spearmanr

import wzfl
from wzfl import InputError
from wzfl.compressors import trellis
from wzfl.compressors.bit_planes import Quantizer, design
from wzfl.compressors.cells import TrellisCoded
from wzfl.compressors.slepian_wolf import SlepianWolf
from wzfl.compressors.slepian_wolf_trellis import SlepianWolfTrellis
from wzfl.compressors.wyner_ziv_trellis import WynerZivTrellis
from wzfl.kernels.trellis import quantize
from wzfl.public import Public
from wzfl.theory import folded_moments, gap_db, modulo_moments

DIM = 2**17


def planned(scale, clients=1):
    return Public(seed=0, round=1, clients=range(clients), scale=torch.full((clients,), scale))


def gaussian(seed, deviation=1.0, dim=DIM, clients=1):
    generator = torch.Generator().manual_seed(seed)
    return deviation * torch.randn(clients, dim, generator=generator)


def points_of(places):
    numbers = np.empty_like(places)
    quantize(places, numbers)
    return numbers + trellis.halves(numbers.astype(np.int64)[None])[0]


def test_no_path_is_nearer_than_the_nearest():
    """Of all that stay within two and a half cells."""
    for places in np.random.default_rng(0).normal(scale=2, size=(20, 5)):
        numbers = np.floor(places).astype(int)[:, None] + np.arange(-2, 4)
        paths = np.array(list(product(*numbers)))
        distances = ((paths + trellis.halves(paths) - places) ** 2).sum(axis=1)
        assert ((points_of(places) - places) ** 2).sum() == pytest.approx(distances.min())


def test_the_error_is_that_of_the_literature():
    """Within 0.2 to 0.5 dB of 1 / (2 pi e), the least: Marcellin & Fischer have 0.21 dB for 256 states."""
    places = np.random.default_rng(0).normal(scale=50, size=2**19)
    moment = ((points_of(places) - places) ** 2).mean()
    assert moment == pytest.approx(trellis.MOMENT, rel=0.005)
    assert 0.2 < 10 * np.log10(moment * 2 * np.pi * np.e) < 0.5


def test_the_error_depends_on_nothing_the_server_does_not_know():
    """Neither on the update nor on the dither, whose cells it is spread over."""
    values = gaussian(0, 3.0)
    noise = planned(1.0).uniform("rounding", DIM)
    symbols, _ = trellis.fold(values, noise, torch.ones(1, dtype=torch.float64), 16, 0)
    errors, _ = trellis.unfold(symbols, noise, values, torch.ones(1, dtype=torch.float64), 16, 0)
    assert errors.std() == pytest.approx(trellis.MOMENT**0.5, rel=0.01)
    assert abs(float(errors.mean())) < 0.002
    for known in (values, values.remainder(2), noise):
        assert abs(spearmanr(errors[0], known[0]).statistic) < 0.01
    small, large = errors[values.abs() < 1], errors[values.abs() > 3]
    assert kstest(small.numpy(), large.numpy()).pvalue > 0.05


@pytest.mark.parametrize("run", [1, 7, 64, None])
def test_runs_are_read_one_by_one(run):
    values, one = gaussian(0, 3.0, dim=64, clients=2), torch.ones(2, dtype=torch.float64)
    noise = planned(1.0, clients=2).uniform("rounding", 64)
    symbols, sums = trellis.fold(values, noise, one, 3, 64, run)
    distance, their_sums = trellis.unfold(symbols, noise, values, one, 3, 64, run)
    assert distance.abs().max() < 1
    assert torch.equal((sums - their_sums).remainder(256), torch.zeros(2, 4).double())
    first = slice(0, run or 64)
    alone, _ = trellis.fold(values[:, first], noise[:, first], one, 3, 0)
    assert torch.equal(alone, symbols[:, first])


@pytest.mark.parametrize("residual", [0.8, 1.0, 1.5])
def test_folded_moments_are_those_of_fine_modulo_cells(residual):
    fine = modulo_moments(256, 4.0, "dither", residual)
    step = 8.0 / 255
    folded = folded_moments(256 * step, step**2 / 12, residual)
    np.testing.assert_allclose(folded, fine, rtol=1e-4)


@pytest.mark.parametrize(("bits", "gap"), [(2, 6.3), (3, 6.8), (4, 7.4)])
def test_symbols_along_a_trellis_err_less_than_in_cubes(bits, gap):
    updates = gaussian(0, clients=8)
    side = updates + gaussian(1, 0.1, clients=8)
    gaps = {}
    for name in ("wyner_ziv", "wyner_ziv_trellis"):
        compressor = wzfl.build_compressor(name, bitrate=bits)
        public = planned(0.1, clients=8)
        payloads = compressor.encode(updates, public)
        error = (compressor.decode(payloads, side, public) - updates).square().mean()
        gaps[name] = gap_db(float(error) / 0.01, 8 * len(payloads[0]) / DIM)
    assert 0 < gaps["wyner_ziv_trellis"] < gap
    assert gaps["wyner_ziv_trellis"] + 0.7 < gaps["wyner_ziv"]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_steps_are_those_of_least_error(bits):
    cells = TrellisCoded()

    def error(factor):
        step = factor * cells.step(bits)
        energy, correlation, _ = folded_moments(2**bits * step, trellis.MOMENT * step**2)
        return 1 - 2 * correlation + energy

    assert error(1) <= min(error(0.98), error(1.02))


@pytest.mark.parametrize("bitrate", [0.5, 1, 2, 3.5])
@pytest.mark.parametrize("estimator", ["plain", "wiener"])
def test_the_gain_of_symbols_is_the_measured_one(bitrate, estimator):
    compressor = WynerZivTrellis(bitrate, estimator=estimator)
    updates = gaussian(0, clients=4)
    side, public = updates + gaussian(1, 0.1, clients=4), planned(0.12, clients=4)
    moved = compressor.decode(compressor.encode(updates, public), side, public) - side
    gain = float(moved.square().sum() / (updates - side).square().sum())
    assert gain == pytest.approx(compressor.residual_gain(DIM, 1.2), rel=0.03)


@pytest.mark.parametrize("bitrate", [1.5, 2, 3, 4])
def test_syndromes_along_a_trellis_are_near_the_limit(bitrate):
    """Half of what is lost where coordinates are rounded one by one."""
    compressor, scale = SlepianWolfTrellis(bitrate, "posterior_mean"), 0.1
    updates, public = gaussian(0, clients=2), planned(scale, clients=2)
    side = updates + gaussian(1, scale, clients=2)
    payloads = compressor.encode(updates, public)
    estimates, failed = compressor.decode_checked(payloads, side, public)
    assert not failed.any()
    error = float((estimates - updates).double().square().mean()) / scale**2
    assert 0.4 < gap_db(error, 8 * len(payloads[0]) / DIM) < 1.35


@pytest.mark.parametrize("estimator", ["plain", "posterior_mean"])
def test_the_error_and_the_gain_of_syndromes_are_as_stated(estimator):
    compressor, dim, scale = SlepianWolfTrellis(2, estimator), 2**15, 0.1
    updates, residuals = gaussian(0, dim=dim), gaussian(1, scale / 1.2, dim)
    side = updates - residuals
    payloads = compressor.encode(updates, planned(scale))
    estimates = compressor.decode(payloads, side, planned(scale))
    gain = float((estimates - side).square().sum() / residuals.square().sum())
    assert gain == pytest.approx(compressor.residual_gain(dim, 1.2), rel=0.03)
    if estimator == "plain":
        _, code = compressor._code(dim)
        variance = code.quantizer.error * scale**2
        assert float((estimates - updates).square().mean()) == pytest.approx(variance, rel=0.03)


def test_the_posterior_mean_of_syndromes_errs_as_the_best_share_of_a_gaussian_distance():
    """E (r - a (r + e))**2 is least for a = 1 / (1 + E e**2), in units of the scale."""
    compressor, dim, scale = SlepianWolfTrellis(1.5, "posterior_mean"), 2**15, 0.1
    updates, public = gaussian(0, dim=dim), planned(scale)
    side = updates + gaussian(1, 0.95 * scale, dim)
    estimates, failed = compressor.decode_checked(compressor.encode(updates, public), side, public)
    assert not failed.any()
    error = compressor._code(dim)[1].quantizer.error
    expected = scale**2 * (error + (0.95 * error) ** 2) / (1 + error) ** 2
    assert float((estimates - updates).square().mean()) == pytest.approx(expected, rel=0.03)


def test_several_blocks_are_several_paths():
    compressor, dim = SlepianWolfTrellis(2, block=1000), 3500
    updates = gaussian(0, dim=dim, clients=3)
    side, public = updates + gaussian(1, 0.05, dim, 3), planned(0.1, clients=3)
    payloads = compressor.encode(updates, public)
    estimates, failed = compressor.decode_checked(payloads, side, public)
    assert not failed.any()
    _, code = compressor._code(dim)
    assert code.count == 875
    assert code.quantizer.trellis_coded
    error = float((estimates - updates).square().mean())
    assert error == pytest.approx(code.quantizer.error * 0.1**2, rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_tiny_blocks_have_a_design(count):
    for bits in (count, 2 * count, 16 * count):
        made = design(count, bits, trellis_coded=True)
        assert sum(made.sizes) <= bits


@pytest.mark.parametrize(("dim", "bitrate"), [(7850, 0.1), (7850, 1), (2**17, 0.25)])
def test_few_bits_go_to_a_subset_and_that_errs_less(dim, bitrate):
    """Than one by one with a bit each; unbiased in both cases."""
    allocation, code = SlepianWolfTrellis(bitrate)._code(dim)
    assert allocation.count == pytest.approx(dim * bitrate / 1.3, abs=1)
    assert sum(code.sizes) <= dim * bitrate
    one_by_one = SlepianWolf(bitrate).residual_gain(dim, 1.0)
    assert SlepianWolfTrellis(bitrate).residual_gain(dim, 1.0) < one_by_one


def test_chances_of_a_quantizer_add_up():
    for quantizer in (Quantizer(0.7, False), Quantizer(0.7, True)):
        lower = (np.arange(-40, 40) + 0.3) * 0.7
        assert quantizer.chance(lower).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "setting",
    [
        {"rounding": "stochastic"},
        {"reach": 2.0},
        {"rotation": False},
        {"estimator": "posterior_mean"},
    ],
)
def test_what_it_can_not_do_is_refused(setting):
    message = (
        "^wyner_ziv_trellis takes rounding=dither, reach=null, rotation=true and estimator plain or"
        r" wiener; got WynerZivTrellis\(bitrate=4"
    )
    with pytest.raises(InputError, match=message):
        WynerZivTrellis(4, **setting)
