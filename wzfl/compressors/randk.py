"""Rand-k sparsification: shared randomness picks the coordinates, so positions cost nothing."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wzfl.compressors.allocation import scattered
from wzfl.compressors.envelope import check_sizes, open_rows, seal_rows
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    checked,
    dim_of,
    finite,
)
from wzfl.compressors.values import (
    check_value_bits,
    scale_bits,
    values_from_bytes,
    values_size,
    values_to_bytes,
)
from wzfl.public import Public


@dataclass(frozen=True)
class RandK:
    """k random coordinates, scaled by dim/k; the rest decode to zero. Unbiased.

    k is the largest number whose values fit the bitrate. float16 rounds to within 2**-11 of the value,
    with no randomness; coarser values round stochastically.

    Source: Konecny et al., "Federated Learning: Strategies for Improving Communication Efficiency"
    (2016), random mask; Stich et al., "Sparsified SGD with Memory" (NeurIPS 2018).

    Attributes:
        bitrate: bits per coordinate of the vector.
        value_bits: 32 for float32, 16 for float16 relative to the largest magnitude, 2 to 8 for uniform
            levels up to the largest magnitude.
    """

    bitrate: float
    value_bits: int = 16

    wire_id: ClassVar[int] = 9
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bitrate("randk", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        check_value_bits("randk", self.value_bits)

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        kept = self._kept(dim)
        values = updates.gather(1, public.subset("sent", dim, kept))
        strings = values_to_bytes(values, self.value_bits, public.uniform("rounding", kept))
        return seal_rows(self, strings, dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        kept = self._kept(dim)
        bodies = open_rows(self, payloads, dim, public)
        sizes = [values_size(kept, self.value_bits)] * len(bodies)
        check_sizes(bodies, sizes, public.clients)
        values = values_from_bytes(bodies, self.value_bits, kept, side.device, public.clients)
        return finite(
            scattered(values * (dim / kept), public.subset("sent", dim, kept), dim), public
        )

    def relative_variance(self, dim: int) -> float:
        """omega in E|estimate - update|**2 = omega |update|**2, values' rounding apart."""
        return dim / self._kept(dim) - 1

    def _kept(self, dim: int) -> int:
        budget = self.bitrate * dim - (scale_bits(self.value_bits) if self._is_partial else 0)
        return min(dim, max(1, int(budget / self.value_bits)))

    @property
    def _is_partial(self) -> bool:
        return self.bitrate < self.value_bits
