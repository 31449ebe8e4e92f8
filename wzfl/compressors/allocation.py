"""How a budget of bits is spread over the coordinates of a vector."""

from dataclasses import dataclass
from math import floor

import torch
from torch import Tensor

from wzfl import gpu
from wzfl.bitpack import packed_size
from wzfl.kernels import select
from wzfl.public import Public, permutation


@dataclass(frozen=True)
class Allocation:
    """Which coordinates are sent, and with how many bits each; both ends know it.

    At bitrates that are not whole, a shared random subset takes one bit more than the rest; below the
    narrowest symbol only a subset is sent.

    Attributes:
        dim: length of the vector.
        widths: bits per symbol, and which of the sent coordinates take them.
        shuffled: whether coordinates are sent in an order without structure.
    """

    dim: int
    widths: tuple[tuple[int, slice], ...]
    shuffled: bool = False

    @classmethod
    def of(cls, dim: int, bitrate: float, narrowest: int = 1, overhead: int = 0) -> "Allocation":
        """Symbols that take `bitrate * dim` bits, less `overhead` bits unless the bitrate is whole."""
        if bitrate < narrowest:
            count = floor((bitrate * dim - overhead) / narrowest)
            return cls(dim, ((narrowest, slice(0, min(dim, max(1, count)))),))
        bits = floor(bitrate)
        wide = max(0, floor((bitrate - bits) * dim - overhead)) if bitrate > bits else 0
        both = [(bits + 1, slice(0, wide)), (bits, slice(wide, dim))]
        return cls(dim, tuple((width, columns) for width, columns in both if length(columns)))

    @property
    def count(self) -> int:
        """How many coordinates are sent."""
        return sum(length(columns) for _, columns in self.widths)

    @property
    def sizes(self) -> list[int]:
        """Bytes that the symbols of each width take."""
        return [packed_size(length(columns), bits) for bits, columns in self.widths]

    def gather(self, vectors: Tensor, public: Public) -> Tensor:
        """`[clients, dim]` -> `[clients, count]`: what is sent, in the order of `widths`."""
        order = self._order(public)
        return vectors if order is None else vectors.gather(1, order)

    def scatter(self, sent: Tensor, public: Public) -> Tensor:
        """`[clients, count]` -> `[clients, dim]`: each in its place, zero where nothing was sent."""
        order = self._order(public)
        if order is None:
            return sent
        return scattered(sent, order, self.dim)

    def _order(self, public: Public) -> Tensor | None:
        """`[clients, count]`: coordinates in the order in which they are sent; None: as they are."""
        everything = len(self.widths) == 1 and self.count == self.dim
        if everything and not self.shuffled:
            return None
        if not self.shuffled:
            return public.subset("sent", self.dim, self.count)
        mixed = permutation(self.count).to(public.scale.device)
        if everything:
            return mixed.expand(len(public.clients), -1)
        return public.subset("sent", self.dim, self.count)[:, mixed]


def scattered(values: Tensor, places: Tensor, dim: int) -> Tensor:
    """`[clients, dim]`: `values` `[clients, count]` at `places`, all different, and 0 elsewhere."""
    if gpu.is_usable(values.device, dim):
        from wzfl.gpu.scatter import scatter

        return scatter(values, places, dim)
    return values.new_zeros(len(values), dim).scatter_(1, places, values)


def in_order(places: Tensor, dim: int) -> Tensor:
    """`[clients, count]`: `places`, all different and below `dim`, in each row the lowest first."""
    if not places.is_cpu:
        return places.sort(dim=1).values
    ordered = torch.empty_like(places)
    for row, out in zip(places.numpy(), ordered.numpy(), strict=True):
        select.in_order(row, dim, out)
    return ordered


def length(columns: slice) -> int:
    """How many coordinates these are; the slice has a start and a stop."""
    return int(columns.stop - columns.start)
