"""The cells of a modulo quantizer: a scalar one's, those of the lattice E8, or those of a trellis code."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor

from wzfl.compressors import e8, modulo, trellis
from wzfl.kernels.e8 import nearest_rows, point_of
from wzfl.theory import Moments, best_reach, folded_moments, modulo_moments, modulo_step

# Symbols, and sums of block numbers.
Folded = tuple[Tensor, Tensor]

# 2**bits steps of 1 to 8 bits, in units of the scale, of least error for a Gaussian residual.
_E8_PERIODS = (6.11, 6.36, 6.59, 6.99, 7.33, 7.78, 8.15, 8.44)
# E e**2 per coordinate of a cell of volume 1: Conway & Sloane, IEEE Trans. IT 28(2), 1982.
_E8_MOMENT = 929 / 12960
_DRAWN = 2**14


class Cells(Protocol):
    """How a modulo quantizer with symbols of `bits` bits rounds, and what its estimates have as moments.

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
class Scalar:
    """Uniform scalar quantization: each coordinate is rounded alone.

    Attributes:
        rounding, reach, estimator: as `WynerZiv` takes them.
    """

    rounding: str
    reach: float | None
    estimator: str

    at_once: ClassVar[int] = 1
    fold: ClassVar[Callable[..., Folded]] = staticmethod(modulo.fold)
    unfold: ClassVar[Callable[..., Folded]] = staticmethod(modulo.unfold)

    def reach_of(self, bits: int) -> float:
        """Trusted distance to the side information, in units of the scale: as set, or of least error."""
        if self.reach is not None:
            return self.reach
        return best_reach(2**bits, self.rounding, self.estimator)

    def step(self, bits: int) -> float:
        return modulo_step(2**bits, self.reach_of(bits), self.rounding)

    def moments(self, bits: int, residual: float = 1.0) -> Moments:
        return modulo_moments(2**bits, self.reach_of(bits), self.rounding, residual)


@dataclass(frozen=True)
class E8:
    """Dithered lattice quantization, eight coordinates at once: nested lattices 2**bits E8 in E8.

    Source: Zamir, Shamai, Erez, "Nested Linear/Lattice Codes for Structured Multiterminal Binning", IEEE
    Trans. IT 48(6), 2002; E8 as in Conway & Sloane, "Sphere Packings, Lattices and Groups".
    """

    at_once: ClassVar[int] = e8.SIZE
    fold: ClassVar[Callable[..., Folded]] = staticmethod(e8.fold)
    unfold: ClassVar[Callable[..., Folded]] = staticmethod(e8.unfold)

    def step(self, bits: int) -> float:
        return _E8_PERIODS[bits - 1] / 2**bits

    def moments(self, bits: int, residual: float = 1.0) -> Moments:
        return e8_moments(bits, self.step(bits), residual)


@dataclass(frozen=True)
class TrellisCoded:
    """Dithered trellis-coded quantization (TCQ): all coordinates at once, on the nearest path of a trellis.

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
    """The cell size, in units of the scale, of least error for a Gaussian residual."""

    def error(step: float) -> float:
        energy, correlation, _ = _trellis_moments(bits, step, 1.0)
        return energy - 2 * correlation

    found = minimize_scalar(error, bounds=(2.0**-bits, 24 * 2.0**-bits), method="bounded")
    return float(found.x)


def _trellis_moments(bits: int, step: float, residual: float) -> Moments:
    return folded_moments(2**bits * step, trellis.MOMENT * step**2, residual)


@lru_cache
def e8_moments(bits: int, step: float, residual: float) -> Moments:
    """Moments of the point nearest to the side information, estimated by drawing N(0, residual**2)."""
    generator = np.random.default_rng(0)
    # Wider than they are, and weighted for it: what overflows is rare.
    spread = 1 + 0.05 * bits
    wide = spread * generator.standard_normal((_DRAWN, e8.SIZE))
    weight = np.exp(-(wide**2).sum(axis=1) * (1 - spread**-2) / 2) * spread**e8.SIZE
    error, turns = np.empty_like(wide), np.empty_like(wide)
    for noise, row in zip(generator.random(wide.shape), error, strict=True):
        point_of(noise, row)
    nearest_rows(error, turns)
    error, values = turns - error, residual * wide
    nearest_rows((values / step + error) / 2**bits, turns)
    away = step * 2**bits * turns

    def mean(each: np.ndarray) -> float:
        return float((each.mean(axis=1) * weight).mean())

    rounding = _E8_MOMENT * step**2
    energy = residual**2 + rounding + mean(away * (away - 2 * (values + step * error)))
    return Moments(energy, residual**2 - mean(values * away), mean(turns**2))
