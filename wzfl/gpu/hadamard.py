"""Hadamard transforms along one axis of vectors that lie in memory as they are."""

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

_MOST_STAGES = 8  # at a time: of 2**8 coordinates that lie apart a thread holds 64
_TILE, _WARPS = 32, 4  # neighbours side by side: a warp's threads, and a word of signs

Parts = tuple[tuple[int, int, int], ...]


def transform(
    source: Tensor,
    target: Tensor,
    block: int,
    parts: Parts,
    words: Tensor | None = None,
    flip_first: bool = True,
    added: Tensor | None = None,
) -> None:
    """Writes Hadamard transforms of parts of `source` `[rows, dim]` into `target`, which may be the same.

    Of each part (start, count, lanes), `count` times `[block, lanes]` coordinates from `start` are
    transformed along `block`, a power of two, orthonormally. With random `words` `[rows, count]` int64, at
    least one more than there is a bit in for each coordinate, a coordinate is multiplied by its sign
    (`wzfl.kernels.draws.flip_signs`) before the transforms or after them. To what comes out of that,
    float32 `[rows, dim]` is `added`.
    """
    signs = source if words is None else words
    other = source if added is None else added
    stages, done = _stages(block.bit_length() - 1), 0
    for number, levels in enumerate(stages):
        first, last = number == 0, number == len(stages) - 1
        tiles, columns = _tiles(block, parts, done, levels, source.device)
        with torch.cuda.device_of(source):
            _butterflies[(len(tiles), len(source))](
                source, source.stride(0), target, target.stride(0), other, other.stride(0),
                signs.view(torch.int32), 2 * signs.stride(0), tiles, block**-0.5,
                LEVELS=levels, COLUMNS=columns, GROUPS=_TILE // columns, SCALE=last,
                FLIP_FIRST=first and flip_first and words is not None,
                FLIP_LAST=last and not flip_first and words is not None,
                ADD=last and added is not None,
                num_warps=_WARPS,
                enable_fp_fusion=False,  # a product and a sum in one rounding would be another number
            )  # fmt: skip
        source, done = target, done + levels


def _stages(levels: int) -> list[int]:
    """How many of `levels` stages to do at a time, as even as can be."""
    passes = max(1, triton.cdiv(levels, _MOST_STAGES))
    return [(levels + place) // passes for place in reversed(range(passes))]


@lru_cache
def _tiles(
    block: int, parts: Parts, done: int, levels: int, device: torch.device
) -> tuple[Tensor, int]:
    """Tiles that `levels` stages work on once some are `done`, and the most columns that one has.

    Tiles are `[tiles, 4]` int32: the first coordinate, how far those apart are that are mixed, and how many
    columns and groups of them there are from there on.
    """
    spans = [(block * lanes) >> (done + levels) for _, _, lanes in parts]
    columns = min(_TILE, triton.next_power_of_2(max(spans)))
    rows = [
        _tiles_of(start, count << done, span, levels, columns)
        for (start, count, _), span in zip(parts, spans, strict=True)
    ]
    return torch.from_numpy(np.concatenate(rows)).to(device), columns


def _tiles_of(start: int, count: int, span: int, levels: int, columns: int) -> np.ndarray:
    """Tiles, as in `_tiles`, of `count` groups from `start` of `span` columns each."""
    group = np.arange(0, count, _TILE // columns)[:, None]
    column = np.arange(0, span, columns)
    first = start + (group << levels) * span + column
    each = np.broadcast_arrays(first, span, span - column, count - group)
    return np.stack(each, axis=-1).reshape(-1, 4).astype(np.int32)


# One kernel for all lengths of vectors. What comes from a table is no known multiple of 16, for which a
# thread would load four neighbours, without registers for their stages.
@triton.jit(do_not_specialize=["source_stride", "target_stride", "added_stride", "words_stride"])
def _butterflies(
    source, source_stride, target, target_stride, added, added_stride,
    words, words_stride, tiles, factor,
    LEVELS: tl.constexpr, COLUMNS: tl.constexpr, GROUPS: tl.constexpr, SCALE: tl.constexpr,
    FLIP_FIRST: tl.constexpr, FLIP_LAST: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Transforms 2**LEVELS coordinates `span` apart, of each column of each group of a tile."""
    RADIX: tl.constexpr = 1 << LEVELS
    TILE: tl.constexpr = GROUPS * COLUMNS
    row, tile = tl.program_id(1).to(tl.int64), tiles + 4 * tl.program_id(0)
    start, span = tl.load(tile), tl.load(tile + 1)
    width, count = tl.load(tile + 2), tl.load(tile + 3)
    column, group = tl.arange(0, TILE) % COLUMNS, tl.arange(0, TILE) // COLUMNS
    inside = ((column < width) & (group < count))[None, :]
    first = start + tl.arange(0, RADIX) * span  # of each row of the tile, where it is one stretch
    position = first[:, None] + (group * RADIX * span + column)[None, :]
    values = tl.load(source + row * source_stride + position, mask=inside)
    if FLIP_FIRST:
        values = _flipped(values, words + row * words_stride, position, inside, first, GROUPS)
    for level in tl.static_range(LEVELS):
        values = _stage(values, RADIX, TILE, level)
    if SCALE:
        values = values * factor
    if FLIP_LAST:
        values = _flipped(values, words + row * words_stride, position, inside, first, GROUPS)
    if ADD:
        values += tl.load(added + row * added_stride + position, mask=inside)
    tl.store(target + row * target_stride + position, values, mask=inside)


@triton.jit
def _stage(values, RADIX: tl.constexpr, TILE: tl.constexpr, level: tl.constexpr):
    """Sums and differences of coordinates `RADIX / 2**(level + 1)` rows apart."""
    HALF: tl.constexpr = RADIX >> (level + 1)
    pairs = tl.reshape(values, [RADIX // (2 * HALF), 2, HALF, TILE])
    left, right = tl.split(tl.permute(pairs, [0, 2, 3, 1]))
    pairs = tl.permute(tl.join(left + right, left - right), [0, 3, 1, 2])
    return tl.reshape(pairs, [RADIX, TILE])


@triton.jit
def _flipped(values, words, position, inside, first, GROUPS: tl.constexpr):
    """Each value times its sign; a row that is one stretch, of up to 32, loads its signs together."""
    if GROUPS == 1:
        word, shift = words + (first >> 5), (first & 31).to(tl.uint32)
        low = tl.load(word).to(tl.uint32, bitcast=True)
        high = tl.load(word + 1).to(tl.uint32, bitcast=True)
        stretch = ((low >> shift) | (high << 1 << (31 - shift))).to(tl.int32, bitcast=True)
        plus = (stretch[:, None] >> tl.arange(0, values.shape[1])[None, :]) & 1
    else:
        plus = (tl.load(words + (position >> 5), mask=inside, other=0) >> (position & 31)) & 1
    return (values.to(tl.int32, bitcast=True) ^ ((plus ^ 1) << 31)).to(tl.float32, bitcast=True)
