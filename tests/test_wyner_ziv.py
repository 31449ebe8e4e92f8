from math import log

import pytest
import torch
from scipy.stats import kstest, spearmanr, uniform

import wzfl
from wzfl.compressors import overflow, uses_failed
from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.overflow import CHECK_BYTES
from wzfl.compressors.slepian_wolf import SlepianWolf
from wzfl.compressors.slepian_wolf_trellis import SlepianWolfTrellis
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.compressors.wyner_ziv_e8 import WynerZivE8
from wzfl.compressors.wyner_ziv_trellis import WynerZivTrellis
from wzfl.public import Public
from wzfl.theory import (
    best_reach,
    gap_db,
    modulo_distortion,
    modulo_moments,
    modulo_step,
    posterior_energy,
    wyner_ziv_limit,
)

CLIENTS, DIM, ROUNDS = 4, 65_537, 16


def planned(scale, clients=CLIENTS, round=0):
    return Public(0, round, tuple(range(clients)), torch.full((clients,), scale))


def gaussian(seed, scale=1.0):
    return scale * torch.randn(CLIENTS, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rounding", ["dither", "stochastic"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_error_is_the_predicted_one_and_never_below_the_limit(bits, rounding):
    compressor = WynerZiv(bits, rounding)
    scale, errors = 0.1, []
    for round in range(ROUNDS):
        updates = 10 * gaussian(2 * round)
        side = updates + gaussian(2 * round + 1, scale)
        public = planned(scale, round=round)
        payloads = compressor.encode(updates, public)
        errors.append((compressor.decode(payloads, side, public) - updates).square().mean())
    error = float(torch.stack(errors).mean())
    expected = modulo_distortion(2**bits, compressor._scalar.reach_of(bits), rounding) * scale**2
    # Rare overflows make it vary by up to 4 % from round to round.
    assert error == pytest.approx(expected, rel=4 * 0.04 / ROUNDS**0.5)
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


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_mq_is_exact_if_and_only_if_the_point_is_within_half_a_period(bits):
    """x^ = z e if and only if |z e - y| < k e / 2 (Mayekar, Suresh, Tyagi 2021)."""
    rows = 600
    compressor, public = WynerZiv(bits, "stochastic", reach=1.0, rotation=False), planned(1.0, rows)
    generator = torch.Generator().manual_seed(0)
    updates = 5 * torch.randn(rows, 1, generator=generator)
    cell, levels = modulo_step(2**bits, 1.0, "stochastic"), 2**bits
    points = cell * torch.floor(updates / cell + public.uniform("rounding", 1))
    distance = levels * cell * (torch.rand(rows, 1, generator=generator) * 2 - 1)
    estimates = compressor.decode(compressor.encode(updates, public), points + distance, public)
    exact = (estimates - points).abs() < cell / 4
    assert torch.equal(exact, distance.abs() < levels * cell / 2)
    assert 0.3 < float(exact.float().mean()) < 0.7


def test_the_error_of_dither_is_uniform_and_independent_of_the_update():
    compressor, public = WynerZiv(4, reach=6.0, rotation=False), planned(0.05, 1)
    update = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(1))
    estimate = compressor.decode(compressor.encode(update, public), update, public)
    error = ((estimate - update) / (0.05 * modulo_step(16, 6.0, "dither")))[0].numpy()
    assert kstest(error, uniform(-0.5, 1).cdf).pvalue > 0.05
    assert abs(spearmanr(error, update[0].numpy()).statistic) < 0.02


@pytest.mark.parametrize(("bits", "gap"), [(2, 7.6), (3, 8.0), (4, 8.6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gap_to_the_limit_with_good_side_information(bits, gap, seed):
    """On measured bytes; the published quantizer at its best reach is 2.5 dB further off."""
    updates, gaps = gaussian(seed), {}
    side = updates + gaussian(seed + 10, 0.1)
    for rounding in ("dither", "stochastic"):
        compressor = WynerZiv(bits, rounding)
        payloads = compressor.encode(updates, planned(0.1))
        error = (compressor.decode(payloads, side, planned(0.1)) - updates).square().mean()
        variance = float((updates - side).square().mean())
        gaps[rounding] = gap_db(float(error) / variance, 8 * len(payloads[0]) / DIM)
    assert 0 < gaps["dither"] <= gap
    assert gaps["dither"] + 2 < gaps["stochastic"]


@pytest.mark.parametrize("bitrate", [0.25, 0.5, 1, 2, 3, 4])
def test_side_information_with_a_tenth_of_the_energy_beats_eden(bitrate):
    updates = gaussian(0)
    side = updates + gaussian(1, 0.0999**0.5)
    errors = {}
    for name in ("wyner_ziv", "eden"):
        compressor = wzfl.build_compressor(name, bitrate=bitrate)
        public = planned(0.0999**0.5)
        payloads = compressor.encode(updates, public)
        errors[name] = (compressor.decode(payloads, side, public) - updates).norm()
    assert errors["wyner_ziv"] < errors["eden"]


@pytest.mark.parametrize("bitrate", [0.5, 1, 2, 3])
@pytest.mark.parametrize("estimator", ["wiener", "posterior_mean"])
def test_shrinking_estimators_err_as_predicted_and_less_than_the_plain_one(bitrate, estimator):
    updates = gaussian(0)
    side = updates + gaussian(1, 0.1)
    errors = {}
    for name in ("plain", estimator):
        compressor = WynerZiv(bitrate, estimator=name)
        payloads = compressor.encode(updates, planned(0.1))
        decoded = compressor.decode(payloads, side, planned(0.1))
        errors[name] = float((decoded - updates).square().mean() / 0.1**2)
    assert errors[estimator] < errors["plain"]
    bits = max(2, int(bitrate))
    reach = best_reach(2**bits, "dither", estimator)
    distortion = modulo_distortion(2**bits, reach, "dither", estimator=estimator)
    assert errors[estimator] == pytest.approx(1 - bitrate / bits * (1 - distortion), rel=0.03)


@pytest.mark.parametrize("symbol_bits", [1, 2, 3, 4])
def test_bitrates_below_a_symbol_send_a_subset(symbol_bits):
    updates = gaussian(0)
    side = updates + gaussian(1, 0.1)
    compressor = WynerZiv(0.5, symbol_bits=symbol_bits)
    payloads = compressor.encode(updates, planned(0.1))
    assert 8 * len(payloads[0]) / DIM == pytest.approx(0.5, rel=0.02)
    decoded = compressor.decode(payloads, side, planned(0.1))
    gain = float((decoded - side).square().mean() / 0.1**2)
    assert compressor.residual_gain(DIM, 1.0) == pytest.approx(gain, rel=0.05)


def test_where_bitrates_are_not_whole_coordinates_pay_for_the_checksum():
    """32 of the 500 that would take a bit more; at whole ones it comes on top."""
    assert WynerZiv(2.5)._allocation(1000).widths == ((3, slice(0, 468)), (2, slice(468, 1000)))
    assert WynerZiv(2)._allocation(1000).widths == ((2, slice(0, 1000)),)


@pytest.mark.parametrize("bitrate", [0.1, 1, 2, 2.5, 4, 8])
@pytest.mark.parametrize("estimator", ["plain", "posterior_mean"])
def test_a_wrong_scale_is_noticed_and_a_right_one_is_not(bitrate, estimator):
    compressor = WynerZiv(bitrate, estimator=estimator, on_failure="side")
    updates = gaussian(0)
    for ratio, expected in ((0.25, False), (1.0, False), (3.0, True), (30.0, True), (1e6, True)):
        side = updates + gaussian(1, 0.1 * ratio)
        payloads = compressor.encode(updates, planned(0.1))
        estimates, failed = compressor.decode_checked(payloads, side, planned(0.1))
        assert failed.tolist() == [expected] * CLIENTS, ratio
        if expected:
            torch.testing.assert_close(estimates, side)


def test_a_right_scale_is_never_called_wrong():
    """Over 8000 payloads of few coordinates and of many, at the planned scale itself."""
    for dim, rows in ((64, 6000), (4096, 2000)):
        updates = torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))
        side = updates + torch.randn(rows, dim, generator=torch.Generator().manual_seed(1))
        payloads = WynerZiv(2).encode(updates, planned(1.0, rows))
        _, failed = WynerZiv(2).decode_checked(payloads, side, planned(1.0, rows))
        assert not failed.any()


@pytest.mark.parametrize("magnitude", [2.0**-100, 1.0, 2.0**100])
def test_clipping_keeps_the_planned_distance(magnitude):
    compressor, updates = WynerZiv(2, on_failure="clip"), gaussian(0, magnitude)
    side = updates + gaussian(1, 5.0 * magnitude)
    public = planned(0.1 * magnitude)
    payloads = compressor.encode(updates, public)
    estimates, failed = compressor.decode_checked(payloads, side, public)
    assert failed.all()
    distance = torch.linalg.vector_norm((estimates - side) / magnitude, dim=1)
    torch.testing.assert_close(distance, torch.full((CLIENTS,), 0.1 * DIM**0.5))


@pytest.mark.parametrize("magnitude", [1e-30, 1.0])
@pytest.mark.parametrize(("rounding", "reach"), [("dither", None), ("stochastic", 2.628)])
@pytest.mark.parametrize("bits", [4, 14, 15, 16])
def test_a_client_s_own_reach_covers_its_largest_coordinate(bits, rounding, reach, magnitude):
    """However the scale, largest / reach, was rounded."""
    clients = 4000
    compressor = WynerZiv(bits, rounding, reach=reach, rotation=False)
    updates = torch.randn(clients, 4, generator=torch.Generator().manual_seed(bits)) * magnitude
    public = planned(0.0, clients)
    payloads = compressor.encode(updates, public)
    estimates, failed = compressor.decode_checked(payloads, torch.zeros_like(updates), public)
    assert not failed.any()
    errors = (estimates - updates).abs().amax(dim=1) / updates.abs().amax(dim=1)
    assert errors.max() < 4 / 2**bits


@pytest.mark.parametrize("rotation", [True, False])
def test_the_smallest_numbers_are_read(rotation):
    """Whose scale is rounded to 0."""
    compressor, update = WynerZiv(4, rotation=rotation), torch.zeros(1, 50)
    update[0, 3] = 1e-45
    public = planned(0.0, 1)
    estimates = compressor.decode(compressor.encode(update, public), torch.zeros(1, 50), public)
    assert float(estimates.abs().max()) < 1e-40


def test_an_unplanned_client_is_decoded_without_side_information():
    updates, nonsense = gaussian(0), gaussian(5, 100.0)
    public = planned(0.0)
    payloads = WynerZiv(4).encode(updates, public)
    estimates = WynerZiv(4).decode(payloads, nonsense, public)
    assert torch.equal(estimates, WynerZiv(4).decode(payloads, torch.zeros(CLIENTS, DIM), public))


@pytest.mark.parametrize("scale", [0.1, 0.0])
def test_whose_payload_is_damaged_is_said(scale):
    """Also where it is read before it is checked."""
    public, updates = planned(scale), torch.ones(CLIENTS, 70)
    *others, last = WynerZiv(2).encode(updates, public)
    for damaged in (last[:-1], last[:20], last + b"0", last[:8] + b"0" + last[9:]):
        with pytest.raises(wzfl.PayloadError, match=f"payload of client {CLIENTS - 1}: got check"):
            WynerZiv(2).decode([*others, damaged], updates, public)
    body = bytes(open_rows(WynerZiv(2), [last], 70, public.rows(slice(3, 4)))[0])
    (forged,) = seal_rows(WynerZiv(2), [body[:-1]], 70, public.rows(slice(3, 4)))
    with pytest.raises(wzfl.PayloadError, match=f"got a body of {len(body) - 1} bytes; expected"):
        WynerZiv(2).decode([*others, forged], updates, public)


@pytest.mark.parametrize("bitrate", [0.25, 0.5, 1, 2, 2.5])
@pytest.mark.parametrize("estimator", ["plain", "wiener", "posterior_mean"])
def test_the_residual_gain_is_the_measured_one(bitrate, estimator):
    compressor = WynerZiv(bitrate, estimator=estimator)
    updates = gaussian(0)
    side = updates + gaussian(1, 0.1)
    public = planned(0.12)
    estimates = compressor.decode(compressor.encode(updates, public), side, public)
    gain = float((estimates - side).square().sum() / (updates - side).square().sum())
    assert compressor.residual_gain(DIM, scale_ratio=1.2) == pytest.approx(gain, rel=0.06)


@pytest.mark.parametrize("bitrate", [0.5, 3, 3.25])
@pytest.mark.parametrize("estimator", ["plain", "wiener", "posterior_mean"])
def test_the_residual_gain_is_that_of_the_theory(bitrate, estimator):
    """The mean of the widths', of the coordinates that are sent; the plain one makes up for the others."""
    compressor, dim = WynerZiv(bitrate, estimator=estimator), 1000
    allocation, energy = compressor._allocation(dim), 0.0
    for bits, columns in allocation.widths:
        quantizer = 2**bits, best_reach(2**bits, "dither", estimator)
        planned_for, as_is = (modulo_moments(*quantizer, "dither", r) for r in (1.0, 1 / 1.2))
        gain = {
            "plain": as_is.energy,
            "wiener": as_is.energy * (planned_for.correlation / planned_for.energy) ** 2,
            "posterior_mean": posterior_energy(*quantizer, 1 / 1.2),
        }
        energy += gain[estimator] * (columns.stop - columns.start) / allocation.count
    sampled = allocation.count / dim
    expected = 1.2**2 * energy * (1 / sampled if estimator == "plain" else sampled)
    assert compressor.residual_gain(dim, 1.2) == pytest.approx(expected)


def test_only_rows_that_fail_are_clipped():
    updates, scale = gaussian(0), torch.tensor([0.1, 0.1, 0.2, 0.1])
    side = updates + torch.tensor([[0.1], [5.0], [0.2], [5.0]]) * gaussian(1)
    public, fails = Public(0, 0, tuple(range(CLIENTS)), scale), [False, True, False, True]
    for on_failure, kept in (("clip", 1.0), ("side", 0.0)):
        compressor = WynerZiv(3, on_failure=on_failure)
        payloads = compressor.encode(updates, public)
        estimates, failed = compressor.decode_checked(payloads, side, public)
        assert failed.tolist() == fails
        distances = torch.linalg.vector_norm(estimates - side, dim=1)
        planned_norm = torch.full((2,), 0.1 * DIM**0.5)
        torch.testing.assert_close(distances[failed], kept * planned_norm, atol=1e-4, rtol=1e-4)
        errors = (estimates - updates)[~failed].square().mean(dim=1) / scale[~failed] ** 2
        assert (errors < 0.1).all()


def test_a_failed_row_that_is_near_anyway_is_not_lengthened():
    """A forged checksum fails a row whose residual is a tenth of the planned one."""
    compressor, public, updates = WynerZiv(4), planned(0.1, 1), gaussian(0)[:1]
    side = updates + gaussian(1, 0.01)[:1]
    payloads = compressor.encode(updates, public)
    plain, _ = compressor.decode_checked(payloads, side, public)
    (body,) = open_rows(compressor, payloads, DIM, public)
    sums = bytes((each + 128) % 256 for each in body[:CHECK_BYTES])
    forged = seal_rows(compressor, [sums + bytes(body[CHECK_BYTES:])], DIM, public)
    clipped, failed = compressor.decode_checked(forged, side, public)
    assert failed.tolist() == [True]
    assert torch.equal(clipped, plain)


def test_shrinking_loses_less():
    updates = gaussian(0)
    side = updates + gaussian(1, 0.1)
    errors = []
    for estimator in ("plain", "wiener"):
        compressor = WynerZiv(0.5, estimator=estimator)
        payloads = compressor.encode(updates, planned(0.1))
        errors.append((compressor.decode(payloads, side, planned(0.1)) - updates).norm())
    assert errors[1] < (side - updates).norm() < errors[0]


def test_the_published_preset_is_its_formula():
    """Trusted is sqrt(6 (D**2/dim) ln(D/delta)) per coordinate, for a residual of norm D."""
    preset = wzfl.build_compressor("wyner_ziv_rmq", bitrate=4)
    assert preset.rounding == "stochastic"
    assert preset.reach == pytest.approx((3 * log(10)) ** 0.5, abs=5e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rounding": "nearest"}, "rounding must be one of dither, stochastic; got 'nearest'"),
        ({"reach": 0.0}, "reach must be above 0, or null for the best; got 0.0"),
        ({"reach": -1.0}, "reach must be above 0, or null for the best; got -1.0"),
        ({"estimator": "best"}, "estimator must be one of plain, wiener, posterior_mean; got"),
        ({"on_failure": "ignore"}, "on_failure must be one of clip, side; got 'ignore'"),
        ({"symbol_bits": 0}, "symbol_bits must be 1 to 16 with rounding dither; got 0"),
        ({"symbol_bits": 17}, "symbol_bits must be 1 to 16 with rounding dither; got 17"),
        (
            {"symbol_bits": 1, "rounding": "stochastic"},
            "symbol_bits must be 2 to 16 with rounding stochastic; got 1",
        ),
        (
            {"estimator": "posterior_mean", "rounding": "stochastic"},
            "the posterior mean is that of dither; set rounding=dither",
        ),
    ],
)
def test_unusable_settings_are_refused(setting, message):
    with pytest.raises(wzfl.InputError, match=f"(^| ){message}"):
        wzfl.build_compressor("wyner_ziv", **setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"reach": 1e-3},
        {"symbol_bits": 1},
        {"symbol_bits": 16},
        {"symbol_bits": 2, "rounding": "stochastic"},
        {"estimator": "wiener", "rounding": "stochastic"},
        {"on_failure": "side"},
    ],
)
def test_what_is_at_the_bounds_is_taken(setting):
    compressor = WynerZiv(2, **setting)
    assert {name: getattr(compressor, name) for name in setting} == setting
    assert compressor.unbiased == (compressor.estimator == "plain")
    assert uses_failed(compressor) == (compressor.on_failure == "clip")


@pytest.mark.parametrize(
    ("compressor", "name", "highest"),
    [
        (WynerZiv, "wyner_ziv", 16.0),
        (WynerZivE8, "wyner_ziv_e8", 8.0),
        (WynerZivTrellis, "wyner_ziv_trellis", 16.0),
        (SlepianWolf, "slepian_wolf", 16.0),
        (SlepianWolfTrellis, "slepian_wolf_trellis", 16.0),
    ],
)
def test_bitrates_out_of_range_are_refused_with_the_range(compressor, name, highest):
    for bitrate in (0.02, highest):
        assert compressor(bitrate).bitrate == bitrate
    message = f"bitrate=17 is out of range for {name}: it takes 0.02 to {highest} bits"
    with pytest.raises(wzfl.InputError, match=message):
        compressor(17)


@pytest.mark.parametrize("name", ["wyner_ziv", "wyner_ziv_e8", "wyner_ziv_trellis"])
def test_where_the_sums_are_of_a_part_both_ends_take_the_same(name, monkeypatch):
    """Of vectors so long that overflows are many, and of fewer coordinates where few are too many."""
    monkeypatch.setattr(overflow, "_MOST_OVERFLOWS", 0.05)
    compressor, dim, scale = wzfl.build_compressor(name, bitrate=2), 500, 0.01
    public = Public(0, 0, (0,), torch.tensor([scale]))
    update, residual = torch.randn(2, 1, dim, generator=torch.Generator().manual_seed(0))
    side = update + 0.1 * scale * residual
    _, failed = compressor.decode_checked(compressor.encode(update, public), side, public)
    assert not failed.any()
