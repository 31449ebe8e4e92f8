"""Norms of vectors, one per row: a row's sum does not depend on its batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wzfl import gpu
from wzfl.kernels.norms import distance_rows, energy_rows, largest_rows
from wzfl.threads import in_threads


def energies(vectors: Tensor) -> Tensor:
    """|vector|**2 of each row of `[clients, dim]`, as `[clients]` float64."""
    if gpu.is_usable(vectors.device, vectors.shape[1]):
        from wzfl.gpu import norms

        return norms.energies(vectors)
    if vectors.is_cpu:
        return _by_rows(energy_rows, vectors)
    return torch.stack([row.double().square().sum() for row in vectors])


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """|left - right|**2 of each row of two `[clients, dim]`, as `[clients]` float64."""
    if gpu.is_usable(left.device, left.shape[1]):
        from wzfl.gpu import norms

        return norms.squared_distances(left, right)
    if left.is_cpu:
        return _by_rows(distance_rows, left, right)
    rows = zip(left.double(), right.double(), strict=True)
    return torch.stack([(ours - theirs).square().sum() for ours, theirs in rows])


def rms(vectors: Tensor) -> Tensor:
    """Root of the mean square of each row's coordinates, `[clients]` float32."""
    return (energies(vectors) / vectors.shape[1]).sqrt().float()


def largest_magnitudes(vectors: Tensor) -> Tensor:
    """Largest magnitude in each row, `[clients]` float32; NaN or infinite if a coordinate is."""
    if vectors.is_cpu:
        return _by_rows(largest_rows, vectors)
    return torch.linalg.vector_norm(vectors, ord=float("inf"), dim=1)


def _by_rows(kernel: Callable[..., np.ndarray], *matrices: Tensor) -> Tensor:
    """Results of `kernel`, one per row of the matrices, computed on all cores."""
    whole = [matrix.detach().float().contiguous() for matrix in matrices]
    parts = min(torch.get_num_threads(), len(whole[0]))
    if parts < 2:
        return torch.from_numpy(kernel(*(matrix.numpy() for matrix in whole)))
    split = zip(*(matrix.tensor_split(parts) for matrix in whole), strict=True)
    results = in_threads(lambda some: kernel(*(part.numpy() for part in some)), split)
    return torch.from_numpy(np.concatenate(results))
