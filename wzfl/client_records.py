"""What an observer of both ends notes of every client of a round."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CLIENT_COLUMNS = [
    "round",
    "client",
    "age",
    "uplink_bits",
    "nmse",
    "side_information_error",
    "cosine",
    "scale",
    "residual_rms",
    "failed",
    "lost",
]


def client_records(
    round: int,
    clients: tuple[int, ...],
    seen: Tensor,
    dim: int,
    column: Callable[[str], Tensor],
) -> list[dict[str, Any]]:
    """A record per client, with `CLIENT_COLUMNS`; NaN is what is not defined.

    Args:
        seen: `[population]`, the round in which a client took part before; 0 if it never did.
        column: `[clients]` by the names of `Exchanged`.
    """
    ago = round - seen[list(clients)].cpu()
    energy, distance = column("energy").double(), column("side_error").double()
    side = column("side_energy").double()
    values = {
        "client": torch.tensor(clients),
        "age": torch.where(ago < round, ago.double(), torch.nan),
        "uplink_bits": 8 * column("payload_bytes"),
        "nmse": column("error") / energy,
        "side_information_error": distance / energy,
        "cosine": (energy + side - distance) / (2 * (energy * side).sqrt()),
        "scale": column("scale"),
        "residual_rms": (distance / dim).sqrt(),
        "failed": column("failed").int(),
        "lost": column("lost").int(),
    }
    rows = zip(*(value.tolist() for value in values.values()), strict=True)
    return [{"round": round} | dict(zip(values, row, strict=True)) for row in rows]
