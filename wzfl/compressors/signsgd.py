"""signSGD: one bit per coordinate."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wzfl.bitpack import pack_signs, packed_size, unpack_signs
from wzfl.compressors.envelope import check_sizes, open_rows, seal_rows
from wzfl.compressors.inputs import dim_of, unchecked
from wzfl.public import Public


@dataclass(frozen=True)
class SignSGD:
    """The signs of the update, -1 or +1; magnitudes are lost, the server takes a majority vote.

    As the step is the same for every coordinate, the server's learning rate is a distance, about a
    hundred times smaller than for a gradient. Zero counts as +1.

    Source: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems" (ICML 2018).
    """

    wire_id: ClassVar[int] = 1
    aggregation: ClassVar[str] = "majority_vote"
    bitrate: ClassVar[float] = 1.0
    unbiased: ClassVar[bool] = False

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates, verify = unchecked(updates, public)
        strings = pack_signs(updates)
        verify()
        return seal_rows(self, strings, updates.shape[1], public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        bodies = open_rows(self, payloads, dim, public)
        check_sizes(bodies, [packed_size(dim, 1)] * len(bodies), public.clients)
        return unpack_signs(bodies, dim, side.device)
