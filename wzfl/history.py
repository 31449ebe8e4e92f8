"""Keeps one vector per client at the server, in fewer bits and for fewer clients if so asked."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 256  # coordinates that share a scale under int8
_SLAB = 2**24  # coordinates allocated at once: many small blocks would fragment the heap
_TINY = torch.finfo(torch.float32).tiny
PRECISIONS = ("float32", "bfloat16", "int8")


class History:
    """Vectors `[dim]` of at most `capacity` clients; the one not heard of for longest gives way.

    Nothing is allocated for clients that were never heard of. Under "int8", blocks of 256 coordinates
    share a float32 scale. Rounding is the server's own business: no client has to know of it.

    Attributes:
        dim: length of the vectors.
        precision: "float32", "bfloat16" or "int8".
        capacity: vectors kept at most.
        places: where each client's vector lies, the longest unheard of first.
    """

    def __init__(self, dim: int, device: torch.device, precision: str, capacity: int) -> None:
        self.dim, self.precision, self.capacity = dim, precision, capacity
        self.places: OrderedDict[int, int] = OrderedDict()
        self._device, self._slabs = device, list[tuple[Tensor, ...]]()
        self._rows = max(1, min(capacity, _SLAB // dim))

    def admit(self, clients: Sequence[int]) -> list[int]:
        """Makes room for these clients, as far as there is any; returns those that were forgotten."""
        forgotten = []
        for client in clients:
            if client not in self.places:
                place = len(self.places)
                if place == self.capacity:
                    oldest, place = self.places.popitem(last=False)
                    forgotten.append(oldest)
                elif place == self._rows * len(self._slabs):
                    self._slabs.append(self._slab())
                self.places[client] = place
                for part in self._stored(place):
                    part.zero_()
            self.places.move_to_end(client)
        return forgotten

    def read(self, clients: Sequence[int]) -> Tensor:
        """Returns float32 `[clients, dim]`, 0 for those without a vector; read only, valid until `move`."""
        vectors = [self._vector(client) for client in clients]
        return vectors[0][None] if len(vectors) == 1 else torch.stack(vectors)

    def move(self, client: int, target: Tensor, step: float) -> None:
        """Sets vector <- vector + step (target - vector), if there is one; `target` is `[dim]`."""
        if client not in self.places:
            return
        moved = self._vector(client).lerp_(target, step)
        stored = self._stored(self.places[client])
        if self.precision == "int8":
            values, scale = stored
            blocks = functional.pad(moved, (0, -self.dim % _BLOCK)).view_as(values)
            torch.div(blocks.abs().amax(dim=1, keepdim=True), 127, out=scale)
            values.copy_(blocks.div_(scale.clamp_min(_TINY)).round_())
        elif self.precision == "bfloat16":
            stored[0].copy_(moved)

    def contents(self) -> dict[str, Any]:
        """Returns everything by name, for a checkpoint."""
        return {
            "dim": self.dim,
            "precision": self.precision,
            "capacity": self.capacity,
            "places": self.places,
            "slabs": self._slabs,
        }

    @classmethod
    def of(cls, contents: Mapping[str, Any], device: torch.device) -> "History":
        """Makes a history of what `contents` gave."""
        history = cls(contents["dim"], device, contents["precision"], contents["capacity"])
        history.places, history._slabs = contents["places"], contents["slabs"]
        return history

    def _vector(self, client: int) -> Tensor:
        """Returns a client's vector `[dim]`: the stored one itself under "float32"."""
        if client not in self.places:
            return torch.zeros(1, device=self._device).expand(self.dim)
        values, *scale = self._stored(self.places[client])
        return (values * scale[0]).view(-1)[: self.dim] if scale else values.float()

    def _stored(self, place: int) -> tuple[Tensor, ...]:
        slab, row = divmod(place, self._rows)
        return tuple(part[row] for part in self._slabs[slab])

    def _slab(self) -> tuple[Tensor, ...]:
        if self.precision != "int8":
            kind = getattr(torch, self.precision)
            return (torch.empty(self._rows, self.dim, dtype=kind, device=self._device),)
        shape = (self._rows, -(-self.dim // _BLOCK))
        values = torch.empty(*shape, _BLOCK, dtype=torch.int8, device=self._device)
        return values, torch.empty(*shape, 1, device=self._device)
