import pytest
from scipy.integrate import quad
from scipy.stats import norm

from wzfl.theory import (
    best_reach,
    gap_db,
    modulo_distortion,
    modulo_step,
    rmq_reach,
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


def test_the_published_preset():
    assert rmq_reach(10**0.5) == pytest.approx(2.628, abs=5e-4)
