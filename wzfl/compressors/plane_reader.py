"""How blocks of bit planes are read: plane by plane, and once more where a check does not match."""

from dataclasses import dataclass

import numpy as np

from wzfl.compressors.bit_planes import Design
from wzfl.compressors.syndromes import CERTAIN_RATIO, checks
from wzfl.compressors.trellis import halves
from wzfl.kernels import polar
from wzfl.threads import in_threads, runs

# Decisions in each plane that are tried reversed; with wrong scales many blocks fail, and it is in vain.
_REVERSALS = 4
_AT_ONCE = 16  # blocks: a decoder's steps are short, and one for many blocks takes hardly longer


def read(
    code: Design, syndromes: list[memoryview], places: np.ndarray, sent_checks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cell numbers `[clients, blocks, size]`, and which blocks failed, bool `[clients, blocks]`.

    Numbers are read from what was sent and where they are expected, at float64 `places` `[clients, n]`, in
    cells. Of the readings of a block the first counts whose check is that of `sent_checks`
    `[clients, blocks]`; if there is none the block failed, and the first of all counts.
    """
    clients, blocks = sent_checks.shape
    sent = np.stack([np.unpackbits(np.frombuffer(each, np.uint8)) for each in syndromes])
    sent = sent[:, : blocks * sum(code.sizes)].reshape(clients * blocks, -1)
    beyond = blocks * code.count - places.shape[1]
    if beyond:
        places = np.pad(places, ((0, 0), (0, beyond)), constant_values=np.nan)
    places, sent_checks = places.reshape(len(sent), -1), sent_checks.reshape(-1)

    def some(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        nothing = _Known(0, sent[rows], np.zeros(places[rows].shape, np.int32), places[rows])
        return _read(code, nothing, sent_checks[rows])

    batches = -(-len(sent) // _AT_ONCE)
    parts = in_threads(some, runs(len(sent), -(-len(sent) // batches)))
    numbers, failed = (np.concatenate(part) for part in zip(*parts, strict=True))
    return numbers.reshape(clients, blocks, -1), failed.reshape(clients, blocks)


def number_dtype(code: Design) -> str:
    """Numpy's name of the type of cell numbers, whose bytes are hashed; it is the same on any device."""
    return "u1" if len(code.planes) <= 8 else "<i4"


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of blocks when the planes below `plane` are.

    Attributes:
        sent: uint8 `[blocks, bits]`, what was sent of this plane and those above.
        lower: int32 `[blocks, n]`, the bits of those below.
        places: float64 `[blocks, n]`, what is expected, in cells; NaN beyond the last coordinate.
    """

    plane: int
    sent: np.ndarray
    lower: np.ndarray
    places: np.ndarray

    def rows(self, rows: np.ndarray) -> "_Known":
        """What is known of these blocks alone."""
        return _Known(self.plane, self.sent[rows], self.lower[rows], self.places[rows])

    def ratios(self, code: Design) -> np.ndarray:
        """float32 `[blocks, n]`: log P(0) / P(1) of the plane's bits."""
        ratios = np.empty(self.places.shape, np.float32)
        places, lower = self.places.reshape(-1), self.lower.reshape(-1)
        table = code.planes[self.plane].ratios
        polar.look_up_ratios(places, lower, self.plane, table, CERTAIN_RATIO, ratios.reshape(-1))
        return ratios

    def sent_of(self, code: Design) -> np.ndarray:
        """uint8 `[blocks, bits]`: what was sent of the plane."""
        return self.sent[:, : code.sizes[self.plane]]

    def joined(self, code: Design, bits: np.ndarray) -> "_Known":
        """What is known with the plane's `bits`, too; the lowest of a trellis say where its points are."""
        on_a_path = code.quantizer.trellis_coded and self.plane == 0
        places = self.places - halves(bits) if on_a_path else self.places
        lower = self.lower + (bits.astype(np.int32) << self.plane)
        return _Known(self.plane + 1, self.sent[:, code.sizes[self.plane] :], lower, places)

    def numbers(self, code: Design) -> np.ndarray:
        """Cell numbers `[blocks, n]`, once all planes are known; 0 beyond the last coordinate."""
        numbers = self.lower.astype(number_dtype(code))
        for row in np.flatnonzero(np.isnan(self.places[:, -1])):
            numbers[row, np.isnan(self.places[row])] = 0
        return numbers


def _read(code: Design, nothing: _Known, sent_checks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell numbers `[blocks, n]`, and which blocks failed."""
    path, doubtful = _path(code, nothing)
    numbers = path[-1].numbers(code)
    failed = checks(numbers) != sent_checks
    misread = np.flatnonzero(failed)
    for some in runs(len(misread), _AT_ONCE // _REVERSALS):
        _correct(code, path, doubtful, sent_checks, misread[some], numbers, failed)
    return numbers, failed


def _path(code: Design, known: _Known) -> tuple[list[_Known], list[np.ndarray]]:
    """What is known before each of the planes from `known.plane` on, and after the last.

    With it the closest decisions in each of them.
    """
    path, doubtful = [known], []
    for plane in code.planes[known.plane :]:
        bits, closest = plane.syndrome.read(known.sent_of(code), known.ratios(code), _REVERSALS)
        known = known.joined(code, bits)
        path.append(known)
        doubtful.append(closest)
    return path, doubtful


def _correct(
    code: Design,
    path: list[_Known],
    doubtful: list[np.ndarray],
    sent_checks: np.ndarray,
    blocks: np.ndarray,
    numbers: np.ndarray,
    failed: np.ndarray,
) -> None:
    """Puts into `numbers` those of `blocks` whose check is right once a close decision is reversed.

    These have not `failed`.
    """
    for known, closest in zip(path[:-1], doubtful, strict=True):
        row, column = np.nonzero(closest[blocks] >= 0)
        if not len(row):
            continue
        block = blocks[row]
        tried, syndrome = known.rows(block), code.planes[known.plane].syndrome
        bits = syndrome.read_again(tried.sent_of(code), tried.ratios(code), closest[block, column])
        readings = _path(code, tried.joined(code, bits))[0][-1].numbers(code)
        right = np.flatnonzero(checks(readings) == sent_checks[block])
        found, first = np.unique(row[right], return_index=True)
        numbers[blocks[found]] = readings[right[first]]
        failed[blocks[found]] = False
        blocks = np.delete(blocks, found)
