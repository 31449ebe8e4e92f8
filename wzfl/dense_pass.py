"""`shared_pass.gradients` of a network of dense layers, in one compiled call."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from wzfl.kernels import dense_pass


def gradients(
    layers: Sequence[nn.Linear],
    weights: Tensor,
    inputs: Tensor,
    labels: Tensor,
    sizes: Sequence[int],
    out: Tensor,
) -> Tensor:
    """As `shared_pass.gradients`, of float32 on a CPU."""
    ends = np.array([0, *accumulate(sizes)], np.int64)
    arrays = [each.detach().contiguous().numpy() for each in (inputs.flatten(1), labels, weights)]
    x, y, flat = arrays
    return torch.from_numpy(dense_pass.gradients(x, y, ends, flat, _places(layers), out.numpy()))


def _places(layers: Sequence[nn.Linear]) -> np.ndarray:
    """For each its inputs, its outputs, and where weights and biases start in a flat vector."""
    rows, start = [], 0
    for layer in layers:
        end = start + layer.weight.numel()
        has_biases = layer.bias is not None
        rows.append((layer.in_features, layer.out_features, start, end if has_biases else -1))
        start = end + (layer.out_features if has_biases else 0)
    return np.array(rows, np.int64)
