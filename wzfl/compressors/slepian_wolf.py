"""Slepian-Wolf coded quantization: cell numbers as syndromes, read with the server's memory."""

from dataclasses import dataclass
from math import floor
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors import plane_reader, planned_scale, posterior
from wzfl.compressors.allocation import Allocation
from wzfl.compressors.bit_planes import Design, design
from wzfl.compressors.envelope import open_rows, seal_rows, split
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    check_choice,
    check_planned,
    checked,
    finite,
    usable,
)
from wzfl.compressors.modulo import SMALLEST_CELL, fold, unfold
from wzfl.compressors.syndromes import CHECK_BYTES, checks, stored_checks
from wzfl.errors import InputError
from wzfl.norms import rms
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back
from wzfl.theory import modulo_moments, posterior_energy

_LARGEST_BLOCK = 2**20
# Checksums of blocks may take so much of a payload, and those of a few blocks in any case: measured bits are
# within 2 % of the bitrate, plus 24 bytes for a frame, a scale and these.
_SHARE_OF_CHECKS = 0.02
_FREE_CHECKS = 5
_TURNS = 2  # of the rotation: the decoder trusts that what it sees is Gaussian


@dataclass(frozen=True)
class SlepianWolf:
    """Rotates, rounds with dither, and sends of every bit of the cell numbers only what is not expected.

    The modulo quantizer sends the low bits of a cell number as they are, and wide margins keep the
    decoder in the right block. Here cells are as fine as the conditional entropy of their numbers allows:
    bit planes are polar coded in blocks of up to 2**20 coordinates, and the decoder (successive
    cancellation, plane by plane) knows each bit's probability from the side information and the planes
    below. The encoder only transforms bits and picks some of them. A block whose checksum does not match
    is read again with its closest decisions reversed one by one; if none helps it decodes to the side
    information alone, and its row counts as failed; so does every block of a residual that is much larger
    than planned. Below one bit per coordinate a shared random subset is sent. Scales are those of
    `WynerZiv`.

    Source: Slepian & Wolf, IEEE Trans. IT 19(4), 1973; quantized, with multilevel codes: Liu, Cheng,
    Liveris, Xiong, "Slepian-Wolf Coded Nested Lattice Quantization", IEEE Trans. IT 52(10), 2006; polar
    syndromes: Arikan, "Source Polarization", ISIT 2010.

    Attributes:
        bitrate: bits per coordinate; two bytes of checksum per block are on top, 2 % at most.
        estimator: "plain", the middle of the cell, unbiased; or "posterior_mean" of a Gaussian residual,
            whose error is smaller but does not average out over clients.
        block: most coordinates of a block; longer blocks are nearer to the limit.
    """

    bitrate: float
    estimator: str = "plain"
    block: int = 2**17

    name: ClassVar[str] = "slepian_wolf"
    wire_id: ClassVar[int] = 14
    aggregation: ClassVar[str] = "mean"
    # Bits per coordinate that is sent; where there are fewer bits, only some of the coordinates are.
    narrowest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_bitrate(self.name, self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        check_choice("estimator", self.estimator, ("plain", "posterior_mean"))
        check_block(self.block)

    @property
    def unbiased(self) -> bool:
        return self.estimator == "plain"

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        return seal_rows(self, self.bodies(updates, public), updates.shape[1], public)

    def bodies(self, updates: Tensor, public: Public) -> list[bytes]:
        """Payloads without their frames, one per row of `updates` `[clients, dim]`."""
        allocation, code = self._code(updates.shape[1])
        rotated = rotate(updates, public, _TURNS)
        scale, own_scale_bytes = planned_scale.chosen(lambda rows: rms(rotated[rows]), public)
        symbols = self._quantized(
            code,
            allocation.gather(rotated, public),
            public.uniform("rounding", allocation.count),
            self._cell(code, scale),
        )
        return [
            own + _syndromes(code, row)
            for own, row in zip(own_scale_bytes, _blocks(code, symbols), strict=True)
        ]

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return self.decode_checked(payloads, side, public)[0]

    def decode_checked(
        self, payloads: list[bytes], side: Tensor, public: Public
    ) -> tuple[Tensor, Tensor]:
        """See `SideInformed`."""
        side = usable(side, public)
        bodies = open_rows(self, payloads, side.shape[1], public)
        return self.read(bodies, side, public)

    def read(self, bodies: list[memoryview], side: Tensor, public: Public) -> tuple[Tensor, Tensor]:
        """What `decode_checked` gives, from payloads without their frames."""
        allocation, code = self._code(side.shape[1])
        blocks = -(-allocation.count // code.count)
        sizes = [CHECK_BYTES * blocks, -(-sum(code.sizes) * blocks // 8)]
        scale, rest = planned_scale.read(bodies, sum(sizes), public)
        sent_checks, syndromes = split(rest, sizes)
        if not all(public.has_scale):
            side = side * (public.scale > 0)[:, None]
        expected = allocation.gather(rotate(side, public, _TURNS), public)
        noise, cell = public.uniform("rounding", allocation.count), self._cell(code, scale)
        places = (expected.double() / cell[:, None] + self._offsets(code, noise)).cpu().numpy()
        hashes = np.stack([stored_checks(check) for check in sent_checks])
        symbols, wrong = plane_reader.read(code, syndromes, places, hashes)
        numbers = symbols.reshape(len(symbols), blocks * code.count)[:, : allocation.count]
        noise = self._offsets(code, noise, numbers)
        residual, _ = unfold(
            torch.from_numpy(numbers).to(side.device), noise, expected, cell, len(code.planes), 0
        )
        residual = self._estimate(code, residual, scale)
        for row, block in np.argwhere(wrong):
            residual[row, block * code.count : (block + 1) * code.count] = 0
        if self.unbiased and allocation.count < allocation.dim:
            residual *= allocation.dim / allocation.count
        residual = rotate_back(allocation.scatter(residual, public), public, _TURNS)
        failed = torch.from_numpy(wrong.any(axis=1)).to(side.device)
        return finite(residual.add_(side), public, side=side), failed

    def residual_gain(self, dim: int, scale_ratio: float) -> float:
        """See `SideInformed`."""
        check_planned(dim, scale_ratio)
        allocation, code = self._code(dim)
        sampled = allocation.count / dim
        energy = self._energy(code, 1 / scale_ratio) * scale_ratio**2
        return energy / sampled if self.unbiased else energy * sampled

    def _quantized(self, code: Design, values: Tensor, noise: Tensor, cell: Tensor) -> Tensor:
        """`[clients, count]`: cell numbers, modulo what the planes tell."""
        return fold(values, noise, cell, len(code.planes), 0)[0]

    def _offsets(self, code: Design, noise: Tensor, numbers: np.ndarray | None = None) -> Tensor:
        """Offset added before rounding down, in cells; it may depend on `numbers`, once they are known."""
        return noise

    def _energy(self, code: Design, residual: float) -> float:
        """E of the squared estimate of a residual N(0, residual**2), in units of the scale's square."""
        if self.estimator == "posterior_mean":
            return posterior_energy(*_modulo(code), residual)
        return modulo_moments(*_modulo(code), "dither", residual).energy

    def _estimate(self, code: Design, residual: Tensor, scale: Tensor) -> Tensor:
        """The residual's estimate `[clients, count]`, from its distance to the middle of the cell."""
        if self.estimator == "plain":
            return residual
        return posterior.estimates(residual, scale, *_modulo(code))

    def _cell(self, code: Design, scale: Tensor) -> Tensor:
        """`[clients]` float64: sizes of cells."""
        return (scale.double() * code.cell).clamp_min(SMALLEST_CELL)

    def _code(self, dim: int) -> tuple[Allocation, Design]:
        """Which coordinates are sent, and how a block of them is; or an `InputError`."""
        budget = max(1, floor(dim * self.bitrate))
        count = min(dim, max(1, floor(budget / self.narrowest)))
        blocks = -(-count // self.block)
        most = _FREE_CHECKS + int(_SHARE_OF_CHECKS * self.bitrate * dim / (8 * CHECK_BYTES))
        if blocks > most:
            raise InputError(
                f"block={self.block} is too short: checksums of {blocks} blocks take more than 2 % of"
                f" {dim} coordinates at {self.bitrate} bits; set block to {-(-count // most)} or more"
            )
        size, share = -(-count // blocks), budget // blocks
        # Rotated gradients have energy in places whose distances are powers of two, as a polar code's are.
        return Allocation(dim, ((1, slice(0, count)),), shuffled=True), self._design(size, share)

    def _design(self, count: int, bits: int) -> Design:
        return design(count, bits)


def check_block(block: int) -> None:
    """Raises `InputError` unless a block may be of so many coordinates."""
    if not 1 <= block <= _LARGEST_BLOCK:
        raise InputError(f"block must be 1 to {_LARGEST_BLOCK}; got {block}")


def _modulo(code: Design) -> tuple[int, float]:
    """Levels and reach of the modulo quantizer of the same cells and planes."""
    levels = 2 ** len(code.planes)
    return levels, code.cell * (levels - 1) / 2


def _blocks(code: Design, symbols: Tensor) -> np.ndarray:
    """`[clients, blocks, size]`: cell numbers, 0 beyond the last coordinate."""
    padded = torch.nn.functional.pad(symbols, (0, -symbols.shape[1] % code.count))
    return (
        padded.view(len(symbols), -1, code.count)
        .cpu()
        .numpy()
        .astype(plane_reader.number_dtype(code), copy=False)
    )


def _syndromes(code: Design, symbols: np.ndarray) -> bytes:
    """Checksums and what is sent of a client's cell numbers `[blocks, size]`."""
    parts = [
        plane.syndrome.of(((block >> number) & 1).astype(np.uint8))
        for block in symbols
        for number, plane in enumerate(code.planes)
    ]
    return checks(symbols).tobytes() + np.packbits(np.concatenate(parts)).tobytes()
