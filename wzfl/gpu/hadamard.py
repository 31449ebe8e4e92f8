"""Hadamard transforms along one axis of vectors that lie in memory as they are."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_MOST_STAGES = 8  # at a time: of 2**8 coordinates that lie apart a thread holds 64
_TILE, _WARPS = 32, 4  # neighbours side by side: a warp's threads, and a word of signs


def transform(
    source: Tensor,
    target: Tensor,
    block: int,
    lanes: int = 1,
    start: int = 0,
    count: int = 1,
    words: Tensor | None = None,
    flip_first: bool = True,
) -> None:
    """Writes Hadamard transforms of parts of `source` `[rows, dim]` into `target`, which may be the same.

    From `start`, `count` parts of `[block, lanes]` each are transformed along `block`, a power of two,
    orthonormally. With random `words` `[rows, count]` int64, at least one more than there is a bit in for
    each coordinate, a coordinate is multiplied by its sign (`wzfl.kernels.draws.flip_signs`) before the
    transforms or after them.
    """
    stages, span = _stages(block.bit_length() - 1), block * lanes
    signs = source if words is None else words
    for number, levels in enumerate(stages):
        span >>= levels
        columns = min(_TILE, triton.next_power_of_2(span))
        groups, across = _TILE // columns, triton.cdiv(span, columns)
        first, last = number == 0, number == len(stages) - 1
        with torch.cuda.device_of(source):
            _butterflies[(across * triton.cdiv(count, groups), len(source))](
                *(source, source.stride(0), target, target.stride(0)),
                *(signs.view(torch.int32), 2 * signs.stride(0)),
                *(start, span, count, across, block**-0.5),
                LEVELS=levels, GROUPS=groups, COLUMNS=columns, SCALE=last,
                FLIP_FIRST=first and flip_first and words is not None,
                FLIP_LAST=last and not flip_first and words is not None,
                num_warps=_WARPS,
            )  # fmt: skip
        source, count = target, count << levels


def _stages(levels: int) -> list[int]:
    """How many of `levels` stages to do at a time, as even as can be."""
    passes = max(1, triton.cdiv(levels, _MOST_STAGES))
    return [(levels + place) // passes for place in reversed(range(passes))]


# A number that is known to be a multiple of 16 would have a thread load four neighbours, for whose stages
# it has no registers.
@triton.jit(do_not_specialize=["source_stride", "target_stride", "start", "span"])
def _butterflies(
    source, source_stride, target, target_stride, words, words_stride,
    start, span, count, across, factor,
    LEVELS: tl.constexpr, GROUPS: tl.constexpr, COLUMNS: tl.constexpr,
    SCALE: tl.constexpr, FLIP_FIRST: tl.constexpr, FLIP_LAST: tl.constexpr,
):  # fmt: skip
    """2**LEVELS coordinates `span` apart, of each column of each of `count` groups."""
    RADIX: tl.constexpr = 1 << LEVELS
    TILE: tl.constexpr = GROUPS * COLUMNS
    row = tl.program_id(1).to(tl.int64)
    places = tl.arange(0, TILE)
    column = (tl.program_id(0) % across) * COLUMNS + places % COLUMNS
    group = (tl.program_id(0) // across) * GROUPS + places // COLUMNS
    inside = ((column < span) & (group < count))[None, :]
    apart = tl.arange(0, RADIX) * span
    position = (start + group * RADIX * span + column)[None, :] + apart[:, None]
    # Of each row of the tile, where it is one stretch.
    first = start + (tl.program_id(0) // across) * RADIX * span
    first += (tl.program_id(0) % across) * COLUMNS + apart
    values = tl.load(source + row * source_stride + position, mask=inside)
    if FLIP_FIRST:
        values = _flipped(values, words + row * words_stride, position, inside, first, GROUPS)
    for level in tl.static_range(LEVELS):
        values = _stage(values, RADIX, TILE, level)
    if SCALE:
        values = values * factor
    if FLIP_LAST:
        values = _flipped(values, words + row * words_stride, position, inside, first, GROUPS)
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
