"""How finely to quantize when bit planes are coded given what the decoder expects, and what is then sent.

A cell number of a dithered uniform quantizer is sent plane by plane, the lowest first. Given the side
information and the planes below, a plane's bits have an entropy: about 1 where its cells are much
narrower than the residual, about 0 where they are much wider. The few planes between are polar coded.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log, pi, sqrt

import numpy as np
from scipy.special import entr

from wzfl.compressors import trellis
from wzfl.compressors.syndromes import Syndrome
from wzfl.polar import block_size, error_rates
from wzfl.theory import normal_probability

_FAILURES = 3e-4  # predicted errors per block
_RAW = 0.4  # spacing, in units of the residual's RMS, below which a plane's bits are as good as uniform
# Spacing, in units of the residual's RMS, beyond which the nearest point is the right one.
_CERTAIN_SPACING = 16.0
_PLACES = 4096  # of a plane's table, over one period
_STEPS = 10  # of the search for the cell size


@dataclass(frozen=True)
class Quantizer:
    """A dithered quantizer, scalar or trellis-coded; lengths are in units of the scale, the residual's RMS.

    Attributes:
        cell: distance from a number to the next.
        trellis_coded: whether numbers are those of the path of a trellis; its points are the
            middles of cells.
    """

    cell: float
    trellis_coded: bool

    @property
    def error(self) -> float:
        """Variance of the quantization error."""
        return (trellis.MOMENT if self.trellis_coded else 1 / 12) * self.cell**2

    def chance(self, lower: np.ndarray) -> np.ndarray:
        """Probability that a Gaussian residual is sent as the number of the cell that starts at `lower`."""
        if not self.trellis_coded:
            return normal_probability(lower, lower + self.cell)
        # The error does not depend on the residual, but the point on both.
        deviation = (1 + self.error) ** 0.5
        middle = (lower + self.cell / 2) / deviation
        return np.exp(-(middle**2) / 2) * self.cell / deviation / sqrt(2 * pi)


@dataclass(frozen=True, eq=False)
class Plane:
    """One bit of every cell number of a block.

    Attributes:
        ratios: float32 log P(0) / P(1) by place of what is expected within a period of two spacings.
        syndrome: what is sent.
    """

    ratios: np.ndarray
    syndrome: Syndrome


@dataclass(frozen=True, eq=False)
class Design:
    """The code of blocks of `count` coordinates: a quantizer, and what is sent of each bit plane.

    Attributes:
        planes: the lowest first; cell numbers are known modulo 2**len(planes).
    """

    count: int
    quantizer: Quantizer
    planes: tuple[Plane, ...]

    @property
    def cell(self) -> float:
        """Size of a cell, in units of the scale."""
        return self.quantizer.cell

    @property
    def sizes(self) -> list[int]:
        """How many bits are sent of each plane."""
        return [plane.syndrome.size for plane in self.planes]


@lru_cache(maxsize=32)
def design(count: int, bits: int, trellis_coded: bool = False) -> Design:
    """The code of least error whose blocks of `count` cell numbers can be decoded from `bits` bits."""
    quantizer = _finest(count, bits, trellis_coded)
    entropies, tables = _entropies(quantizer), _tables(quantizer)
    raw = sum(entropy is None for entropy in entropies)
    rates = _rates(entropies, count)
    order = np.argsort(-rates, axis=None, kind="stable")[: bits - raw * count]
    chosen = np.zeros(rates.shape, dtype=bool)
    chosen.flat[order] = True
    chosen[:, count:] = False
    places = [None] * raw + [np.flatnonzero(which) for which in chosen]
    planes = [
        Plane(ratios, Syndrome(count, sent)) for ratios, sent in zip(tables, places, strict=True)
    ]
    return Design(count, quantizer, tuple(planes))


def _finest(count: int, bits: int, trellis_coded: bool) -> Quantizer:
    """The quantizer with the smallest cells whose numbers can be decoded from `bits` bits per block."""
    rate = bits / count
    finest, coarsest = 4 * 2.0**-rate, (_CERTAIN_SPACING + 1) * 2.0**-rate
    for _ in range(_STEPS):
        middle = (finest * coarsest) ** 0.5
        enough = _risk(Quantizer(middle, trellis_coded), count, bits) <= _FAILURES
        finest, coarsest = (finest, middle) if enough else (middle, coarsest)
    return Quantizer(coarsest, trellis_coded)


def _risk(quantizer: Quantizer, count: int, bits: int) -> float:
    """Expected number of errors in a block; infinite where bits are too few."""
    entropies = _entropies(quantizer)
    left = bits - count * sum(entropy is None for entropy in entropies)
    if left < 0:
        return np.inf
    rates = np.sort(_rates(entropies, count), axis=None)
    return float(rates[: len(rates) - left].sum())


def _rates(entropies: list[float | None], count: int) -> np.ndarray:
    """`[coded planes, block size]`: how likely each transformed bit is decided wrongly."""
    coded = [error_rates(entropy, count) for entropy in entropies if entropy is not None]
    return np.stack(coded) if coded else np.zeros((0, block_size(count)))


def _entropies(quantizer: Quantizer) -> list[float | None]:
    """Conditional entropy of each plane that matters, in bits; None where it is as good as 1."""
    return [
        None if _uniform(quantizer, plane) else _entropy(quantizer, plane)
        for plane in range(_plane_count(quantizer))
    ]


def _tables(quantizer: Quantizer) -> list[np.ndarray]:
    """The `ratios` of each plane that matters."""
    return [
        np.zeros(_PLACES, np.float32)
        if _uniform(quantizer, plane)
        else np.log(np.divide(*_chances(quantizer, plane))).astype(np.float32)
        for plane in range(_plane_count(quantizer))
    ]


def _uniform(quantizer: Quantizer, plane: int) -> bool:
    """Whether nothing is known of a plane's bits; the lowest of a trellis are not independent."""
    return _spacing(quantizer, plane) < _RAW or (quantizer.trellis_coded and plane == 0)


def _plane_count(quantizer: Quantizer) -> int:
    return max(1, int(np.ceil(np.log2(_CERTAIN_SPACING / quantizer.cell))))


def _spacing(quantizer: Quantizer, plane: int) -> float:
    """Distance between points that agree in all planes below."""
    return quantizer.cell * 2.0**plane


def _entropy(quantizer: Quantizer, plane: int) -> float:
    even, odd = _chances(quantizer, plane)
    share = even / (even + odd)
    nats = entr(share) + entr(1 - share)
    return float((nats * (even + odd)).sum() / (even + odd).sum() / log(2))


def _chances(quantizer: Quantizer, plane: int) -> tuple[np.ndarray, np.ndarray]:
    """P(plane's bit is 0 or 1, planes below as they are) by place of what is expected in a period.

    A place is counted from the start of the cell whose bits up to this plane are 0.
    """
    place = (np.arange(_PLACES) + 0.5) / _PLACES * 2
    reach = int(np.ceil(_CERTAIN_SPACING / 2 / _spacing(quantizer, plane))) + 1
    points = np.arange(-2 * reach, 2 * reach + 2)
    chance = quantizer.chance((points[:, None] - place) * _spacing(quantizer, plane))
    tiny = np.finfo(float).tiny
    return chance[::2].sum(axis=0) + tiny, chance[1::2].sum(axis=0) + tiny
