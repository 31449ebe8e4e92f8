"""DAQ and RDAQ: one shared threshold per coordinate, compared with by both ends."""

from dataclasses import dataclass
from math import log, pi, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack, packed_size, unpack
from wzfl.compressors.envelope import check_sizes, open_rows, seal_parts
from wzfl.compressors.inputs import checked, finite, usable
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back

_LOWEST_EXPONENT = -127  # of the ladder; one byte reaches 128, above all of float32


@dataclass(frozen=True)
class DAQ:
    """Sends whether each coordinate is above a shared threshold u, uniform on [-M, M]. Unbiased.

    Decodes to 2M (1{u <= x} - 1{u <= y}) + y, whose variance is at most 2M |x - y|: the closer the side
    information, the smaller the error, at any distance and without a planned scale. M is the power of
    two above the largest magnitude; its exponent is sent. Where the server plans no scale (0), the
    side information counts as zero.

    Source: the distance adaptive quantizer of Mayekar, Suresh, Tyagi, "Wyner-Ziv Estimators" (AISTATS
    2021). Ours: one range for the whole vector from a ladder of powers of two, and side information
    outside of it counts as its end.

    Attributes:
        rotation: True rotates first, RDAQ: all coordinates are alike, and M is small.
    """

    rotation: bool = True

    wire_id: ClassVar[int] = 5
    aggregation: ClassVar[str] = "mean"
    bitrate: ClassVar[float] = 1.0
    unbiased: ClassVar[bool] = True

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        rotated = rotate(updates, public) if self.rotation else updates
        largest = rotated.abs().amax(dim=1)
        rungs = torch.frexp(largest).exponent.where(largest > 0, _LOWEST_EXPONENT)
        rungs = rungs.clamp_min(_LOWEST_EXPONENT)
        above = self._thresholds(rungs, updates.shape[1], public) <= rotated.double()
        exponents = [bytes([rung - _LOWEST_EXPONENT]) for rung in rungs.tolist()]
        return seal_parts(
            self, zip(exponents, pack(above, 1), strict=True), updates.shape[1], public
        )

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return self.decode_checked(payloads, side, public)[0]

    def decode_checked(
        self, payloads: list[bytes], side: Tensor, public: Public
    ) -> tuple[Tensor, Tensor]:
        """See `SideInformed`; no row ever fails."""
        side = usable(side, public)
        dim = side.shape[1]
        bodies = open_rows(self, payloads, dim, public)
        check_sizes(bodies, [1 + packed_size(dim, 1)] * len(bodies), public.clients)
        rungs = torch.tensor([body[0] + _LOWEST_EXPONENT for body in bodies], device=side.device)
        thresholds = self._thresholds(rungs, dim, public)
        largest = _power_of_two(rungs)
        side = side.float() * (public.scale > 0)[:, None]
        side.masked_fill_(side.isinf(), torch.nan)  # which no clamp hides from `finite`
        expected = rotate(side, public) if self.rotation else side
        expected = torch.clamp(expected.double(), -largest, largest)
        above = unpack([body[1:] for body in bodies], 1, dim, side.device)
        jumps = above - (thresholds <= expected).int()
        decoded = (2 * largest * jumps + expected).float()
        estimates = rotate_back(decoded, public) if self.rotation else decoded
        return finite(estimates, public, side=side), torch.zeros(
            len(bodies), dtype=torch.bool, device=side.device
        )

    def residual_gain(self, dim: int, scale_ratio: float) -> float:
        """See `SideInformed`; that of a Gaussian update without side information.

        With some, E|estimate - side|**2 / dim = 2M E|x - y| falls slower than the residual's energy,
        and what a damped memory keeps of the noise falls with it.
        """
        largest = sqrt(2 * log(dim + 1)) / log(2)  # 1 / log 2: a power of two is above by that much
        return max(1.0, 2 * largest * sqrt(2 / pi))

    def _thresholds(self, rungs: Tensor, dim: int, public: Public) -> Tensor:
        """`[clients, dim]` float64, uniform on [-M, M)."""
        return public.uniform("threshold", dim).double().mul_(2).sub_(1) * _power_of_two(rungs)


def _power_of_two(rungs: Tensor) -> Tensor:
    """`[clients, 1]` float64: 2 to the power of each rung."""
    return torch.ldexp(
        torch.ones(len(rungs), 1, dtype=torch.float64, device=rungs.device), rungs[:, None]
    )
