"""Gradients of a network of dense layers as `shared_pass` has them, in one compiled call."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from wzfl.kernels import dense_pass


def gradients(
    layers: np.ndarray,
    weights: Tensor,
    inputs: Tensor,
    labels: Tensor,
    sizes: Sequence[int],
    out: Tensor,
) -> Tensor:
    """Does what `shared_pass.gradients` does, in float32 on a CPU.

    `layers` are those of `kernels.dense_pass`.

    Raises:
        ValueError: inputs, or what a layer gives, are not what the next layer takes.
    """
    widths = [inputs[0].numel(), *layers[:, 1]]
    for width, taken in zip(widths, layers[:, 0], strict=False):
        if width != taken:
            raise ValueError(f"a layer of {taken} inputs is given {width}")
    ends = np.array([0, *accumulate(sizes)], np.int64)
    x, y, flat = (
        each.detach().contiguous().numpy() for each in (inputs.flatten(1), labels, weights)
    )
    return torch.from_numpy(dense_pass.gradients(x, y, ends, flat, layers, out.numpy()))
