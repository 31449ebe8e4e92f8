"""The rotated modulo quantizer: indices modulo a few levels; the server's memory knows the rest."""

from dataclasses import dataclass
from math import floor
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack, packed_size, unpack
from wzfl.compressors.envelope import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    check_sizes,
    checked,
    float32_bytes,
    float32_rows,
    open_rows,
    seal_rows,
)
from wzfl.errors import InputError
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back
from wzfl.theory import best_reach, modulo_distortion, modulo_step

_NARROWEST = 2
_OWN_SCALE_BYTES = 4
# Far below half the smallest float32, to which a decoded zero vector rounds; nothing is divided by 0.
_SMALLEST_CELL = 1e-60


@dataclass(frozen=True)
class WynerZiv:
    """Rotates, rounds, and sends indices modulo 2**bits; decodes to the candidate nearest to `side`.

    A coordinate decodes to within a cell of its value whenever its rotated distance to the server's
    side information is at most `reach * public.scale`; beyond that it lands a block away. At
    bitrates that are not whole, a shared random subset takes one bit more; below 2 bits only a
    subset is sent, scaled up to stay unbiased. Where the server plans no scale (0), the client scales by
    its own RMS, sends that along, and is decoded without side information.

    Source: the (subsampled) rotated modulo quantizer of Mayekar, Suresh, Tyagi, "Wyner-Ziv Estimators"
    (AISTATS 2021), as used by Liang et al., "Wyner-Ziv Gradient Compression for Federated Learning"
    (2021). Ours: subtractive dither (half the error of stochastic rounding, the published choice),
    scales instead of bounds, a rotation without padding.

    Attributes:
        bitrate: bits per coordinate.
        rounding: "dither" (shared offset, removed at the decoder) or "stochastic" (as published).
        reach: trusted distance to the side information per rotated coordinate, in units of
            `public.scale`; None takes the value of least error for a Gaussian residual.
        unbiased: False shrinks the decoded residual by 1 / (1 + omega), omega its relative error: a
            smaller error, but one that does not average out over clients.
    """

    bitrate: float
    rounding: str = "dither"
    reach: float | None = None
    unbiased: bool = True

    wire_id: ClassVar[int] = 4
    aggregation: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        check_bitrate("wyner_ziv", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        if self.rounding not in ("dither", "stochastic"):
            raise InputError(f"rounding is 'dither' or 'stochastic'; got {self.rounding!r}")
        if self.reach is not None and not self.reach > 0:
            raise InputError(f"reach must be above 0, or null for the best; got {self.reach}")

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        rotated = rotate(updates, public)
        own_scale = _root_mean_squares(rotated)
        planned = public.scale > 0
        scale = torch.where(planned, public.scale, own_scale)
        sent = self._sent(rotated, public)
        noise = public.uniform("rounding", sent.shape[1])
        bodies = [
            b"" if known else own
            for known, own in zip(planned.tolist(), float32_bytes(own_scale[:, None]), strict=True)
        ]
        for bits, columns in self._widths(dim):
            cells = sent[:, columns].double() / self._cell(bits, scale)
            indices = torch.floor(cells + noise[:, columns])
            # The remainder by 2**bits; exact in floating point, and several times faster than fmod.
            residues = indices - torch.floor(indices * 2.0**-bits) * 2.0**bits
            packed = pack(residues, bits)
            bodies = [body + more for body, more in zip(bodies, packed, strict=True)]
        return seal_rows(self, bodies, dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = side.shape[1]
        bodies = open_rows(self, payloads, dim, public)
        starts = [0 if known else _OWN_SCALE_BYTES for known in (public.scale > 0).tolist()]
        widths = self._widths(dim)
        size = sum(packed_size(_length(columns), bits) for bits, columns in widths)
        check_sizes(bodies, [start + size for start in starts])
        scale = self._scale(bodies, public)
        side = side * (public.scale > 0)[:, None]
        expected = self._sent(rotate(side, public), public)
        noise = public.uniform("rounding", expected.shape[1])
        residual = torch.empty_like(expected)
        for bits, columns in widths:
            count = _length(columns)
            stops = [start + packed_size(count, bits) for start in starts]
            strings = [body[a:b] for body, a, b in zip(bodies, starts, stops, strict=True)]
            residual[:, columns] = self._residual(
                unpack(strings, bits, count).to(side.device).double(),
                expected[:, columns].double(),
                noise[:, columns],
                self._cell(bits, scale),
                2**bits,
            )
            starts = stops
        return side + self._shrinkage(dim) * rotate_back(
            self._unsent(residual, dim, public), public
        )

    def residual_gain(self, dim: int, scale_ratio: float) -> float:
        """See `SideInformed`."""
        gain = 1 + self._noise(dim, scale_ratio)
        return gain if self.unbiased else gain * self._shrinkage(dim) ** 2

    def _noise(self, dim: int, scale_ratio: float = 1.0) -> float:
        """omega in E|unbiased estimate - update|**2 = omega |update - side|**2."""
        widths = self._widths(dim)
        count = sum(_length(columns) for _, columns in widths)
        distortion = sum(
            _length(columns)
            / count
            * scale_ratio**2
            * modulo_distortion(2**bits, self._reach(bits), self.rounding, 1 / scale_ratio)
            for bits, columns in widths
        )
        return (dim / count) * (1 + distortion) - 1

    def _shrinkage(self, dim: int) -> float:
        """The factor on the decoded residual of least squared error."""
        return 1.0 if self.unbiased else 1 / (1 + self._noise(dim))

    def _residual(
        self, residues: Tensor, expected: Tensor, noise: Tensor, cell: Tensor, levels: int
    ) -> Tensor:
        """Decoded minus expected, `[clients, count]`: the candidate nearest to what is expected."""
        # A dithered index stands for the middle of its cell less the shared offset.
        candidate = (residues + 0.5).sub_(noise) if self.rounding == "dither" else residues
        blocks = (expected / cell).sub_(candidate).div_(levels).round_()
        return blocks.mul_(levels).add_(candidate).mul_(cell).sub_(expected).float()

    def _widths(self, dim: int) -> list[tuple[int, slice]]:
        """Bits per symbol, and the columns of the sent coordinates that take them."""
        if self.bitrate < _NARROWEST:
            return [(_NARROWEST, slice(0, max(1, round(self.bitrate * dim / _NARROWEST))))]
        bits = floor(self.bitrate)
        wide = round((self.bitrate - bits) * dim)
        both = [(bits + 1, slice(0, wide)), (bits, slice(wide, dim))]
        return [(width, columns) for width, columns in both if _length(columns)]

    def _order(self, dim: int, public: Public) -> Tensor | None:
        """`[clients, count]`: which rotated coordinates are sent, in order; None: all, as they are."""
        widths = self._widths(dim)
        if len(widths) == 1 and _length(widths[0][1]) == dim:
            return None
        return public.subset("sent", dim, sum(_length(columns) for _, columns in widths))

    def _sent(self, rotated: Tensor, public: Public) -> Tensor:
        order = self._order(rotated.shape[1], public)
        return rotated if order is None else rotated.gather(1, order)

    def _unsent(self, sent: Tensor, dim: int, public: Public) -> Tensor:
        """`[clients, dim]`: the sent coordinates in their places, scaled up for those not sent."""
        order = self._order(dim, public)
        if order is None:
            return sent
        spread = torch.zeros(len(sent), dim, device=sent.device)
        return spread.scatter_(1, order, sent * (dim / sent.shape[1]))

    def _scale(self, bodies: list[memoryview], public: Public) -> Tensor:
        """`[clients]`: planned by the server, or sent along."""
        scale = public.scale.clone()
        for row, body in enumerate(bodies):
            if scale[row] == 0:
                scale[row] = float32_rows([body[:_OWN_SCALE_BYTES]], scale.device)[0, 0]
        return scale

    def _cell(self, bits: int, scale: Tensor) -> Tensor:
        """`[clients, 1]` float64 cell sizes, at least `_SMALLEST_CELL`."""
        step = modulo_step(2**bits, self._reach(bits), self.rounding)
        # float64: update / cell can pass 2**24, where float32 no longer tells neighbours apart.
        return (scale.double() * step).clamp_min(_SMALLEST_CELL)[:, None]

    def _reach(self, bits: int) -> float:
        return self.reach if self.reach is not None else best_reach(2**bits, self.rounding)


def _root_mean_squares(rows: Tensor) -> Tensor:
    """`[clients]` float32; row by row, so that a row's sum does not depend on the batch."""
    return torch.stack([row.double().square().mean().sqrt() for row in rows]).float()


def _length(columns: slice) -> int:
    return int(columns.stop - columns.start)
