"""What a symbol of a modulo quantizer says of a Gaussian residual."""

from functools import lru_cache
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors.modulo import SMALLEST_CELL
from wzfl.kernels.quantize import interpolate_row
from wzfl.theory import modulo_step

_PER_DEVIATION = 512  # entries of a table; between them means are off by 5e-7 deviations on average
_FARTHEST = 40.0  # deviations, where no chance is a float64 any more


def estimates(distances: Tensor, scale: Tensor, levels: int, reach: float) -> Tensor:
    """`[clients, count]`: means of Gaussian residuals whose RMS is `scale` `[clients]`, given symbols.

    `distances` are those of the symbols' nearest candidates from what is expected. See `posterior_mean`,
    which is read from a table.
    """
    units, table = scale.double().clamp_min(SMALLEST_CELL), _table(levels, reach)
    if not distances.is_cpu:
        return interpolated_with_torch(distances, units, table.to(distances.device))
    means, entries = torch.empty(distances.shape, dtype=torch.float32), table.numpy()
    for row, unit, out in zip(distances.numpy(), units.tolist(), means.numpy(), strict=True):
        interpolate_row(row, unit, entries, _PER_DEVIATION, out)
    return means


def interpolated_with_torch(distances: Tensor, units: Tensor, table: Tensor) -> Tensor:
    """What `estimates` gives, on any device."""
    last, units = len(table) - 1, units[:, None]
    places = distances.double().abs().div_(units).mul_(_PER_DEVIATION)
    places = torch.where(places < last, places, float(last))
    left = places.long().clamp_max_(last - 1)
    means = table[left] + (table[left + 1] - table[left]) * (places - left)
    return means.copysign_(distances).mul_(units).float()


@lru_cache(maxsize=32)
def _table(levels: int, reach: float) -> Tensor:
    """float64 posterior means of offsets from 0 to half a period, so many to a deviation."""
    farthest = min(_FARTHEST, levels * modulo_step(levels, reach, "dither") / 2)
    places = np.arange(int(farthest * _PER_DEVIATION) + 2) / _PER_DEVIATION
    return posterior_mean(torch.from_numpy(places), levels, reach)


def posterior_mean(offset: Tensor, levels: int, reach: float) -> Tensor:
    """E[r | symbol] for a residual r ~ N(0, 1) under dither, of the shape of `offset`, float64.

    `offset` is the symbol's nearest candidate less what is expected; the residual lies within half a
    cell of it or of its copies whole periods away, of which the nearest on either side count. 0 where
    none has a chance that is a float64, 37 deviations away and further.
    """
    cell = modulo_step(levels, reach, "dither")
    period = levels * cell
    mean, chance = torch.zeros_like(offset), torch.zeros_like(offset)
    for block in (-1, 0, 1):
        lower = offset + (block * period - cell / 2)
        upper = lower + cell
        mean += _gaussian(lower).sub_(_gaussian(upper))
        # On the side of the nearer tail, where a difference of probabilities keeps its digits.
        flip = lower + upper > 0
        chance += _tail(torch.where(flip, lower, -upper)).sub_(
            _tail(torch.where(flip, upper, -lower))
        )
    return mean.div_(chance.clamp_min_(torch.finfo(chance.dtype).tiny))


def _gaussian(x: Tensor) -> Tensor:
    return x.square().mul_(-0.5).exp_().mul_((2 * pi) ** -0.5)


def _tail(x: Tensor) -> Tensor:
    """P(r > x). torch's ndtr is 1 less something near 1 where it is small."""
    return torch.erfc(x / sqrt(2)).mul_(0.5)
