"""Slepian-Wolf coded, trellis-coded quantization."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from wzfl.compressors import trellis
from wzfl.compressors.bit_planes import Design, design
from wzfl.compressors.slepian_wolf import SlepianWolf


@dataclass(frozen=True)
class SlepianWolfTrellis(SlepianWolf):
    """`SlepianWolf` with trellis-coded quantization (TCQ), on the nearest path of an eight-state trellis.

    The path takes one bit per coordinate, sent as it is; given it, what is left of the numbers is coded as
    that of numbers rounded one by one. The error is 1.08 dB less for the same bits where bits are many. Below
    1.3 bits per coordinate a shared random subset is sent, with 1.3 bits each: at any length of block, more
    coordinates with less, or fewer with more, err more.

    Source: Yang, Cheng, Xiong, Zhao, "Wyner-Ziv Coding Based on TCQ and LDPC Codes", IEEE Trans. Comm. 57(2),
    2009.

    Attributes are those of `SlepianWolf`; "posterior_mean" is, along a trellis, that of a Gaussian error.
    """

    name: ClassVar[str] = "slepian_wolf_trellis"
    wire_id: ClassVar[int] = 18
    narrowest: ClassVar[float] = 1.3

    def _design(self, count: int, bits: int) -> Design:
        return design(count, bits, trellis_coded=True)

    def _quantized(self, code: Design, values: Tensor, noise: Tensor, cell: Tensor) -> Tensor:
        return trellis.fold(values, noise, cell, len(code.planes), 0, run=code.count)[0]

    def _offsets(self, code: Design, noise: Tensor, numbers: np.ndarray | None = None) -> Tensor:
        if numbers is None:
            return trellis.unknown_path(noise)
        return trellis.known_path(noise, numbers, code.count)

    def _energy(self, code: Design, residual: float) -> float:
        return self._share(code) ** 2 * (residual**2 + code.quantizer.error)

    def _estimate(self, code: Design, residual: Tensor, scale: Tensor) -> Tensor:
        return residual.mul_(self._share(code))

    def _share(self, code: Design) -> float:
        """What share of the distance to the point the residual is expected to be."""
        return 1.0 if self.estimator == "plain" else 1 / (1 + code.quantizer.error)
