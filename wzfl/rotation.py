"""A randomized Hadamard rotation of vectors of any length, without padding.

Two passes, each: random signs, Hadamard transforms of runs of `block` neighbours, and a transpose, so
that a run of the second pass draws evenly on every run of the first. Every output then mixes the
whole vector, as one scale for all coordinates needs (energy differs by orders of magnitude between
layers). What is left over after the last full run is transformed together with the end of that run
and then swapped with coordinates from everywhere.

Only additions, subtractions and a final multiplication by a constant, in a fixed order: the result is
the same to the last bit on any device, in any batch, at any thread count.

Source: randomized Hadamard transforms for quantization, Suresh et al., "Distributed Mean Estimation
with Limited Communication" (ICML 2017); the two passes over overlapping blocks are ours.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, isqrt

import torch
from torch import Tensor

from wzfl.public import Public

_PURPOSES = ("rotation/0", "rotation/1")


def rotate(vectors: Tensor, public: Public) -> Tensor:
    """`[clients, dim]` float32 of the same norms; an orthogonal map that both ends know."""
    dim = vectors.shape[1]
    layout = _Layout.of(dim)
    rotated = vectors.float()
    for purpose in _PURPOSES:
        signs = public.signs(purpose, dim + layout.block)
        rotated = layout.forward(rotated * signs[:, :dim], signs[:, dim:])
    return rotated


def rotate_back(vectors: Tensor, public: Public) -> Tensor:
    """The inverse of `rotate`, up to float32 rounding."""
    dim = vectors.shape[1]
    layout = _Layout.of(dim)
    restored = vectors.float()
    for purpose in reversed(_PURPOSES):
        signs = public.signs(purpose, dim + layout.block)
        restored = layout.backward(restored, signs[:, dim:]).mul_(signs[:, :dim])
    return restored


@dataclass(frozen=True)
class _Layout:
    """`runs` runs of `block` coordinates and a `rest` shorter than a run."""

    block: int
    runs: int
    rest: int

    @staticmethod
    @lru_cache
    def of(dim: int) -> "_Layout":
        # A run of the second pass holds block / runs coordinates of each run of the first; 64 or
        # more keep their energies even to within 2 %.
        wanted = 8 * isqrt(dim)
        block = 1
        while block < wanted and 2 * block <= dim:
            block *= 2
        return _Layout(block, *divmod(dim, block))

    def forward(self, vectors: Tensor, rest_signs: Tensor) -> Tensor:
        """`[rows, dim]` -> `[rows, dim]`: one pass; `rest_signs` `[rows, block]` are for the rest."""
        rows, dim = vectors.shape
        mixed = torch.empty_like(vectors)
        main = self._main(mixed)
        main.copy_(vectors[:, : dim - self.rest].view(rows, self.runs, self.block).mT)
        _hadamard(main)
        if self.rest:
            mixed[:, dim - self.rest :] = vectors[:, dim - self.rest :]
            self._mix_rest(mixed, rest_signs, undo=False)
            self._swap_rest(mixed)
        return mixed

    def backward(self, mixed: Tensor, rest_signs: Tensor) -> Tensor:
        """The inverse of `forward`."""
        rows, dim = mixed.shape
        vectors = mixed.clone()
        if self.rest:
            self._swap_rest(vectors)
            self._mix_rest(vectors, rest_signs, undo=True)
        main = self._main(vectors)
        _hadamard(main)
        runs = main.mT.clone(memory_format=torch.contiguous_format)
        vectors[:, : dim - self.rest] = runs.view(rows, -1)
        return vectors

    def _main(self, vectors: Tensor) -> Tensor:
        """`[rows, block, runs]`, the view in which a run is a column."""
        rows, dim = vectors.shape
        return vectors[:, : dim - self.rest].view(rows, self.block, self.runs)

    def _mix_rest(self, vectors: Tensor, signs: Tensor, undo: bool) -> None:
        """Transforms the rest together with the end of the last run, in place.

        Fresh signs come first: that run has just been transformed, and a second transform alone would
        bring back what the first one spread.
        """
        last_run = self._main(vectors)[:, self.rest :, -1]
        rest = vectors[:, vectors.shape[1] - self.rest :]
        together = torch.cat([last_run, rest], dim=1)
        if not undo:
            together *= signs
        # As a matrix, one axis after the other: long rows are faster than a single column.
        matrix = together.view(len(vectors), 2 ** (self.block.bit_length() // 2), -1)
        _hadamard(matrix)
        transposed = matrix.mT.contiguous()
        _hadamard(transposed)
        matrix.copy_(transposed.mT)
        if undo:
            together *= signs
        last_run.copy_(together[:, : self.block - self.rest])
        rest.copy_(together[:, self.block - self.rest :])

    def _swap_rest(self, vectors: Tensor) -> None:
        """Exchanges the rest with as many coordinates from everywhere, in place."""
        places = _everywhere(self.block * self.runs, self.rest).to(vectors.device)
        rest = vectors[:, vectors.shape[1] - self.rest :]
        swapped = rest.clone()
        rest.copy_(vectors[:, places])
        vectors[:, places] = swapped


@lru_cache
def _everywhere(length: int, count: int) -> Tensor:
    """`[count]` distinct places below `length`, even over it and over any stride of it."""
    step = max(1, round(length * 0.6180339887))  # the golden section spreads best
    while gcd(step, length) != 1:
        step += 1
    return torch.arange(count) * step % length


def _hadamard(columns: Tensor) -> None:
    """Orthonormal Hadamard transform along dimension 1 of `[rows, block, runs]`, in place."""
    rows, block, runs = columns.shape
    source = columns.contiguous()
    target = torch.empty_like(source)
    half = block // 2
    while half:
        left, right = source.view(rows, -1, 2, half, runs).unbind(2)
        sums, differences = target.view(rows, -1, 2, half, runs).unbind(2)
        torch.add(left, right, out=sums)
        torch.sub(left, right, out=differences)
        source, target = target, source
        half //= 2
    torch.mul(source, block**-0.5, out=columns)
