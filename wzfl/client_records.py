"""What an observer of both ends notes of every client of a round."""

from collections.abc import Mapping
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
    observed: Mapping[str, Tensor],
) -> list[dict[str, Any]]:
    """Makes a record per client, with `CLIENT_COLUMNS`; NaN is what is not defined.

    Args:
        seen: `[population]`, the round in which a client took part before; 0 if it never did.
        observed: `[clients]` float64 by the names of `Exchanged`, on a CPU.
    """
    ago = round - seen[list(clients)].cpu()
    energy, distance, side = (observed[k] for k in ("energy", "side_error", "side_energy"))
    values = {
        "client": torch.tensor(clients),
        "age": torch.where(ago < round, ago.double(), torch.nan),
        "uplink_bits": 8 * observed["payload_bytes"].long(),
        "nmse": observed["error"] / energy,
        "side_information_error": distance / energy,
        "cosine": (energy + side - distance) / (2 * (energy * side).sqrt()),
        "scale": observed["scale"],
        "residual_rms": (distance / dim).sqrt(),
        "failed": observed["failed"].int(),
        "lost": observed["lost"].int(),
    }
    rows = zip(*(value.tolist() for value in values.values()), strict=True)
    return [{"round": round} | dict(zip(values, row, strict=True)) for row in rows]
