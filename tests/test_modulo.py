"""The modulo quantizer's parts, against what their definitions say, number by number."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from wzfl.compressors import modulo, posterior
from wzfl.compressors.cells import E8, Scalar, TrellisCoded
from wzfl.compressors.posterior import posterior_mean
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.public import Public
from wzfl.theory import best_reach, modulo_moments, modulo_step

ROWS, COUNT = 2, 30


def planned(scale, clients=ROWS):
    return Public(0, 3, tuple(range(clients)), torch.full((clients,), scale))


def numbers(seed, deviation=1.0, count=COUNT):
    generator = torch.Generator().manual_seed(seed)
    return deviation * torch.randn(ROWS, count, generator=generator)


def every_fourth(blocks):
    """Four sums of the block numbers `[count]`, each modulo 256."""
    return [sum(block % 256 for block in blocks[first::4]) for first in range(4)]


@pytest.mark.parametrize("bits", [1, 4, 8, 9, 16])
def test_symbols_and_sums_are_their_formulas(bits):
    values, noise = numbers(0, 40.0), planned(1.0).uniform("rounding", COUNT)
    cell, covered = torch.tensor([0.3, 0.01], dtype=torch.float64), COUNT - 7
    symbols, sums = modulo.fold(values, noise, cell, bits, covered)
    assert symbols.dtype == (torch.uint8 if bits <= 8 else torch.int32)
    indices = np.floor(values.double().numpy() / cell[:, None].numpy() + noise.numpy())
    assert np.array_equal(symbols.numpy(), indices % 2**bits)
    blocks = (indices // 2**bits)[:, :covered]
    assert sums.tolist() == [every_fourth(row) for row in blocks]


def test_sums_are_exact_where_float32_would_round():
    blocks = (torch.arange(2**21) % 251).float()[None]
    assert modulo.sums(blocks).tolist() == [every_fourth(blocks[0].long().tolist())]


@pytest.mark.parametrize("dithered", [True, False])
def test_a_symbol_stands_for_the_value_nearest_to_what_is_expected(dithered):
    """In the middle of its cell less the dither, or at its start; a whole number of periods away."""
    bits, covered = 3, COUNT - 7
    values, expected = numbers(0, 9.0), numbers(0, 9.0) + numbers(1, 0.2)
    cell = torch.tensor([0.3, 0.5], dtype=torch.float64)
    noise = planned(1.0).uniform("rounding", COUNT)
    symbols, sums = modulo.fold(values, noise, cell, bits, covered)
    shift = 0.5 - noise if dithered else 0.0
    distances, their_sums = modulo.unfold(
        symbols, noise if dithered else None, expected, cell, bits, covered
    )
    periods = (expected + distances) / cell[:, None] - symbols - shift
    assert torch.allclose(periods, (periods / 8).round() * 8, atol=1e-4)
    assert (distances.abs() <= 4 * cell[:, None] + 1e-6).all()
    assert torch.equal(sums.remainder(256), their_sums.remainder(256))


@pytest.mark.parametrize("noise", [None, torch.zeros(2, 5)])
def test_what_is_not_on_a_cpu_is_left_to_torch(noise):
    """On torch's device without memory, where only shapes and types are computed."""
    values, cell = (
        torch.zeros(2, 5, device="meta"),
        torch.ones(2, dtype=torch.float64, device="meta"),
    )
    on_meta = torch.zeros(2, 5, device="meta")
    symbols, sums = modulo.fold(values, on_meta, cell, 3, 4)
    assert (symbols.device.type, symbols.shape, symbols.dtype) == ("meta", (2, 5), torch.int32)
    assert (sums.device.type, sums.shape) == ("meta", (2, 4))
    distances, sums = modulo.unfold(
        symbols, None if noise is None else noise.to("meta"), values, cell, 3, 4
    )
    assert (distances.device.type, distances.shape, distances.dtype) == (
        "meta",
        (2, 5),
        torch.float32,
    )
    assert (sums.device.type, sums.shape) == ("meta", (2, 4))


@pytest.mark.parametrize(("levels", "reach"), [(2, 1.2), (4, 2.5), (16, 4.0)])
def test_the_posterior_mean_is_an_integral_over_the_nearest_cells(levels, reach):
    cell = modulo_step(levels, reach, "dither")
    period = levels * cell
    offsets = np.linspace(-period / 2, period / 2, 9)
    found = posterior_mean(torch.from_numpy(offsets), levels, reach)
    for offset, mean in zip(offsets, found.tolist(), strict=True):
        places = [offset + block * period for block in (-1, 0, 1)]
        bounds = [(place - cell / 2, place + cell / 2) for place in places]
        chance = sum(quad(norm.pdf, *each)[0] for each in bounds)
        moment = sum(quad(lambda r: r * norm.pdf(r), *each)[0] for each in bounds)
        assert mean == pytest.approx(moment / chance, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("far", [8.0, 17.0, 36.0])
def test_the_posterior_mean_keeps_its_digits_far_out(far):
    """On either side; there it is the cell's nearer end and what the tail adds, less than 1 / end."""
    offset = torch.tensor([-far, far], dtype=torch.float64)
    low, high = posterior_mean(offset, 64, 40.0).tolist()
    end = far - modulo_step(64, 40.0, "dither") / 2
    assert low == pytest.approx(-high, rel=1e-12)
    assert end < high < end + 1 / end


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_a_table_tells_the_posterior_mean(bits):
    """Of Gaussian residuals, half of which are up to 10 times as large as planned."""
    levels, reach = 2**bits, best_reach(2**bits, "dither", "posterior_mean")
    residuals = numbers(0, 1.0, 5000) * torch.tensor([1.0, 10.0])[:, None]
    period = levels * modulo_step(levels, reach, "dither")
    offsets = residuals - period * torch.round(residuals / period)
    scale = torch.tensor([0.3, 40.0])
    found = posterior.estimates(offsets * scale[:, None], scale, levels, reach)
    error = found / scale[:, None] - posterior_mean(offsets.double(), levels, reach)
    assert found.dtype == torch.float32
    assert float(error[0].square().mean()) < 1e-12
    assert float(error.abs().max()) < 1e-3


def test_posterior_means_stay_where_distances_are():
    found = posterior.estimates(numbers(0).to("meta"), torch.ones(ROWS, device="meta"), 4, 2.5)
    assert (found.device.type, found.shape, found.dtype) == ("meta", (ROWS, COUNT), torch.float32)


def test_the_table_ends_where_no_symbol_is():
    """Whatever side information comes: infinite, or no number at all."""
    distances = torch.tensor([[0.0, -0.0, 1e30, -torch.inf, torch.nan]])
    found = posterior.estimates(distances, torch.tensor([0.1]), 4, 2.5)
    half_a_period = torch.tensor([2 * modulo_step(4, 2.5, "dither")], dtype=torch.float64)
    farthest = 0.1 * posterior_mean(half_a_period, 4, 2.5).item()
    assert found[0, :2].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert found[0, 2:4].tolist() == pytest.approx([farthest, -farthest], abs=1e-3)
    assert found.isfinite().all()


def test_beyond_what_float64_can_tell_the_posterior_mean_is_finite():
    found = posterior_mean(torch.tensor([-500.0, -40.0, 40.0, 500.0]).double(), 4, 400.0)
    assert found.isfinite().all()


def test_a_posterior_mean_far_beyond_the_plan_is_decoded():
    """Where cells reach 12 deviations, residuals of three planned ones each are within reach."""
    compressor = WynerZiv(8, estimator="posterior_mean", reach=12.0)
    updates, residuals, public = numbers(0, 1.0, 4000), numbers(1, 0.3, 4000), planned(0.1)
    payloads = compressor.encode(updates, public)
    decoded, failed = compressor.decode_checked(payloads, updates + residuals, public)
    assert not failed.any()
    cell = 0.1 * modulo_step(256, 12.0, "dither")
    assert float((decoded - updates).square().mean()) == pytest.approx(cell**2 / 12, rel=0.05)


def test_a_scalar_quantizer_reaches_as_far_as_is_set_or_best():
    assert Scalar("dither", 3.5, "plain").reach_of(2) == 3.5
    for rounding, estimator in (("dither", "plain"), ("stochastic", "plain"), ("dither", "wiener")):
        scalar = Scalar(rounding, None, estimator)
        reach = best_reach(8, rounding, estimator)
        assert scalar.reach_of(3) == reach
        assert scalar.step(3) == modulo_step(8, reach, rounding)
        assert scalar.moments(3, 0.7) == modulo_moments(8, reach, rounding, 0.7)
        assert scalar.moments(3) == modulo_moments(8, reach, rounding, 1.0)


def test_finer_cells_have_moments_nearer_to_the_residual_s():
    for cells in (E8(), TrellisCoded(), Scalar("dither", None, "plain")):
        energies = [cells.moments(bits, 0.9).energy for bits in (1, 4, 8)]
        assert energies == sorted(energies, reverse=True)
        assert energies[-1] == pytest.approx(0.81, rel=1e-3)
        assert cells.moments(2) == cells.moments(2, 1.0)


@pytest.mark.parametrize("rounding", ["dither", "stochastic"])
@pytest.mark.parametrize("bitrate", [0.5, 2, 2.5])
def test_without_a_rotation_it_is_its_formula(bitrate, rounding):
    """Bits of the widest symbols first, coordinates in the shared order, and an unbiased subset."""
    compressor = WynerZiv(bitrate, rounding, reach=3.0, rotation=False)
    update, public = numbers(0, 1.0, 200), planned(0.2)
    side = update + numbers(1, 0.1, 200)
    allocation = compressor._allocation(200)
    sent = allocation.gather(update, public).double()
    expected = allocation.gather(side, public).double()
    noise = public.uniform("rounding", allocation.count)
    parts = []
    for bits, columns in allocation.widths:
        cell = 0.2 * modulo_step(2**bits, 3.0, rounding)
        index = torch.floor(sent[:, columns] / cell + noise[:, columns])
        point = index + (0.5 - noise[:, columns] if rounding == "dither" else 0.0)
        distance = point * cell - expected[:, columns]
        period = cell * 2**bits
        parts.append(distance - period * torch.round(distance / period))
    gain = 200 / allocation.count
    moved = allocation.scatter((gain * torch.cat(parts, dim=1)).float(), public)
    decoded = compressor.decode(compressor.encode(update, public), side, public)
    torch.testing.assert_close(decoded, side + moved)
