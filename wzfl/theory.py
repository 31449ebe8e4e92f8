"""Published limits and expected errors, for defaults, figures and tests."""

from functools import lru_cache
from math import lgamma, log, log10, pi, sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri


def wyner_ziv_limit(bits: float, variance: float = 1.0) -> float:
    """Least mean squared error per coordinate at `bits` per coordinate, for Gaussian residuals.

    `variance` is that of the update given what the decoder knows; without side information it is the
    update's own, and this is Shannon's limit. Source: Wyner & Ziv, IEEE Trans. IT 22(1), 1976.
    """
    return variance * 2.0 ** (-2.0 * bits)


def gap_db(error: float, bits: float) -> float:
    """How far a measured error per coordinate, over the variance, is above `wyner_ziv_limit`, in dB."""
    return 10 * log10(error / wyner_ziv_limit(bits))


def modulo_step(levels: int, reach: float, rounding: str) -> float:
    """Cell size of a modulo quantizer that decodes exactly within `reach` of the side information.

    A decoded point is up to half a cell from the input under subtractive dither, up to a whole one
    under stochastic rounding; both must stay within half of the `levels` cells.
    """
    return 2 * reach / (levels - 1 if rounding == "dither" else levels - 2)


class Moments(NamedTuple):
    """Moments of a residual r and of what is decoded of it, v, both in units of the scale.

    Attributes:
        energy: E v**2.
        correlation: E r v.
        overflow: E o**2, where decoding lands o blocks of `levels` cells away.
    """

    energy: float
    correlation: float
    overflow: float


@lru_cache
def modulo_moments(levels: int, reach: float, rounding: str, residual: float = 1.0) -> Moments:
    """Moments of the candidate nearest to the side information, for a residual N(0, residual**2).

    The rounding error e is uniform on half a cell for dither, triangular on a whole one for stochastic
    rounding; it and the residual pick the block in which the decoder lands: v = r + e - o * period.
    """
    cell = modulo_step(levels, reach, rounding)
    width = cell / 2 if rounding == "dither" else cell
    nodes, weights = np.polynomial.legendre.leggauss(64)
    error = nodes * width
    density = weights / 2 if rounding == "dither" else weights * (1 - np.abs(nodes))
    period = levels * cell
    blocks = np.arange(-8, 9)[:, None]
    upper = ((blocks + 0.5) * period - error) / residual
    lower = ((blocks - 0.5) * period - error) / residual
    chance = ndtr(upper) - ndtr(lower)
    part_of_r = residual * (_gaussian(lower) - _gaussian(upper))  # E[r; that block]
    distortion = float((chance * (error - blocks * period) ** 2 * density).sum())
    correlation = residual**2 - period * float((blocks * part_of_r * density).sum())
    overflow = float((chance * blocks**2 * density).sum())
    return Moments(distortion - residual**2 + 2 * correlation, correlation, overflow)


def folded_moments(period: float, rounding: float, residual: float = 1.0) -> Moments:
    """Moments like `modulo_moments`, for a rounding error of variance `rounding` that is Gaussian, or small.

    The distance to what is expected, N(0, residual**2 + rounding), is known modulo `period`.
    """
    variance = residual**2 + rounding
    deviation = sqrt(variance)
    blocks = np.arange(-8, 9)
    lower, upper = (blocks - 0.5) * period / deviation, (blocks + 0.5) * period / deviation
    chance = normal_probability(lower, upper)
    first = deviation * (_gaussian(lower) - _gaussian(upper))  # E[distance; that block]
    second = variance * (chance + lower * _gaussian(lower) - upper * _gaussian(upper))
    away = blocks * period
    energy = float((second - 2 * away * first + away**2 * chance).sum())
    correlation = residual**2 / variance * float((second - away * first).sum())
    return Moments(energy, correlation, float((blocks**2 * chance).sum()))


@lru_cache
def posterior_energy(levels: int, reach: float, residual: float = 1.0) -> float:
    """E v**2 of the posterior mean v of N(0, 1) under dither, for a residual N(0, residual**2)."""
    cell = modulo_step(levels, reach, "dither")
    period = levels * cell
    offset = (np.arange(4096) + 0.5) / 4096 * period - period / 2
    middle = offset + np.arange(-8, 9)[:, None] * period
    lower, upper = middle - cell / 2, middle + cell / 2
    mean = (_gaussian(lower) - _gaussian(upper)).sum(0) / normal_probability(lower, upper).sum(0)
    density = normal_probability(lower / residual, upper / residual).sum(0) / cell
    return float((density * mean**2).mean() * period)


def modulo_distortion(levels: int, reach: float, rounding: str, estimator: str = "plain") -> float:
    """Mean squared error per coordinate, overflows included, for a residual N(0, 1).

    `reach` and the result are in units of the scale and its square. Estimators: "plain" takes the
    candidate nearest to the side information, "wiener" shrinks its distance for the least error,
    "posterior_mean" is E[r | symbol].
    """
    if estimator == "posterior_mean":
        return 1 - posterior_energy(levels, reach)
    energy, correlation, _ = modulo_moments(levels, reach, rounding)
    if estimator == "wiener":
        return 1 - correlation**2 / energy
    return 1 - 2 * correlation + energy


@lru_cache
def best_reach(levels: int, rounding: str, estimator: str = "plain") -> float:
    """The reach of least `modulo_distortion` for a Gaussian residual of RMS 1."""
    found = minimize_scalar(
        lambda reach: modulo_distortion(levels, reach, rounding, estimator=estimator),
        bounds=(0.3, 12),
        method="bounded",
    )
    return float(found.x)


@lru_cache
def lloyd_max(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The 2**bits centroids of least squared error for N(0, 1), and the boundaries between them.

    Source: Lloyd (1957, IEEE Trans. IT 1982); Max, "Quantizing for Minimum Distortion" (IRE 1960).
    """
    levels = 2**bits
    # Centroids of the best fine quantizer are as dense as the cube root of N(0, 1): as N(0, 3).
    centroids = sqrt(3) * ndtri((np.arange(levels) + 0.5) / levels)
    for _ in range(2000):
        boundaries = (centroids[1:] + centroids[:-1]) / 2
        edges = np.concatenate([[-np.inf], boundaries, [np.inf]])
        chance = normal_probability(edges[:-1], edges[1:])
        centroids = (_gaussian(edges[:-1]) - _gaussian(edges[1:])) / chance
    return centroids, (centroids[1:] + centroids[:-1]) / 2


@lru_cache
def lloyd_max_distortion(bits: int) -> float:
    """Mean squared error of `lloyd_max` for N(0, 1)."""
    centroids, boundaries = lloyd_max(bits)
    edges = np.concatenate([[-np.inf], boundaries, [np.inf]])
    chance = normal_probability(edges[:-1], edges[1:])
    means = _gaussian(edges[:-1]) - _gaussian(edges[1:])  # E[x; that cell]
    return 1 - float((2 * means * centroids - chance * centroids**2).sum())


def log2_binomial(n: int, k: int) -> float:
    """Bits that tell which k of n, all sets equally likely."""
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)


def _gaussian(x: np.ndarray) -> np.ndarray:
    return np.exp(-(x**2) / 2) / sqrt(2 * pi)


def normal_probability(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """P(lower < N(0, 1) < upper), accurate in both tails."""
    flip = lower + upper > 0
    return ndtr(np.where(flip, -lower, upper)) - ndtr(np.where(flip, -upper, lower))
