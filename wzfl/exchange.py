"""Encoding and decoding for all clients of a round, a few at a time."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from wzfl.compressors import Compressor, SideInformed
from wzfl.public import Public
from wzfl.threads import in_threads

Result = TypeVar("Result")

# Coordinates at once: on a CPU as many as stay in a core's cache, on a GPU as fill it.
_CHUNK = {"cpu": 2**17, "cuda": 2**27}


def encode(compressor: Compressor, updates: Tensor, public: Public) -> list[bytes]:
    """One payload per row of `updates` `[clients, dim]`; the same as `compressor.encode`."""

    def some(rows: range) -> list[bytes]:
        return compressor.encode(updates[rows.start : rows.stop], public.rows(rows))

    return [payload for payloads in _chunks(some, updates) for payload in payloads]


def decode(
    compressor: Compressor, payloads: list[bytes], side: Tensor, public: Public
) -> tuple[Tensor, Tensor]:
    """Estimates `[clients, dim]`, and which rows failed the decoder's check, `[clients]` bool."""
    estimates = torch.empty(side.shape, device=side.device)
    failed = torch.zeros(len(side), dtype=torch.bool, device=side.device)

    def some(rows: range) -> None:
        here = slice(rows.start, rows.stop)
        theirs, shared = payloads[here], public.rows(rows)
        if isinstance(compressor, SideInformed):
            decoded, failed[here] = compressor.decode_checked(theirs, side[here], shared)
        else:
            decoded = compressor.decode(theirs, side[here], shared)
        estimates[here] = decoded

    _chunks(some, side)
    return estimates, failed


def _chunks(function: Callable[[range], Result], vectors: Tensor) -> list[Result]:
    """`function` of rows to handle together; any grouping gives the same bytes."""
    clients, dim = vectors.shape
    size = max(1, _CHUNK[vectors.device.type] // dim)
    return in_threads(
        function,
        [range(start, min(start + size, clients)) for start in range(0, clients, size)],
    )
