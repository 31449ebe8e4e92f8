"""One client's cell numbers as syndromes, after a plan that was broadcast."""

import struct
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from wzfl.compressors import stretch
from wzfl.compressors.envelope import check_sizes
from wzfl.compressors.plane_plan import HASH_BYTES, LARGEST, Plan, halves, hashed, sent_places
from wzfl.compressors.syndromes import Syndrome
from wzfl.kernels import density as kernel
from wzfl.residual_model import ANYWHERE, Density

_REVERSALS = 16  # of decisions in a plane whose check fails


@dataclass(frozen=True, eq=False)
class PlannedPlanes:
    """Writes and reads payloads by a plan, for vectors `[dim]` in blocks of `size`.

    A payload is a byte that says how cells are stretched, two bytes of hash per block of most planes (see
    `hashed`), and what is sent of each plane, the highest first.

    Attributes:
        noise: float32 `[dim]` in [0, 1), the shared dither.
    """

    plan: Plan
    size: int
    noise: np.ndarray

    def write(self, vector: np.ndarray) -> bytes:
        """The payload, without its frame, of a float32 vector `[dim]`."""
        step = self._step(vector)
        places = self._places(vector, stretch.factor(step))
        numbers = np.floor(places).clip(-LARGEST, LARGEST).astype(np.int64)
        planes, checks, syndromes = self._planes(), [], []
        for first in range(0, len(vector), self.size):
            block = numbers[first : first + self.size]
            for plane, syndrome, is_hashed in planes:
                bits = np.zeros(self.size, np.uint8)
                bits[: len(block)] = (block >> plane) & 1
                syndromes.append(syndrome.of(bits))
                checks += [_check(block >> plane)] if is_hashed else []
        packed = np.packbits(np.concatenate(syndromes)).tobytes()
        return struct.pack("b", step) + b"".join(checks) + packed

    def read(
        self, body: memoryview, expected: np.ndarray, contexts: np.ndarray, density: Density
    ) -> "Reading":
        """What a payload says of the residual, vector - `expected`, for float32 `expected` `[dim]`.

        In a block with a misread plane, what is below it stays unknown.

        Raises:
            PayloadError: a body is not of its size.
        """
        blocks, bits = -(-len(expected) // self.size), sum(self.plan.sent)
        checks = HASH_BYTES * sum(hashed(self.plan.sent))
        check_sizes([body], [1 + checks * blocks + -(-bits * blocks // 8)])
        factor, body = stretch.factor(*struct.unpack("b", body[:1])), body[1:]
        received = np.unpackbits(np.frombuffer(body[checks * blocks :], np.uint8))
        places, planes = self._places(expected, factor), self._planes()
        density, cell = replace(density, unit=density.unit * factor), self.plan.cell * factor
        starts, widths, misread = np.empty(len(places)), np.empty(len(places)), False
        for block in range(blocks):
            here = slice(block * self.size, (block + 1) * self.size)
            message = _Message(
                body[block * checks : (block + 1) * checks],
                received[block * bits : (block + 1) * bits],
            )
            reader = _Reader(places[here], contexts[here], density, cell, len(planes))
            misread |= reader.read(message, planes)
            starts[here], widths[here] = reader.cells()
        return Reading(starts, widths, factor, misread)

    def _step(self, vector: np.ndarray) -> int:
        """The number of steps by which cells are stretched."""
        if not self.plan.level:
            return 0
        return stretch.step_for(vector, self.plan.cell, self.plan.level)

    def _places(self, vector: np.ndarray, factor: float) -> np.ndarray:
        """float64 `[dim]`: values in units of stretched cells, dither added."""
        return vector.astype(np.float64) / (self.plan.cell * factor) + self.noise

    def _planes(self) -> list[tuple[int, Syndrome, bool]]:
        """Each plane's number, what is sent of it, and whether it is hashed; the highest first."""
        syndromes = [
            Syndrome(self.size, None if bits >= self.size else sent_places(self.size, bits))
            for bits in self.plan.sent
        ]
        numbers = reversed(range(len(syndromes)))
        return list(zip(numbers, syndromes, hashed(self.plan.sent), strict=True))


@dataclass(frozen=True, eq=False)
class Reading:
    """In which intervals a payload has a residual lie.

    Attributes:
        starts: float64 `[dim]`, where each interval begins.
        widths: float64 `[dim]`, how wide it is.
        stretch: by which factor the client stretched the cells that were planned.
        misread: whether a plane's check failed.
    """

    starts: np.ndarray
    widths: np.ndarray
    stretch: float
    misread: bool


@dataclass(frozen=True)
class _Message:
    """What is sent of a block: hashes, and the bits of all planes."""

    checks: memoryview
    bits: np.ndarray


class _Reader:
    """Narrows down, plane by plane, in which cells a block's values lie."""

    def __init__(
        self, places: np.ndarray, contexts: np.ndarray, density: Density, cell: float, planes: int
    ) -> None:
        self._places, self._contexts, self._density = places, contexts, density
        self._cell, self._planes = cell, planes
        self._known = planes  # planes that are not known, from the lowest
        self._starts = np.zeros(len(places), np.int64)  # of the cells left

    def read(self, message: _Message, planes: list[tuple[int, Syndrome, bool]]) -> bool:
        """Whether a check failed, whatever was tried; planes below the last that passed stay unknown."""
        ratios, start = np.empty(len(self._places), np.float32), 0
        checks = message.checks
        starts = self._starts
        for plane, syndrome, is_hashed in planes:
            sent, start = message.bits[start : start + syndrome.size], start + syndrome.size
            zero, one = halves(self._places, starts, plane, self._planes)
            if syndrome.places is not None:
                cell, tables = self._cell / self._density.unit, self._density.tables
                kernel.odds(zero, one, self._places, cell, self._contexts, tables, ratios)
                np.log(ratios, out=ratios)
            for bits in syndrome.readings(sent, ratios, _REVERSALS):
                starts = np.where(bits, one, zero)
                if not is_hashed or _check(starts >> plane) == checks[:HASH_BYTES]:
                    break
            else:
                return True
            if is_hashed:
                checks = checks[HASH_BYTES:]
                self._starts, self._known = starts, plane
        return False

    def cells(self) -> tuple[np.ndarray, float]:
        """Where residuals lie: starts, and the width from there."""
        if self._known == self._planes:
            return np.full(len(self._places), -ANYWHERE), 2 * ANYWHERE
        return (self._starts - self._places) * self._cell, 2.0**self._known * self._cell


def _check(numbers: np.ndarray) -> bytes:
    return xxhash.xxh3_64_digest(numbers.astype("<i8", copy=False).tobytes())[:HASH_BYTES]
