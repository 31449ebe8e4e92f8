"""The rotated modulo quantizer with rounder cells: those of the lattice E8."""

from dataclasses import dataclass
from typing import ClassVar

from wzfl.compressors.allocation import Allocation, length
from wzfl.compressors.cells import E8, Cells
from wzfl.compressors.wyner_ziv import WynerZiv


@dataclass(frozen=True)
class WynerZivE8(WynerZiv):
    """`WynerZiv`, with eight coordinates at once: dithered, nested lattices 2**bits E8 in E8.

    Cells of E8 have 0.65 dB less error than cubes of their volume, and the large cells, within which the
    server has to know where the update is, reach further for theirs. What does not fill eight coordinates
    is sent one by one.

    Source: Zamir, Shamai, Erez, "Nested Linear/Lattice Codes for Structured Multiterminal Binning", IEEE
    Trans. IT 48(6), 2002; the search for the nearest point: Conway & Sloane, IEEE Trans. IT 28(2), 1982.

    Attributes are those of `WynerZiv`, of which rounding, reach and rotation are fixed, and there is no
    posterior mean.
    """

    name: ClassVar[str] = "wyner_ziv_e8"
    wire_id: ClassVar[int] = 16
    highest: ClassVar[float] = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_no_scalar_settings()

    def _parts(self, allocation: Allocation) -> list[tuple[int, slice, Cells]]:
        parts: list[tuple[int, slice, Cells]] = []
        for bits, columns in allocation.widths:
            end = columns.start + length(columns) // E8.at_once * E8.at_once
            parts.append((bits, slice(columns.start, end), E8()))
            parts.append((bits, slice(end, columns.stop), self._scalar))
        return [part for part in parts if length(part[1])]
