"""Cell size and bits per plane that fit a budget, from what the server expects of residuals.

The server plans and broadcasts; both ends read the plan. Which transformed bits of a plane are sent
follows from how many, so that a plan is a few numbers.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wzfl.compressors import stretch
from wzfl.errors import InputError
from wzfl.kernels import density as kernel
from wzfl.polar import error_rates
from wzfl.residual_model import Density, Recent

HASH_BYTES = 2  # of a plane and those above it
_FAILURES = 3e-4  # predicted errors per plane of a block
_FEWEST = 2**12  # residuals drawn to estimate entropies, at least
_DEVIATIONS = 2.0  # of an entropy that is estimated from the residuals drawn
_UNSEEN = 32.0  # bits of events so rare that none was drawn
_MOST_PLANES = 40
LARGEST = 2.0**62  # cell number, in magnitude
_CLOSE = 0.995  # to the budget
_REFINEMENTS = 12  # of the cell size
_STEPS = 20  # of the search for the cell size
# Entropies for which codes are designed; between them is interpolated.
_DESIGNED = np.concatenate(
    [
        np.geomspace(1e-5, 0.05, 16, endpoint=False),
        np.linspace(0.05, 0.95, 24, endpoint=False),
        1 - np.geomspace(0.05, 1e-3, 8),
    ]
)


@dataclass(frozen=True)
class Plan:
    """How all blocks of a client's cell numbers are coded.

    Attributes:
        cell: size of a cell; a float32.
        level: level of the values that the plan was made for, see `wzfl.compressors.stretch`, a float32;
            cells are stretched until values are on it. 0: they are not stretched.
        sent: bits sent per block of each plane, the highest first; all of them: the plane as it is.
    """

    cell: float
    level: float
    sent: tuple[int, ...]

    def to_bytes(self) -> bytes:
        return struct.pack(f"<2f{len(self.sent)}I", self.cell, self.level, *self.sent)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Plan":
        """The plan that `to_bytes` wrote; raises `InputError` where these bytes can be of none."""
        planes = len(data) // 4 - 2
        if len(data) % 4 or not 1 <= planes <= _MOST_PLANES:
            raise InputError(
                f"a plan is 8 bytes and 4 for each of 1 to {_MOST_PLANES} planes; got {len(data)}"
            )
        cell, level, *sent = struct.unpack(f"<2f{planes}I", data)
        if not (0 < cell < np.inf and 0 <= level < np.inf):
            raise InputError(f"a plan's cells are of a positive size; got {cell}, level {level}")
        return cls(cell, level, tuple(sent))

    def check(self, size: int, bits: int) -> None:
        """Raises `InputError` where a block of `size` takes more than `bits`, or a plane more than all."""
        if max(self.sent) > size or _bits(self.sent) > bits:
            raise InputError(
                f"a plan of {_bits(self.sent)} bits per block, {max(self.sent)} of one plane; expected"
                f" at most {bits} for this bitrate, {size} of a plane: plan with the client's compressor"
                " and dim"
            )


@lru_cache(maxsize=64)
def sent_places(size: int, bits: int) -> np.ndarray:
    """Which of a transformed plane of `size` bits are sent if `bits` of them are, ascending."""
    level = min(int(np.searchsorted(_needs(size), bits)), len(_DESIGNED) - 1)
    return np.sort(_designed(size, level)[1][:bits])


def bits_needed(entropy: float, size: int) -> int:
    """Bits to send of a plane of `size` bits of conditional `entropy`; all of them where it is next to 1.

    `_FAILURES` errors are then predicted.
    """
    if entropy >= _DESIGNED[-1]:
        return size
    needs = _needs(size)
    # Entropies below the lowest are not told apart by the residuals drawn.
    return min(size, int(np.interp(entropy, _DESIGNED, needs)))


def plan(
    recent: Recent, expected: np.ndarray, density: Density, margin: float, size: int, bits: int
) -> tuple[Plan, float] | None:
    """The plan of the finest cells whose numbers take `bits` bits per block of `size`, and its error.

    None where even the coarsest cells take more. The error is relative to the energy of the vector: that of
    a cell, or the residual's own where that is smaller.

    Residuals are planned to be as the `recent` ones were, from float32 `expected` `[n]`, of coordinates at
    random; planes have other entropies where values are expected next to multiples of large powers of two.
    Of entropies H, H + `margin` sqrt(H) (1 - H) are planned for, and the error of their estimates: rare
    events come in varying numbers.
    """
    generator = np.random.default_rng(0)
    count, unit = max(_FEWEST, len(recent.coordinates)), density.unit
    recent, residuals = recent.resized(count), np.empty(count)
    units = unit * recent.stretch
    starts, widths, uniform = recent.starts / units, recent.widths / units, generator.random(count)
    kernel.draw(starts, widths, recent.contexts, uniform, density.tables, residuals)
    residuals *= recent.stretch
    expected = np.resize(expected, count).astype(np.float64) / unit
    noise = generator.random(count)
    sample = _Sample(recent.contexts, expected, residuals, noise, density, margin)
    cell, sent = sample.fit(size, bits)
    broadcast_cell = float(np.float32(cell * unit))
    if not sent or not 0 < broadcast_cell < np.inf:
        return None
    level = 0.0
    if recent.read and not expected.any():  # residuals are the values themselves
        level = stretch.level(residuals.astype(np.float32), cell)
    error = np.minimum(residuals**2, cell**2 / 12).mean() / ((expected + residuals) ** 2).mean()
    return Plan(broadcast_cell, float(np.float32(level)), sent), float(error)


def halves(
    places: np.ndarray, starts: np.ndarray, plane: int, planes: int
) -> tuple[np.ndarray, np.ndarray]:
    """int64 `[n]`: where the 2**plane cells of either value of a plane's bit start.

    int64 `starts` are those of the cells that the planes above leave. For the highest plane both are taken
    where they are nearest to `places`.
    """
    if plane < planes - 1:
        return starts, starts + 2**plane
    return _nearest(0, places, planes), _nearest(2**plane, places, planes)


def _nearest(start: int, places: np.ndarray, planes: int) -> np.ndarray:
    """Starts of the nearest stretches of 2**(planes - 1) cells, all at `start` modulo 2**planes."""
    period = 2.0**planes
    turns = np.floor((places - start - period / 4) / period + 0.5)
    return start + (turns.clip(-LARGEST / period, LARGEST / period) * period).astype(np.int64)


def hashed(sent: tuple[int, ...]) -> list[bool]:
    """Whether a hash is sent, plane by plane: where bits of the plane are sent, and of the lowest."""
    return [bits > 0 for bits in sent[:-1]] + [True]


def _bits(sent: tuple[int, ...]) -> int:
    """Total bits, hashes included."""
    return sum(sent) + 8 * HASH_BYTES * sum(hashed(sent))


@dataclass(frozen=True)
class _Sample:
    """Residuals from what is expected, in units, and the dither of their cells."""

    contexts: np.ndarray
    expected: np.ndarray
    residuals: np.ndarray
    noise: np.ndarray
    density: Density
    margin: float

    def fit(self, size: int, bits: int) -> tuple[float, tuple[int, ...]]:
        """The cell size, and bits per plane that fit in `bits`; none if nothing does."""
        cell, slope = self._cell(0.8 * bits / size), -0.7
        found: tuple[float, tuple[int, ...]] = (cell, ())
        before: tuple[float, float] | None = None
        for _ in range(_REFINEMENTS):
            sent = tuple(bits_needed(entropy, size) for entropy in self.entropies(cell))
            used = _bits(sent) / size
            if used <= bits / size and (not found[1] or cell < found[0]):
                found = cell, sent
            if _CLOSE * bits <= used * size <= bits:
                break
            if before is not None and cell != before[0]:
                slope = (used - before[1]) / float(np.log2(cell / before[0]))
                slope = min(max(slope, -1.0), -0.05)
            before = cell, used
            cell *= 2.0 ** (((1 + _CLOSE) / 2 * bits / size - used) / slope)
        return found

    def _cell(self, rate: float) -> float:
        """The cell size at which cell numbers have `rate` bits of entropy."""
        finest, coarsest = 1e-12, 1e6
        for _ in range(_STEPS):
            middle = (finest * coarsest) ** 0.5
            fine = self.information(middle) > rate
            finest, coarsest = (middle, coarsest) if fine else (finest, middle)
        return coarsest

    def information(self, cell: float) -> float:
        """Bits per cell number."""
        starts = self._numbers(cell) - self._places(cell)
        cells = np.ones(len(starts))
        return kernel.information(starts, cells, cell, self.contexts, self.density.tables)

    def entropies(self, cell: float) -> list[float]:
        """Bits of entropy of each plane given those above, the highest first, margin included."""
        model, places, numbers = self.density, self._places(cell), self._numbers(cell)
        planes = max(1, int(np.ceil(np.log2(4 * model.reach / cell + 2))))
        planes = min(planes, _MOST_PLANES)
        starts, odds, entropies = np.zeros(len(places), np.int64), np.empty(len(places)), []
        for plane in reversed(range(planes)):
            zero, one = halves(places, starts, plane, planes)
            kernel.odds(zero, one, places, cell, self.contexts, model.tables, odds)
            bits = (numbers >> plane) & 1 == 1
            surprises = np.log2(1 + np.where(bits, odds, 1 / odds))
            entropies.append(self._planned(surprises))
            starts = np.where(bits, one, zero)
        return entropies

    def _planned(self, surprises: np.ndarray) -> float:
        """Entropy to plan for, from the bits that each of the drawn residuals would take."""
        entropy, count = float(surprises.mean()), len(surprises)
        margin = self.margin * entropy**0.5 * (1 - min(1.0, entropy))
        drawn = _DEVIATIONS * float(surprises.std()) / count**0.5 + _UNSEEN / count
        return min(1.0, entropy + margin + drawn)

    def _numbers(self, cell: float) -> np.ndarray:
        numbers = np.floor(self.residuals / cell + self._places(cell))
        return numbers.clip(-LARGEST, LARGEST).astype(np.int64)

    def _places(self, cell: float) -> np.ndarray:
        return self.expected / cell + self.noise


@lru_cache(maxsize=8)
def _needs(size: int) -> np.ndarray:
    """Bits to send for `_FAILURES` errors, by designed entropy."""
    needs = [_designed(size, level)[0] for level in range(len(_DESIGNED))]
    return np.maximum.accumulate(np.array(needs))


@lru_cache(maxsize=64)  # 4 bytes a place: of all entropies 50 MB at 2**18
def _designed(size: int, level: int) -> tuple[int, np.ndarray]:
    """Bits to send of a transformed plane for `_FAILURES` errors; its places, the least certain first."""
    rates = error_rates(float(_DESIGNED[level]), size)[:size]
    order = np.argsort(-rates, kind="stable")
    certain = np.searchsorted(np.cumsum(rates[order[::-1]]), _FAILURES, "right")
    return size - int(certain), order.astype(np.int32)
