"""Mixes the rest of a rotation, coordinates that fill no block, with coordinates from everywhere."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from wzfl.gpu.draws import sign
from wzfl.gpu.hadamard import transform

_TILE = 256


@dataclass(frozen=True, eq=False)
class Change:
    """What else happens to coordinates on their way into the transform, or back from it.

    Attributes:
        signs: keys `[rows]` int64 of the signs that they are multiplied with; None leaves them.
        own: whether the rest also has signs of that stream where it is.
        exchanged: keys of the signs of what the rest is exchanged with; None leaves both where they are.
    """

    signs: Tensor | None = None
    own: bool = False
    exchanged: Tensor | None = None


def mix(vectors: Tensor, places: Tensor, rest: int, before: Change, after: Change) -> None:
    """Transforms the last `rest` coordinates of `vectors` `[rows, dim]` together with some from `places`.

    `places` `[block]` int64 are distinct, none of them of the rest. The rest takes part in place of the
    last of them, with which it may be exchanged.
    """
    together = torch.empty(len(vectors), len(places), dtype=torch.float32, device=vectors.device)
    _move(_collect, together, vectors, places, rest, before)
    transform(together, together, len(places), ((0, 1, 1),))
    _move(_spread, together, vectors, places, rest, after)


def _move(
    kernel: triton.JITFunction,
    together: Tensor,
    vectors: Tensor,
    places: Tensor,
    rest: int,
    change: Change,
) -> None:
    with torch.cuda.device_of(vectors):
        kernel[(triton.cdiv(len(places), _TILE), len(vectors))](
            together,
            vectors,
            places,
            places if change.signs is None else change.signs,
            places if change.exchanged is None else change.exchanged,
            vectors.shape[1],
            len(places),
            rest,
            SIGNED=change.signs is not None,
            OWN=change.own,
            EXCHANGED=change.exchanged is not None,
            TILE=_TILE,
        )


@triton.jit
def _collect(
    together, vectors, places, signs, exchanged, dim, block, rest,
    SIGNED: tl.constexpr, OWN: tl.constexpr, EXCHANGED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row, index, inside, of_rest, position, place = _here(places, dim, block, rest, TILE)
    vector = vectors + row.to(tl.int64) * dim
    value = tl.load(vector + tl.where(of_rest, position, place), mask=inside, other=0)
    if EXCHANGED:
        there = tl.load(vector + place, mask=of_rest, other=0)
        tl.store(vector + place, value * sign(exchanged, row, position), mask=of_rest)
        value = tl.where(of_rest, there, value)
    value = _changed(value, signs, row, dim + index, position, of_rest, SIGNED, OWN)
    tl.store(together + row.to(tl.int64) * block + index, value, mask=inside)


@triton.jit
def _spread(
    together, vectors, places, signs, exchanged, dim, block, rest,
    SIGNED: tl.constexpr, OWN: tl.constexpr, EXCHANGED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row, index, inside, of_rest, position, place = _here(places, dim, block, rest, TILE)
    vector = vectors + row.to(tl.int64) * dim
    value = tl.load(together + row.to(tl.int64) * block + index, mask=inside, other=0)
    value = _changed(value, signs, row, dim + index, position, of_rest, SIGNED, OWN)
    if EXCHANGED:
        there = tl.load(vector + place, mask=of_rest, other=0)
        tl.store(vector + position, there * sign(exchanged, row, position), mask=of_rest)
        tl.store(vector + place, value, mask=inside)
    else:
        tl.store(vector + tl.where(of_rest, position, place), value, mask=inside)


@triton.jit
def _here(places, dim, block, rest, TILE: tl.constexpr):
    """A tile's row and numbers; which of them exist, which are of the rest; where the rest is, and places."""
    row, index = tl.program_id(1), tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = index < block
    place = tl.load(places + index, mask=inside, other=0)
    return row, index, inside, inside & (index >= block - rest), dim - block + index, place


@triton.jit
def _changed(value, signs, row, number, position, of_rest, SIGNED: tl.constexpr, OWN: tl.constexpr):
    """Each value times the sign at its `number`, and the rest's also times that at its `position`."""
    if SIGNED:
        value *= sign(signs, row, number)
    if OWN:
        value = tl.where(of_rest, value * sign(signs, row, position), value)
    return value
