"""What a symbol of a modulo quantizer says of a Gaussian residual."""

from math import pi, sqrt

import torch
from torch import Tensor

from wzfl.theory import modulo_step


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
