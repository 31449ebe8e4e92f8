"""Planes of bits as polar syndromes: what is sent of a block, and how it is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

from wzfl.kernels import polar
from wzfl.polar import block_size

CHECK_BYTES = 2  # of a block
CERTAIN_RATIO = 1e6  # log-likelihood ratio of a bit that is known


@dataclass(frozen=True, eq=False)
class Syndrome:
    """What is sent of a plane of `count` bits: some of them, polar transformed, or the plane as it is.

    Attributes:
        places: which of the transformed bits are sent, ascending; None: the plane is sent as it is.
    """

    count: int
    places: np.ndarray | None

    @property
    def size(self) -> int:
        """The number of bits that are sent."""
        return self.count if self.places is None else len(self.places)

    def of(self, bits: np.ndarray) -> np.ndarray:
        """What is sent, uint8 `[size]`, of `bits`, uint8 `[count]`."""
        if self.places is None:
            return bits
        padded = np.zeros(block_size(self.count), np.uint8)
        padded[: self.count] = bits
        polar.transform(padded)
        return padded[self.places]

    def read(
        self, sent: np.ndarray, ratios: np.ndarray, reversals: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bits, uint8 `[blocks, n]`, by successive cancellation from log P(0) / P(1) of the first n.

        All bits after these are known to be 0. With them the places of the closest decisions, int64
        `[blocks, reversals]`, the closest first, -1 where there are no more; a plane that is sent as it is
        has none. `sent` is uint8 `[blocks, size]`.
        """
        count = 0 if self.places is None else reversals
        doubtful = np.full((len(sent), count), -1)
        margins = np.full(doubtful.shape, CERTAIN_RATIO, np.float32)
        nowhere = np.full(len(sent), -1)
        return self._decoded(sent, ratios, nowhere, doubtful, margins), doubtful

    def read_again(
        self, sent: np.ndarray, ratios: np.ndarray, reversed_places: np.ndarray
    ) -> np.ndarray:
        """Bits, uint8 `[blocks, n]`, if the decision at `reversed_places`, int64 `[blocks]`, was wrong.

        Source: Afisiadis, Balatsoukas-Stimming, Burg, "A Low-Complexity Improved Successive Cancellation
        Decoder for Polar Codes", Asilomar 2014; decisions on whole constituent codes: Giard & Burg,
        "Fast-SSC-Flip Decoding of Polar Codes", WCNC Workshops 2018.
        """
        doubtful = np.empty((len(sent), 1), np.int64)
        margins = np.zeros(doubtful.shape, np.float32)  # nothing is closer
        return self._decoded(sent, ratios, reversed_places, doubtful, margins)

    def readings(
        self, sent: np.ndarray, ratios: np.ndarray, reversals: int
    ) -> Iterator[np.ndarray]:
        """What a block, `[n]`, is read as; then its bits if one of the closest decisions was wrong."""
        (bits,), (doubtful,) = self.read(sent[None], ratios[None], reversals)
        yield bits
        doubtful = doubtful[doubtful >= 0]
        copies = len(doubtful), 1
        if len(doubtful):
            yield from self.read_again(np.tile(sent, copies), np.tile(ratios, copies), doubtful)

    def _decoded(
        self,
        sent: np.ndarray,
        ratios: np.ndarray,
        reversed_places: np.ndarray,
        doubtful: np.ndarray,
        margins: np.ndarray,
    ) -> np.ndarray:
        """Bits, uint8 `[blocks, n]`; `doubtful` and `margins` are filled, see `polar.decode`."""
        blocks, count = ratios.shape
        if self.places is None:
            return sent[:, :count]
        size = block_size(self.count)
        known_bits, bits = np.zeros((2, size, blocks), np.uint8)
        known_bits[self.places] = sent.T
        room = np.empty((2 * size, blocks), np.float32)
        polar.transpose(ratios, room[:count])
        room[count:size] = CERTAIN_RATIO
        polar.decode(room, self._sent_before, known_bits, bits, reversed_places, doubtful, margins)
        read = np.empty((blocks, count), np.uint8)
        polar.transpose(bits[:count], read)
        return read

    @cached_property
    def _sent_before(self) -> np.ndarray:
        """`[block size + 1]`: how many of the places come before each position."""
        assert self.places is not None
        chosen = np.zeros(block_size(self.count), dtype=bool)
        chosen[self.places] = True
        return np.concatenate([[0], np.cumsum(chosen)])


def checks(blocks: np.ndarray) -> np.ndarray:
    """uint16 `[blocks]`: two bytes of a hash of each of `blocks` `[blocks, count]`."""
    return np.array([xxhash.xxh32_intdigest(block.tobytes()) & 0xFFFF for block in blocks], "<u2")


def stored_checks(data: memoryview) -> np.ndarray:
    """uint16 `[blocks]`: the `checks` of a client's blocks, `CHECK_BYTES` each, as they were sent."""
    return np.frombuffer(data, "<u2")
