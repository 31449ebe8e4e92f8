import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from wzfl.theory import (
    best_reach,
    gap_db,
    lloyd_max,
    lloyd_max_distortion,
    log2_binomial,
    modulo_distortion,
    modulo_moments,
    modulo_step,
    wyner_ziv_limit,
)


def test_the_limit_falls_six_decibels_per_bit():
    assert wyner_ziv_limit(0, 2.5) == 2.5
    assert gap_db(wyner_ziv_limit(1), 2) == pytest.approx(6.0206, abs=1e-4)


# Best steps, in dB above the Wyner-Ziv limit, from an independent simulation.
@pytest.mark.parametrize(
    ("bits", "rounding", "gap"),
    [
        (2, "dither", 7.1),
        (3, "dither", 7.5),
        (4, "dither", 8.1),
        (2, "stochastic", 10.0),
        (3, "stochastic", 10.3),
        (4, "stochastic", 10.7),
    ],
)
def test_modulo_quantizers_are_as_far_from_the_limit_as_simulated(bits, rounding, gap):
    distortion = modulo_distortion(2**bits, best_reach(2**bits, rounding), rounding)
    assert gap_db(distortion, bits) == pytest.approx(gap, abs=0.12)


@pytest.mark.parametrize(
    ("estimator", "gaps"),
    [("wiener", (4.1, 6.1, 7.1, 8.0)), ("posterior_mean", (4.0, 5.9, 7.3, 8.2))],
)
def test_estimators_are_as_far_from_the_limit_as_simulated(estimator, gaps):
    for bits, gap in zip((1, 2, 3, 4), gaps, strict=True):
        reach = best_reach(2**bits, "dither", estimator)
        distortion = modulo_distortion(2**bits, reach, "dither", estimator=estimator)
        # The simulation's steps were on a grid: ours may be up to 0.4 dB better.
        assert -0.4 < gap_db(distortion, bits) - gap < 0.12


def test_without_overflow_only_rounding_remains():
    cell = modulo_step(16, 8.0, "dither")
    assert modulo_distortion(16, 8.0, "dither") == pytest.approx(cell**2 / 12, rel=1e-6)
    cell = modulo_step(16, 10.0, "stochastic")
    assert modulo_distortion(16, 10.0, "stochastic") == pytest.approx(cell**2 / 6, rel=1e-3)


def test_distortion_by_another_integration():
    levels, reach, cell = 4, 1.5, modulo_step(4, 1.5, "dither")
    period = levels * cell

    def error(e):
        blocks = range(-6, 7)
        chance = [
            norm.cdf((b + 0.5) * period - e) - norm.cdf((b - 0.5) * period - e) for b in blocks
        ]
        return sum(p * (e - b * period) ** 2 for p, b in zip(chance, blocks, strict=True)) / cell

    expected, _ = quad(error, -cell / 2, cell / 2)
    assert modulo_distortion(levels, reach, "dither") == pytest.approx(expected, rel=1e-6)


def test_moments_by_simulation():
    generator = np.random.default_rng(0)
    levels, reach, cell = 4, 2.0, modulo_step(4, 2.0, "dither")
    residual = 1.3 * generator.standard_normal(2_000_000)
    landed = residual + cell * (generator.random(2_000_000) - 0.5)
    overflow = np.round(landed / (levels * cell))
    decoded = landed - overflow * levels * cell
    moments = modulo_moments(levels, reach, "dither", residual=1.3)
    assert moments.energy == pytest.approx((decoded**2).mean(), rel=0.005)
    assert moments.correlation == pytest.approx((decoded * residual).mean(), rel=0.005)
    assert moments.overflow == pytest.approx((overflow**2).mean(), rel=0.01)


# Max (1960), table I, and later recomputations.
@pytest.mark.parametrize(
    ("bits", "distortion"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)]
)
def test_lloyd_max_is_the_published_quantizer(bits, distortion):
    assert lloyd_max_distortion(bits) == pytest.approx(distortion, rel=5e-4)
    centroids, boundaries = lloyd_max(bits)
    assert np.allclose(centroids, -centroids[::-1])
    assert np.allclose(boundaries, (centroids[1:] + centroids[:-1]) / 2)


def test_lloyd_max_of_many_levels_follows_the_law_of_fine_quantizers():
    """Panter and Dite (1951): sqrt(3) pi / 2 * 4**-bits."""
    assert lloyd_max_distortion(8) == pytest.approx(3**0.5 * np.pi / 2 / 4**8, rel=0.02)


def test_subsets_are_counted():
    assert log2_binomial(10, 3) == pytest.approx(np.log2(120))
