"""How blocks of bit planes are read: plane by plane, and once more where a check does not match."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from wzfl.compressors.bit_planes import Design
from wzfl.compressors.syndromes import checks
from wzfl.compressors.trellis import halves
from wzfl.kernels import polar

# Of decisions in each plane; scales that are wrong make many blocks fail, and waste them.
_REVERSALS = 4


def read(code: Design, syndromes: memoryview, places: np.ndarray, told: np.ndarray) -> np.ndarray:
    """A client's cell numbers `[blocks, size]`, from what was sent and float64 `places`, in cells.

    Of the readings of a block the first whose check is that which was `told` `[blocks]`, else the last.
    """
    received = np.unpackbits(np.frombuffer(syndromes, np.uint8))
    parts = np.split(received, np.cumsum(code.sizes * len(told)))
    symbols = np.zeros((len(told), code.count), kind(code))
    for block, row in enumerate(symbols):
        expected = places[block * code.count :][: code.count]
        own = parts[block * len(code.planes) :][: len(code.planes)]
        for numbers in _readings(code, own, expected):
            row[: len(expected)] = numbers
            if checks(row[None])[0] == told[block]:
                break
    return symbols


def kind(code: Design) -> str:
    """Of cell numbers, whose bytes are hashed; the same on any device."""
    return "u1" if len(code.planes) <= 8 else "<i4"


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of a block when the planes below `plane` are.

    Attributes:
        lower: int64 `[n]`, their bits.
        places: float64 `[n]`, what is expected, in cells.
    """

    plane: int
    lower: np.ndarray
    places: np.ndarray

    def ratios(self, code: Design) -> np.ndarray:
        """float32 `[n]`: log P(0) / P(1) of the plane's bits."""
        ratios = np.empty(len(self.places), np.float32)
        table = code.planes[self.plane].ratios
        polar.look_up_ratios(self.places, self.lower, self.plane, table, ratios)
        return ratios

    def joined(self, code: Design, bits: np.ndarray) -> "_Known":
        """With the plane's `bits`; the lowest of a trellis tell where its points are."""
        on_a_path = code.quantizer.trellised and self.plane == 0
        places = self.places - halves(bits[None])[0] if on_a_path else self.places
        lower = self.lower + (bits.astype(np.int64) << self.plane)
        return _Known(self.plane + 1, lower, places)


def _readings(code: Design, parts: list[np.ndarray], places: np.ndarray) -> Iterator[np.ndarray]:
    """A block's cell numbers; then what they are if a close decision in one of the planes was wrong."""
    path = _path(code, parts, _Known(0, np.zeros(len(places), np.int64), places))
    yield path[-1].lower
    for known in path[:-1]:
        syndrome = code.planes[known.plane].syndrome
        alternatives = syndrome.readings(parts[known.plane], known.ratios(code))
        for bits in islice(alternatives, 1, 1 + _REVERSALS):
            yield _path(code, parts, known.joined(code, bits))[-1].lower


def _path(code: Design, parts: list[np.ndarray], known: _Known) -> list[_Known]:
    """What is known before each of the planes from `known.plane` on, and after the last."""
    path = [known]
    while path[-1].plane < len(code.planes):
        last = path[-1]
        bits = code.planes[last.plane].syndrome.read(parts[last.plane], last.ratios(code))
        path.append(last.joined(code, bits))
    return path
