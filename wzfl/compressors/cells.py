"""The cells of a modulo quantizer: cubes, those of the lattice E8, or those of a trellis code."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor

from wzfl.compressors import gosset, modulo, trellis
from wzfl.kernels.gosset import nearest_rows, point_of
from wzfl.theory import Moments, best_reach, folded_moments, modulo_moments, modulo_step

# Symbols, and sums of block numbers.
Folded = tuple[Tensor, Tensor]

# 2**bits steps of 1 to 8 bits, in units of the scale, of least error for a Gaussian residual.
_GOSSET_PERIODS = (6.11, 6.36, 6.59, 6.99, 7.33, 7.78, 8.15, 8.44)
# E e**2 per coordinate of a cell of volume 1: Conway & Sloane, IEEE Trans. IT 28(2), 1982.
_GOSSET_MOMENT = 929 / 12960
_DRAWN = 2**14


class Cells(Protocol):
    """Of a quantizer whose symbols are of `bits` bits.

    `step` is the cell size by which values are divided, and `moments` are of a coordinate's residual
    N(0, residual**2); both are in units of the scale. `fold` and `unfold` do as those of `modulo`: symbols
    and distances are `[clients, count]`, sums `[clients, 4]`; `cell` is `[clients]`, in the units of values.

    Attributes:
        at_once: coordinates that share a cell.
    """

    @property
    def at_once(self) -> int: ...

    def step(self, bits: int) -> float: ...

    def moments(self, bits: int, residual: float = 1.0) -> Moments: ...

    def fold(
        self, values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
    ) -> Folded: ...

    def unfold(
        self,
        symbols: Tensor,
        noise: Tensor | None,
        expected: Tensor,
        cell: Tensor,
        bits: int,
        covered: int,
    ) -> Folded: ...


@dataclass(frozen=True)
class Cubes:
    """Each coordinate alone.

    Attributes:
        rounding, trusted, estimator: as `WynerZiv` takes them; `trusted` is its reach.
    """

    rounding: str
    trusted: float | None
    estimator: str

    at_once: ClassVar[int] = 1
    fold: ClassVar[Callable[..., Folded]] = staticmethod(modulo.fold)
    unfold: ClassVar[Callable[..., Folded]] = staticmethod(modulo.unfold)

    def reach(self, bits: int) -> float:
        """Trusted distance to the side information, in units of the scale: as told, or of least error."""
        if self.trusted is not None:
            return self.trusted
        return best_reach(2**bits, self.rounding, self.estimator)

    def step(self, bits: int) -> float:
        return modulo_step(2**bits, self.reach(bits), self.rounding)

    def moments(self, bits: int, residual: float = 1.0) -> Moments:
        return modulo_moments(2**bits, self.reach(bits), self.rounding, residual)


@dataclass(frozen=True)
class Gosset:
    """Eight coordinates at once, dithered: nested lattices 2**bits E8 in E8.

    Source: Zamir, Shamai, Erez, "Nested Linear/Lattice Codes for Structured Multiterminal Binning", IEEE
    Trans. IT 48(6), 2002; E8 as in Conway & Sloane, "Sphere Packings, Lattices and Groups".
    """

    at_once: ClassVar[int] = gosset.SIZE
    fold: ClassVar[Callable[..., Folded]] = staticmethod(gosset.fold)
    unfold: ClassVar[Callable[..., Folded]] = staticmethod(gosset.unfold)

    def step(self, bits: int) -> float:
        return _GOSSET_PERIODS[bits - 1] / 2**bits

    def moments(self, bits: int, residual: float = 1.0) -> Moments:
        return gosset_moments(bits, self.step(bits), residual)


@dataclass(frozen=True)
class Trellised:
    """All coordinates at once, dithered, on the path of a trellis that is nearest.

    Source: Marcellin & Fischer, "Trellis Coded Quantization of Memoryless and Gauss-Markov Sources", IEEE
    Trans. Comm. 38(1), 1990.
    """

    at_once: ClassVar[int] = 1
    fold: ClassVar[Callable[..., Folded]] = staticmethod(trellis.fold)
    unfold: ClassVar[Callable[..., Folded]] = staticmethod(trellis.unfold)

    def step(self, bits: int) -> float:
        return _trellis_step(bits)

    def moments(self, bits: int, residual: float = 1.0) -> Moments:
        return _trellis_moments(bits, self.step(bits), residual)


@lru_cache
def _trellis_step(bits: int) -> float:
    """In units of the scale, of least error for a Gaussian residual."""

    def error(step: float) -> float:
        energy, correlation, _ = _trellis_moments(bits, step, 1.0)
        return energy - 2 * correlation

    found = minimize_scalar(error, bounds=(2.0**-bits, 24 * 2.0**-bits), method="bounded")
    return float(found.x)


def _trellis_moments(bits: int, step: float, residual: float) -> Moments:
    return folded_moments(2**bits * step, trellis.MOMENT * step**2, residual)


@lru_cache
def gosset_moments(bits: int, step: float, residual: float) -> Moments:
    """Of the point nearest to the side information, for residuals N(0, residual**2), drawn."""
    generator = np.random.default_rng(0)
    # Wider than they are, and weighted for it: what overflows is rare.
    spread = 1 + 0.05 * bits
    wide = spread * generator.standard_normal((_DRAWN, gosset.SIZE))
    weight = np.exp(-(wide**2).sum(axis=1) * (1 - spread**-2) / 2) * spread**gosset.SIZE
    error, turns = np.empty_like(wide), np.empty_like(wide)
    for noise, row in zip(generator.random(wide.shape), error, strict=True):
        point_of(noise, row)
    nearest_rows(error, turns)
    error, values = turns - error, residual * wide
    nearest_rows((values / step + error) / 2**bits, turns)
    away = step * 2**bits * turns

    def mean(each: np.ndarray) -> float:
        return float((each.mean(axis=1) * weight).mean())

    rounding = _GOSSET_MOMENT * step**2
    energy = residual**2 + rounding + mean(away * (away - 2 * (values + step * error)))
    return Moments(energy, residual**2 - mean(values * away), mean(turns**2))
