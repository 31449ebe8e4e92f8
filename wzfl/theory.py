"""Published limits and expected errors, for defaults, figures and tests."""

from functools import lru_cache
from math import log, log10, sqrt

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr


def wyner_ziv_limit(bits: float, variance: float = 1.0) -> float:
    """Least mean squared error per coordinate at `bits` per coordinate, for Gaussian residuals.

    `variance` is that of the update given what the decoder knows; without side information it is the
    update's own, and this is Shannon's limit. Source: Wyner & Ziv, IEEE Trans. IT 22(1), 1976.
    """
    return variance * 2.0 ** (-2.0 * bits)


def gap_db(error: float, bits: float, variance: float = 1.0) -> float:
    """How far a measured error per coordinate is above `wyner_ziv_limit`, in dB."""
    return 10 * log10(error / wyner_ziv_limit(bits, variance))


def rmq_reach(distance_ratio: float) -> float:
    """The reach of the published rotated modulo quantizer, in units of the residual's RMS.

    Its trusted distance per coordinate is sqrt(6 (D**2/dim) ln(D/delta)) for a residual of norm D, with
    `distance_ratio` = D/delta. Source: Mayekar, Suresh, Tyagi, "Wyner-Ziv Estimators" (AISTATS 2021).
    """
    return sqrt(6 * log(distance_ratio))


def modulo_step(levels: int, reach: float, rounding: str) -> float:
    """Cell size of a modulo quantizer that decodes exactly within `reach` of the side information.

    A decoded point is up to half a cell from the input under subtractive dither, up to a whole one
    under stochastic rounding; both must stay within half of the `levels` cells.
    """
    return 2 * reach / (levels - 1 if rounding == "dither" else levels - 2)


@lru_cache
def modulo_distortion(levels: int, reach: float, rounding: str, residual: float = 1.0) -> float:
    """Mean squared error per coordinate, overflows included, for a residual N(0, residual**2).

    `reach` and the result are in units of the scale and its square. The rounding error is uniform
    on half a cell for dither, triangular on a whole one for stochastic rounding; it and the residual
    pick the block in which the decoder lands.
    """
    cell = modulo_step(levels, reach, rounding)
    width = cell / 2 if rounding == "dither" else cell
    nodes, weights = np.polynomial.legendre.leggauss(64)
    error = nodes * width
    density = weights / 2 if rounding == "dither" else weights * (1 - np.abs(nodes))
    period = levels * cell
    blocks = np.arange(-8, 9)[:, None]
    upper = ndtr(((blocks + 0.5) * period - error) / residual)
    lower = ndtr(((blocks - 0.5) * period - error) / residual)
    return float(((upper - lower) * (error - blocks * period) ** 2 * density).sum())


@lru_cache
def best_reach(levels: int, rounding: str) -> float:
    """The reach of least `modulo_distortion` for a Gaussian residual of RMS 1."""
    found = minimize_scalar(
        lambda reach: modulo_distortion(levels, reach, rounding), bounds=(0.3, 12), method="bounded"
    )
    return float(found.x)
