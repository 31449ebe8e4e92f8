"""Rounding to the lattice E8, modulo a multiple of it: `modulo`, eight coordinates at once."""

import torch
from torch import Tensor

from wzfl.compressors.modulo import fold_rows, sums, unfold_rows
from wzfl.kernels import e8 as kernel

SIZE = 8


def fold(
    values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Symbols `[clients, count]` of `bits` bits, and sums `[clients, 4]`, as `modulo.fold`.

    `count` and `covered` are multiples of 8.
    """
    if not values.is_cpu:
        return fold_with_torch(values, noise, cell, bits, covered)
    return fold_rows(kernel.fold_row, values, noise, cell, bits, covered)


def unfold(
    symbols: Tensor, noise: Tensor, expected: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """Distances `[clients, count]` from `expected` to what symbols stand for, as `modulo.unfold`."""
    if not expected.is_cpu:
        return unfold_with_torch(symbols, noise, expected, cell, bits, covered)
    return unfold_rows(kernel.unfold_row, symbols, noise, expected, cell, bits, covered)


def fold_with_torch(
    values: Tensor, noise: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """What `fold` gives, on any device."""
    places = _point(_eights(noise.double())) + _eights(values.double() / cell[:, None])
    label = _label(_nearest(places))
    block = torch.floor(label / 2.0**bits)
    symbols = label.sub_(block, alpha=2.0**bits).to(torch.int32)
    return symbols.flatten(1), sums(_point(block).flatten(1)[:, :covered])


def unfold_with_torch(
    symbols: Tensor, noise: Tensor, expected: Tensor, cell: Tensor, bits: int, covered: int
) -> tuple[Tensor, Tensor]:
    """What `unfold` gives, on any device."""
    distance = _point(_eights(symbols.double())) - _point(_eights(noise.double()))
    distance -= _eights(expected.double() / cell[:, None])
    turns = _nearest(distance / -(2.0**bits))
    residuals = distance.add_(turns, alpha=2.0**bits).flatten(1).mul_(cell[:, None])
    return residuals.float(), sums(turns.flatten(1)[:, :covered])


def _eights(values: Tensor) -> Tensor:
    return values.view(len(values), -1, SIZE)


def _point(label: Tensor) -> Tensor:
    half = label[..., 7:] / 2
    first = 2 * label[..., :1] - label[..., 1:2] + half
    middle = label[..., 1:6] - label[..., 2:7] + half
    return torch.cat([first, middle, label[..., 6:7] + half, half], dim=-1)


def _label(point: Tensor) -> Tensor:
    half, label = point[..., 7], torch.empty_like(point)
    label[..., 7] = 2 * half
    label[..., 6] = point[..., 6] - half
    for index in range(5, 0, -1):
        label[..., index] = point[..., index] - half + label[..., index + 1]
    label[..., 0] = (point[..., 0] - half + label[..., 1]) / 2
    return label


def _nearest(places: Tensor) -> Tensor:
    whole, half = _nearest_even(places, 0.0), _nearest_even(places, 0.5)
    nearer = _distance(places, whole) <= _distance(places, half)
    return torch.where(nearer[..., None], whole, half)


def _nearest_even(places: Tensor, shift: float) -> Tensor:
    shifted = places - shift
    point = torch.floor(shifted + 0.5)
    error = shifted - point
    worst = error.abs().argmax(dim=-1, keepdim=True)
    odd = torch.remainder(point.sum(dim=-1, keepdim=True), 2)
    side = torch.where(error.gather(-1, worst) >= 0, 1.0, -1.0)
    return point.scatter_add_(-1, worst, odd * side) + shift


def _distance(places: Tensor, points: Tensor) -> Tensor:
    """Squared distances `[...]` of `[..., 8]`, their terms summed in order."""
    total = torch.zeros_like(places[..., 0])
    for index in range(SIZE):
        total += (places[..., index] - points[..., index]) ** 2
    return total
