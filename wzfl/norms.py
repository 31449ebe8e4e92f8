"""Norms, row by row: a row's sum does not depend on its batch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from wzfl.kernels.quantize import distance_row, energy_row, largest_row
from wzfl.threads import in_threads


def energies(vectors: Tensor) -> Tensor:
    """`[clients]` float64: |vector|**2 of each row of `[clients, dim]`."""
    if vectors.is_cpu:
        return torch.tensor(in_threads(energy_row, _rows(vectors)), dtype=torch.float64)
    return torch.stack([row.double().square().sum() for row in vectors])


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """`[clients]` float64: |left - right|**2 of each row; both are `[clients, dim]`."""
    if left.stride(0) == 0 and not left[0].any():  # nothing is expected of anybody
        return energies(right)
    if left.is_cpu:
        pairs = zip(_rows(left), _rows(right), strict=True)
        return torch.tensor(
            in_threads(lambda pair: distance_row(*pair), pairs), dtype=torch.float64
        )
    rows = zip(left.double(), right.double(), strict=True)
    return torch.stack([(ours - theirs).square().sum() for ours, theirs in rows])


def largest_magnitudes(vectors: Tensor) -> Tensor:
    """`[clients]` float32: that of each row; NaN or infinite if a coordinate is."""
    if vectors.is_cpu:
        bits = in_threads(largest_row, (row.view(np.uint32) for row in _rows(vectors)))
        return torch.from_numpy(np.array(bits, np.uint32).view(np.float32))
    return torch.linalg.vector_norm(vectors, ord=float("inf"), dim=1)


def _rows(vectors: Tensor) -> Iterator[np.ndarray]:
    for row in vectors.detach():
        yield row.float().contiguous().numpy()
