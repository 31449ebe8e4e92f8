"""How much of a polar transform of bits a decoder must be sent, given what else it knows of them.

Bits of conditional entropy H, a block of 2**m of them, are transformed (Arikan 2009); most of the transformed
bits are then either certain, given those before them, or not known at all, and only the latter are sent
(Korada & Urbanke, "Polar Codes are Optimal for Lossy Source Coding", IEEE Trans. IT 56(4), 2010; with
side information: Arikan, "Source Polarization", ISIT 2010).
"""

from functools import lru_cache
from math import log, pi, sqrt

import numpy as np
from scipy.special import erfc

from wzfl.kernels import polar as kernel

_LOWEST, _HIGHEST, _PER_UNIT = -40.0, 8.0, 32.0  # logs of mean log-likelihood ratios in the tables
_LARGE = 200.0  # mean from which on an entropy follows its asymptote


def error_rates(entropy: float, count: int) -> np.ndarray:
    """`[size]`: how likely each transformed bit is decided wrongly, all before it being known.

    Of `count` bits of conditional `entropy`, and known ones up to `size`, the next power of two. Every
    channel on the way is taken for a Gaussian one of the same capacity, as are a check's and a bit's
    duals (Chung, Richardson, Urbanke, IEEE Trans. IT 47(2), 2001).
    """
    means = np.full(block_size(count), _HIGHEST)
    means[:count] = np.interp(-log(max(entropy, 1e-12)), -_log_entropies(), _places())
    kernel.spread(means, _duals(), _LOWEST, _PER_UNIT)
    return 0.5 * erfc(np.exp(np.minimum(means, 7.0) / 2) / 2)


def block_size(count: int) -> int:
    """The smallest power of two of at least `count`."""
    return 1 << max(0, count - 1).bit_length()


def _places() -> np.ndarray:
    return np.linspace(_LOWEST, _HIGHEST, round((_HIGHEST - _LOWEST) * _PER_UNIT) + 1)


@lru_cache
def _duals() -> np.ndarray:
    """By place, that of the dual: of the channel whose capacity is this one's entropy."""
    small = log(4 * log(2))  # a capacity is mean / (4 ln 2) where the mean is small
    duals = np.interp(_log_entropies(), _log_capacities(), _places())
    return np.where(_log_entropies() < _LOWEST - small, _log_entropies() + small, duals)


@lru_cache
def _log_entropies() -> np.ndarray:
    """log of E log2(1 + exp(-l)), l ~ N(mean, 2 mean), by place."""
    return np.array([_log_mean(mean, entropy=True) for mean in np.exp(_places())])


@lru_cache
def _log_capacities() -> np.ndarray:
    """log of 1 - E log2(1 + exp(-l)), l ~ N(mean, 2 mean), by place."""
    return np.array([_log_mean(mean, entropy=False) for mean in np.exp(_places())])


def _log_mean(mean: float, entropy: bool) -> float:
    if entropy and mean > _LARGE:  # falls as exp(-mean / 4) / sqrt(mean)
        return _log_mean(_LARGE, entropy) - (mean - _LARGE) / 4 - log(mean / _LARGE) / 2
    if not entropy and mean < 1e-4:
        return log(mean / (4 * log(2)))
    reach = 12 * sqrt(2 * mean)
    ratio = np.linspace(mean - reach, mean + reach, 8001)
    exponent = -((ratio - mean) ** 2) / (4 * mean)
    bits = np.logaddexp(0, -ratio) / log(2)
    values = np.exp(exponent) * (bits if entropy else 1 - bits)
    return log(np.trapezoid(values, ratio) / sqrt(4 * pi * mean))
