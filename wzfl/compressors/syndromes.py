"""Planes of bits as polar syndromes: what is sent of a block, and how it is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

from wzfl.kernels import polar
from wzfl.polar import block_size

CHECK_BYTES = 2  # of a block
_CERTAIN = 1e6  # log-likelihood ratio of what is known
_REVERSALS = 16  # of decisions that are tried where a check fails


@dataclass(frozen=True, eq=False)
class Syndrome:
    """Of a plane of `count` bits.

    Attributes:
        places: which of the transformed bits are sent, ascending; None: the plane is sent as it is.
    """

    count: int
    places: np.ndarray | None

    @property
    def size(self) -> int:
        """Bits sent."""
        return self.count if self.places is None else len(self.places)

    def of(self, bits: np.ndarray) -> np.ndarray:
        """uint8 `[size]` of `bits`, uint8 `[count]`."""
        if self.places is None:
            return bits
        padded = np.zeros(block_size(self.count), np.uint8)
        padded[: self.count] = bits
        polar.transform(padded)
        return padded[self.places]

    def read(self, sent: np.ndarray, ratios: np.ndarray) -> np.ndarray:
        """The bits, uint8 `[n]`, by successive cancellation from log P(0) / P(1) of the first n.

        All after these are known to be 0.
        """
        return next(self.readings(sent, ratios))

    def readings(self, sent: np.ndarray, ratios: np.ndarray) -> Iterator[np.ndarray]:
        """What `read` returns, then what the bits are if one of the closest decisions was wrong.

        Source: Afisiadis, Balatsoukas-Stimming, Burg, "A Low-Complexity Improved Successive Cancellation
        Decoder for Polar Codes", Asilomar 2014; decisions on whole constituent codes: Giard & Burg,
        "Fast-SSC-Flip Decoding of Polar Codes", WCNC Workshops 2018.
        """
        if self.places is None:
            yield sent[: len(ratios)]
            return
        size = block_size(self.count)
        padded, told = np.full(size, _CERTAIN, np.float32), np.zeros(size, np.uint8)
        padded[: len(ratios)] = ratios
        told[self.places] = sent
        doubtful, margins = np.full(_REVERSALS, -1), np.full(_REVERSALS, _CERTAIN, np.float32)

        def bits(reversed_place: int, *noted: np.ndarray) -> np.ndarray:
            read, scratch = np.empty(size, np.uint8), np.empty(size, np.float32)
            polar.decode(padded, self._sent_before, told, 0, read, scratch, reversed_place, *noted)
            return read[: len(ratios)]

        yield bits(-1, doubtful, margins)
        for place in doubtful[doubtful >= 0]:
            yield bits(place, doubtful.copy(), margins.copy())

    @cached_property
    def _sent_before(self) -> np.ndarray:
        """`[block size + 1]`: how many of the places come before each position."""
        assert self.places is not None
        chosen = np.zeros(block_size(self.count), dtype=bool)
        chosen[self.places] = True
        return np.concatenate([[0], np.cumsum(chosen)])


def checks(blocks: np.ndarray) -> np.ndarray:
    """`[blocks]`: two bytes of a hash of each of `blocks` `[blocks, count]`."""
    return np.array([xxhash.xxh32_intdigest(block.tobytes()) & 0xFFFF for block in blocks], "<u2")


def stored_checks(data: memoryview) -> np.ndarray:
    return np.frombuffer(data, "<u2")
