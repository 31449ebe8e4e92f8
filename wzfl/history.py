"""One vector per client, kept by the server: at which precision, and for how many clients."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 256  # coordinates that share a scale under int8
PRECISIONS = ("float32", "bfloat16", "int8")


@dataclass(frozen=True, eq=False)
class History:
    """Vectors `[dim]` of at most `capacity` clients; the one not heard of for longest gives way.

    Nothing is allocated for clients that were never heard of. Under "int8", blocks of 256 coordinates
    share a float32 scale. Rounding is the server's own business: no client has to know of it.

    Attributes:
        dim: of the vectors.
        precision: "float32", "bfloat16" or "int8".
        capacity: vectors kept; None for as many as there are clients.
        rows: what is stored of each client, the longest unheard of first.
    """

    dim: int
    device: torch.device
    precision: str = "float32"
    capacity: int | None = None
    rows: OrderedDict[int, tuple[Tensor, ...]] = field(default_factory=OrderedDict)

    def admit(self, clients: Sequence[int]) -> list[int]:
        """Makes room for these clients, as far as there is any; returns those that were forgotten."""
        for client in clients:
            if client not in self.rows:
                self.rows[client] = ()
            self.rows.move_to_end(client)
        forgotten = []
        while self.capacity is not None and len(self.rows) > self.capacity:
            forgotten.append(self.rows.popitem(last=False)[0])
        return forgotten

    def read(self, clients: Sequence[int]) -> Tensor:
        """`[clients, dim]` float32, 0 for those without a vector; read only, valid until `write`."""
        known = [self._vector(client) for client in clients]
        if len(known) == 1 and known[0] is not None:
            return known[0][None]
        nothing = torch.zeros(1, device=self.device).expand(self.dim)
        if all(vector is None for vector in known):
            return nothing.expand(len(clients), self.dim)
        return torch.stack([nothing if vector is None else vector for vector in known])

    def move(self, client: int, target: Tensor, step: float) -> None:
        """vector <- vector + step (target - vector), from 0 if there is none; `target` is `[dim]`."""
        if client not in self.rows:
            return
        vector = self._vector(client)
        moved = step * target if vector is None else vector.lerp_(target, step)
        self.rows[client] = _narrow(moved, self.precision)

    def _vector(self, client: int) -> Tensor | None:
        stored = self.rows.get(client)
        return _widen(stored, self.dim) if stored else None


def _narrow(vector: Tensor, precision: str) -> tuple[Tensor, ...]:
    if precision == "float32":
        return (vector,)
    if precision == "bfloat16":
        return (vector.bfloat16(),)
    blocks = functional.pad(vector, (0, -len(vector) % _BLOCK)).view(-1, _BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127
    return blocks.div(scale.clamp_min(torch.finfo(torch.float32).tiny)).round_().char(), scale


def _widen(stored: tuple[Tensor, ...], dim: int) -> Tensor:
    if len(stored) == 1:
        return stored[0].float()
    values, scale = stored
    return (values * scale).view(-1)[:dim]
