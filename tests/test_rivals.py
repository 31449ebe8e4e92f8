"""Published properties of the compressors without side information."""

import struct
from math import lgamma, log, log2, pi

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

import wzfl
from wzfl.compressors.correlated import Correlated
from wzfl.compressors.daq import DAQ
from wzfl.compressors.eden import Eden
from wzfl.compressors.k_level import StochasticKLevel
from wzfl.compressors.qsgd import QSGD
from wzfl.compressors.qsgd_elias import QSGDElias
from wzfl.compressors.randk import RandK
from wzfl.compressors.scaled_sign import ScaledSign
from wzfl.compressors.signsgd import SignSGD
from wzfl.compressors.terngrad import TernGrad
from wzfl.compressors.topk import TopK
from wzfl.entropy import decode_positions, encode_positions
from wzfl.frame import OVERHEAD_BYTES
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back


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
    positions = np.sort(np.random.default_rng(0).choice(dim, ones, replace=False))
    subsets = (lgamma(dim + 1) - lgamma(ones + 1) - lgamma(dim - ones + 1)) / log(2)
    body = encode_positions(positions, dim)
    assert 8 * len(body) <= 1.01 * subsets + 64
    assert (decode_positions(body, dim, ones) == positions).all()


@given(st.lists(st.integers(0, 4999), unique=True, max_size=60))
@settings(deadline=None)  # the first call compiles
@example([4999])
@example([0])
def test_any_positions_are_read_back(positions):
    """Among them gaps far longer than any that positions chosen at random leave."""
    positions = np.sort(np.array(positions, dtype=np.int64))
    body = encode_positions(positions, 5000)
    assert (decode_positions(body, 5000, len(positions)) == positions).all()


def test_words_that_no_coder_wrote_are_refused():
    body = encode_positions(np.arange(20) * 7, 200)
    with pytest.raises(wzfl.PayloadError, match="coded positions are invalid"):
        decode_positions(b"\xff" * len(body), 200, 20)


@given(st.binary(max_size=64))
@settings(max_examples=300, deadline=None)
def test_damaged_positions_are_a_payload_error_or_positions(body):
    try:
        positions = decode_positions(body, 200, 20)
    except wzfl.PayloadError:
        return
    assert len(positions) == 20
    assert (np.diff(positions, prepend=-1) > 0).all()
    assert positions[-1] < 200


def test_signsgd_is_signs(public):
    updates = torch.tensor([[1.5, -2.0, 0.0], [-0.0, 1e-30, -1e30], [3.0, 3.0, -3.0]])
    expected = torch.tensor([[1.0, -1, 1], [1, 1, -1], [1, 1, -1]])
    assert torch.equal(estimate(SignSGD(), updates, public), expected)
    assert len(SignSGD().encode(updates, public)[0]) == 1 + OVERHEAD_BYTES


def nmse(estimates, updates):
    return float((estimates - updates).square().sum() / updates.square().sum())


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bits", "published"), [(1, 0.571), (2, 0.133), (3, 0.0358), (4, 0.0096)])
def test_eden_errs_as_published(bits, published):
    """D / (1 - D) of the Lloyd-Max quantizer, Vargaftik et al. (ICML 2022)."""
    updates = gaussian(4, 2**17)
    error = nmse(estimate(Eden(bits), updates, Public(0, 0, range(4))), updates)
    assert error == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("bitrate", [0.1, 0.5, 1.5, 2.25])
@pytest.mark.parametrize("scale", ["unbiased", "least_error"])
def test_eden_at_any_rate_errs_as_it_states(bitrate, scale):
    updates = gaussian(8, 2**15)
    compressor = Eden(bitrate, scale)
    error = nmse(estimate(compressor, updates, Public(0, 0, range(8))), updates)
    assert compressor.relative_variance(2**15) == pytest.approx(error, rel=0.03)


def test_random_coordinates_err_as_stated():
    updates, compressor = gaussian(200, 1000), RandK(4, value_bits=32)
    error = nmse(estimate(compressor, updates, Public(0, 0, range(200))), updates)
    assert compressor.relative_variance(1000) == 7
    assert error == pytest.approx(7, rel=0.05)


def test_eden_says_nothing_where_the_coordinates_that_it_sends_are_zero():
    """Two passes over two coordinates bring a spike back, and only one of the two is sent."""
    updates, public = torch.tensor([[1e20, 0.0]]).expand(50, -1), Public(0, 0, range(50))
    estimates = estimate(Eden(0.5), updates, public)
    assert estimates.isfinite().all()
    assert (estimates == 0).all(dim=1).any()


def test_drive_is_the_scaled_sign_of_rotated_coordinates():
    updates = gaussian(1, 1000)
    public = Public(0, 0, (0,))
    drive = wzfl.build_compressor("drive")
    rotated = rotate(updates, public)
    scale = updates.square().sum() / rotated.abs().sum()
    expected = rotate_back(scale * rotated.sign(), public)
    torch.testing.assert_close(estimate(drive, updates, public), expected)


def test_scaled_sign_of_a_gaussian_vector_errs_as_published():
    updates = gaussian(4, 2**17)
    error = nmse(estimate(ScaledSign(), updates, Public(0, 0, range(4))), updates)
    assert error == pytest.approx(1 - 2 / pi, rel=0.01)
    assert error == pytest.approx(0.3634, rel=0.01)


ADVERSARIES = {
    "gaussian": gaussian(600),
    "spike": torch.eye(600)[3],
    "equal": torch.full((600,), -0.7),
    "sparse": gaussian(600) * (torch.arange(600) < 20),
    "two scales": torch.where(torch.arange(600) < 5, 1000.0, 1.0),
    "ramp": torch.arange(1, 601) ** -1.0,
}


@pytest.mark.parametrize("kind", ADVERSARIES)
@pytest.mark.parametrize("bitrate", [1, 2, 4])
@pytest.mark.parametrize("code", ["omega", "gamma"])
def test_elias_coded_qsgd_meets_its_variance_bound(code, bitrate, kind):
    """E|error|**2 <= min(d / s**2, sqrt(d) / s) |x|**2, Alistarh et al. (2017), lemma 3.1."""
    draws, vector = 300, ADVERSARIES[kind]
    updates, public = vector.expand(draws, -1), Public(0, 0, range(draws))
    payloads = QSGDElias(bitrate, code).encode(updates, public)
    errors = QSGDElias(bitrate, code).decode(payloads, updates, public) - updates
    norm, dim = float(vector.norm()), len(vector)
    levels = torch.tensor([norm / struct.unpack_from("<f", p, 6)[0] for p in payloads])
    bound = torch.minimum(dim / levels**2, dim**0.5 / levels) * norm**2
    assert float(errors.square().sum(dim=1).mean()) <= 1.001 * float(bound.mean())
    assert max(map(len, payloads)) <= bitrate * dim / 8 + 1 + OVERHEAD_BYTES


def test_elias_coded_qsgd_takes_the_bits_that_theory_says():
    """At s = sqrt(d), at most 2.8 d + 32 bits (Alistarh et al. 2017, corollary 3.3)."""
    dim = 10_000
    updates, public = gaussian(1, dim), Public(0, 0, (0,))
    compressor = QSGDElias(2.8)
    (payload,) = compressor.encode(updates, public)
    levels = float(updates.norm()) / struct.unpack_from("<f", payload, 6)[0]
    assert levels >= dim**0.5


@pytest.mark.parametrize(("dim", "bitrate"), [(10, 4), (15, 4), (30, 2), (40, 2)])
def test_elias_coded_qsgd_sends_something_of_short_vectors_too(dim, bitrate):
    """Whose header alone takes what they may."""
    updates, public = gaussian(1000, dim), Public(0, 0, range(1000))
    payloads = QSGDElias(bitrate).encode(updates, public)
    estimates = QSGDElias(bitrate).decode(payloads, updates, public)
    assert estimates.any(dim=1).all()
    assert max(map(len, payloads)) <= bitrate * dim / 8 + 8 + 1 + OVERHEAD_BYTES


@pytest.mark.parametrize("rotation", [True, False])
def test_daq_takes_zero_for_less_than_everything(rotation):
    """Its range is the lowest, and the side information is cut off there."""
    updates, public = torch.zeros(1, 1000), Public(0, 1, (0,), torch.tensor([1e-3]))
    payloads = DAQ(rotation).encode(updates, public)
    assert (
        float(DAQ(rotation).decode(payloads, 1e-3 * gaussian(1, 1000), public).abs().max()) < 1e-30
    )


@pytest.mark.parametrize("kind", ADVERSARIES)
@pytest.mark.parametrize("rotation", [True, False])
def test_k_level_meets_its_variance_bound(kind, rotation):
    """Rounding within a step of the range: E|error|**2 <= d (range / (k - 1))**2 / 4."""
    draws, vector = 300, ADVERSARIES[kind]
    updates, public = vector.expand(draws, -1), Public(0, 0, range(draws))
    errors = estimate(StochasticKLevel(3, rotation), updates, public) - updates
    values = rotate(updates, public) if rotation else updates
    ranges = values.amax(dim=1) - values.amin(dim=1)
    bound = len(vector) * (ranges / 7).square() / 4
    assert float(errors.square().sum(dim=1).mean()) <= 1.001 * float(bound.mean()) + 1e-6


def test_correlated_errors_cancel_where_updates_agree():
    """The mean of n equal vectors errs far less than 1/n of one, that of different ones still less."""
    clients, dim = 10, 4096
    equal = gaussian(1, dim).expand(clients, -1)
    different = gaussian(clients, dim)
    ratios = {}
    for kind, updates in (("equal", equal), ("different", different)):
        estimates = estimate(Correlated(2, clients), updates, Public(0, 0, range(clients)))
        mean_error = (estimates - updates).mean(dim=0).square().sum()
        ratios[kind] = float(mean_error * clients / (estimates - updates)[0].square().sum())
    assert ratios["equal"] < 0.25
    assert ratios["different"] < 0.7


def test_thresholds_of_a_cohort_are_strata():
    """One in each of p = 11 strata for 11 clients, and uniform for each client."""
    thresholds = Correlated(2, 11)._thresholds(5000, Public(0, 0, range(11)))
    strata = (thresholds * 11).floor().sort(dim=0).values
    assert torch.equal(strata, torch.arange(11.0)[:, None].expand(-1, 5000).to(strata))
    assert kstest(thresholds[3].numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("value_bits", [4, 8, 16, 32])
@pytest.mark.parametrize("sparsifier", [TopK, RandK])
def test_values_of_any_width_take_what_they_say(sparsifier, value_bits, public):
    updates = gaussian(3, 5000)
    compressor = sparsifier(0.5, value_bits)
    payloads = compressor.encode(updates, public)
    assert 8 * (len(payloads[0]) - OVERHEAD_BYTES) == pytest.approx(0.5 * 5000, rel=0.03)
    estimates = compressor.decode(payloads, updates, public)
    kept = estimates != 0
    scale = 1 if sparsifier is TopK else 5000 / compressor._kept(5000)
    error = (estimates[kept] / scale - updates[kept]).abs().max()
    largest = updates.abs().max()
    assert error <= largest * {4: 1 / 7, 8: 1 / 127, 16: 2**-11, 32: 1e-6}[value_bits]


def test_fewer_bits_for_values_leave_more_for_positions(public):
    updates = gaussian(3, 5000)
    kept = [int((estimate(TopK(1, bits), updates, public) != 0).sum()) for bits in (32, 16, 4)]
    assert kept == sorted(kept)


@pytest.mark.parametrize("coding", ["entropy", "packed"])
@pytest.mark.parametrize("clip", [None, 2.5])
@pytest.mark.parametrize("bucket", [None, 7, 1000])
def test_terngrad_is_ternary_whatever_the_coding(coding, clip, bucket, public):
    updates = gaussian(3, 2001)
    estimates = estimate(TernGrad(bucket, clip, coding), updates, public)
    assert torch.equal(estimates, estimate(TernGrad(bucket, clip, "entropy"), updates, public))
    assert (estimates * updates >= 0).all()
    for start in range(0, 2001, bucket or 2001):
        ours = estimates[:, start : start + (bucket or 2001)]
        scale = updates[:, start : start + (bucket or 2001)].abs().amax(dim=1, keepdim=True)
        magnitudes = ours.abs().amax(dim=1, keepdim=True)
        assert ((ours == 0) | (ours.abs() == magnitudes)).all()
        assert (magnitudes <= scale).all()


def test_terngrad_is_never_charged_one_bit(public):
    updates = gaussian(3, 10_000)
    packed = TernGrad(coding="packed").encode(updates, public)
    assert 8 * len(packed[0]) / 10_000 == pytest.approx(1.6, abs=0.02)
    compressor = TernGrad(coding="entropy")
    payloads = compressor.encode(updates, public)
    estimates = compressor.decode(payloads, updates, public)
    nonzero = float((estimates != 0).float().mean())
    entropy = nonzero - nonzero * log2(nonzero) - (1 - nonzero) * log2(1 - nonzero)
    assert 8 * len(payloads[0]) / 10_000 == pytest.approx(entropy, rel=0.03)


@pytest.mark.parametrize(("name", "digits"), [("bfloat16", 8), ("float16", 11)])
def test_casts_round_to_their_significant_bits(name, digits, public):
    updates = gaussian(3, 5000)
    estimates = estimate(wzfl.build_compressor(name), updates, public)
    large = updates.abs() > 0.01
    relative = ((estimates - updates) / updates).abs()[large].max()
    assert 0.5 * 2.0**-digits < relative <= 1.01 * 2.0**-digits


@pytest.mark.parametrize("rotation", [True, False])
def test_daq_meets_its_variance_bound_at_any_distance(rotation):
    """Variance at most 2M |x - y| per coordinate; with M a power of two up to twice the largest."""
    draws, dim = 400, 500
    updates = gaussian(dim).expand(draws, -1)
    public = Public(0, 0, range(draws), torch.ones(draws))
    compressor, errors = DAQ(rotation), []
    payloads = compressor.encode(updates, public)
    for distance in (1.0, 0.1, 0.001):
        side = updates + distance * gaussian(dim, seed=1)
        squares = (compressor.decode(payloads, side, public) - updates).square().sum(dim=1).mean()
        values = rotate(updates, public) if rotation else updates
        largest = 2 * values.abs().amax(dim=1, keepdim=True)
        apart = rotate(side - updates, public) if rotation else side - updates
        assert float(squares) <= float((2 * largest * apart.abs()).sum(dim=1).mean())
        errors.append(float(squares))
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < 0.2 * errors[1]


@pytest.mark.parametrize(
    ("compressor", "settings"),
    [
        ("eden", {"bitrate": 9}),
        ("eden", {"scale": "best"}),
        ("correlated", {"cohort": 0}),
        ("topk", {"compressor": {"value_bits": 12}}),
        ("randk", {"value_bits": 1}),
        ("terngrad", {"coding": "none"}),
        ("qsgd_elias", {"code": "delta"}),
        ("terngrad", {"bucket": 0}),
        ("terngrad", {"clip": 0}),
        ("bfloat16", {"format": "float8"}),
        ("diana", {"alpha": 0}),
        ("marina", {"full_rate": 2}),
        ("learned_slepian_wolf", {"block": 0}),
    ],
)
def test_unusable_settings_are_refused(compressor, settings):
    with pytest.raises(wzfl.InputError, match=r"got|out of range"):
        wzfl.build_compressor(compressor, **settings)
