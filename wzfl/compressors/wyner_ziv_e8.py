"""The rotated modulo quantizer with rounder cells: those of the lattice E8."""

from dataclasses import dataclass
from typing import ClassVar

from wzfl.compressors.allocation import Allocation, length
from wzfl.compressors.cells import Cells, Gosset
from wzfl.compressors.envelope import LOWEST_BITRATE, check_bitrate
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.errors import InputError

_HIGHEST_BITRATE = 8.0


@dataclass(frozen=True)
class WynerZivE8(WynerZiv):
    """`WynerZiv`, eight coordinates at once: nested lattices 2**bits E8 in E8, dithered.

    Cells of E8 have 0.65 dB less error than cubes of their volume, and the large cells, within which the
    server has to know where the update is, reach further for theirs. What does not fill eight coordinates
    is sent in cubes.

    Source: Zamir, Shamai, Erez, "Nested Linear/Lattice Codes for Structured Multiterminal Binning", IEEE
    Trans. IT 48(6), 2002; the search for the nearest point: Conway & Sloane, IEEE Trans. IT 28(2), 1982.

    Attributes are those of `WynerZiv`, of which rounding, reach and rotation are fixed, and there is no
    posterior mean.
    """

    wire_id: ClassVar[int] = 16

    def __post_init__(self) -> None:
        check_bitrate("wyner_ziv_e8", self.bitrate, LOWEST_BITRATE, _HIGHEST_BITRATE)
        super().__post_init__()
        fixed = (self.rounding, self.reach, self.rotation) == ("dither", None, True)
        if not fixed or self.estimator == "posterior_mean" or self.symbol_bits > _HIGHEST_BITRATE:
            raise InputError(
                "wyner_ziv_e8 takes rounding=dither, reach=null, rotation=true, estimator plain or wiener,"
                f" and symbol_bits up to {_HIGHEST_BITRATE:g}; got {self}"
            )

    def _parts(self, allocation: Allocation) -> list[tuple[int, slice, Cells]]:
        parts: list[tuple[int, slice, Cells]] = []
        for bits, columns in allocation.widths:
            end = columns.start + length(columns) // Gosset.at_once * Gosset.at_once
            parts.append((bits, slice(columns.start, end), Gosset()))
            parts.append((bits, slice(end, columns.stop), self._cubes))
        return [part for part in parts if length(part[1])]
