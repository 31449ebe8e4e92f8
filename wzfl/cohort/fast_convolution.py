"""Convolutions with large kernels on a CPU, by fewer multiplications.

Images and kernels are taken to the frequencies of a discrete Fourier transform, where a convolution is a
product of matrices `[examples, in] @ [in, out]` per frequency. Source: Mathieu et al., "Fast Training of
Convolutional Networks through FFTs" (ICLR 2014); here without an FFT, as images are so small that transforms
are products with small matrices, too. A product of two complex numbers is three of real ones (Gauss), which
these matrices take care of. A convolution and its gradients are, with ' for the transpose,

    y = C' (D x * E w),    dx = D' (C dy * E w),    dw = E' (D x * C dy).

Rounding errors are those of sums over channels and frequencies, no larger than those of direct sums.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wzfl.products import baddbmm_, matmul

# Examples whose transforms stay in cache.
_BLOCK = 32
# Multiplications of the library's convolution that take as long as one here.
_COST = 2.0

# (a - ib)(p + iq) = (ap + bq) + i (ap - bq + (a + b)(q - p)): what is multiplied of a and b, of p and q, and
# what the three products are multiplied with, of cos and sin, for the real part times cos less the imaginary
# part times sin.
_GAUSS = {
    "inputs": [[1, 0], [0, 1], [1, 1]],
    "kernel": [[1, 0], [0, 1], [-1, 1]],
    "outputs": [[1, -1], [1, 1], [0, -1]],
}


def is_faster(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether the convolution of `x` `[n, in, height, width]` takes less time here."""
    if not x.is_cpu or layer.stride != (1, 1) or layer.dilation != (1, 1):
        return False
    inputs, kernel, outputs = _transforms(layer, x.shape[2:])
    if min(outputs.image) < 1:  # for the library to say so
        return False
    channels = layer.in_channels * layer.out_channels
    each = (
        layer.in_channels * inputs.multiplications
        + layer.out_channels * outputs.multiplications
        + channels * inputs.points
    )
    here = len(x) * each + channels * kernel.multiplications
    return _COST * here < len(x) * math.prod(outputs.image) * layer.weight.numel()


class FastConvolution:
    """A convolution without bias, with one kernel, of images of one size; channels are last in memory."""

    def __init__(self, layer: nn.Conv2d, weight: Tensor, image: Sequence[int]) -> None:
        """Transforms `weight` `[out, in, height, width]` for images of size `[height, width]`."""
        self._of_inputs, self._of_kernel, self._of_outputs = _transforms(layer, image)
        self._kernel = self._of_kernel.to_points(weight.transpose(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[n, out, ...]` of inputs `x` `[n, in, ...]`."""
        height, width = self._of_outputs.image
        out = x.new_empty(len(x), height, width, self._kernel.shape[2]).permute(0, 3, 1, 2)
        for block, values in zip(_blocks(out), _blocks(x), strict=True):
            points = matmul(self._of_inputs.to_points(values), self._kernel)
            block.copy_(self._of_outputs.to_places(points))
        return out

    def backward(self, x: Tensor, grad: Tensor, input_grad: Tensor) -> Tensor:
        """The gradient of the weights, from that at the output; fills `input_grad` with that at `x`."""
        products: list[Tensor] = []
        blocks = zip(_blocks(input_grad), _blocks(x), _blocks(grad), strict=True)
        for block, values, grads in blocks:
            points = self._of_outputs.to_points(grads)
            block.copy_(self._of_inputs.to_places(matmul(points, self._kernel.mT)))
            inputs = self._of_inputs.to_points(values).mT
            if products:
                baddbmm_(products[0], inputs, points)
            else:
                products.append(matmul(inputs, points))
        return self._of_kernel.to_places(products[0]).transpose(0, 1)


def _blocks(values: Tensor) -> Sequence[Tensor]:
    """Splits examples into blocks of nearly the same size, as large as stay in cache."""
    return values.tensor_split(-(-len(values) // _BLOCK))


class _Transform(NamedTuple):
    """From places of an image to frequencies: along its height, then along its width.

    Rows of a frequency that is its own negative are real, and half of the frequencies along the width
    say all about them. Of other frequencies there are two rows, for cos and sin: one complex row.

    Attributes:
        image: height and width.
        height: `[rows, height]`; the first `real` rows are real, then come pairs.
        width: `[points of a real row, width]`.
        widths: `[points of a pair, 2 width]`.
    """

    image: tuple[int, int]
    height: Tensor
    width: Tensor
    widths: Tensor
    real: int

    @property
    def pairs(self) -> int:
        return (len(self.height) - self.real) // 2

    @property
    def points(self) -> int:
        return self.real * len(self.width) + self.pairs * len(self.widths)

    @property
    def multiplications(self) -> int:
        """How many it takes to transform an image."""
        rows = self.height.numel() * self.image[1]
        return rows + self.real * self.width.numel() + self.pairs * self.widths.numel()

    def to_points(self, images: Tensor) -> Tensor:
        """Transforms `[n, channels, height, width]` to `[points, n, channels]`."""
        places = images.permute(2, 3, 0, 1)
        rows = matmul(self.height, places.flatten(1)).view(len(self.height), self.image[1], -1)
        points = rows.new_empty(self.points, rows.shape[2])
        for matrix, row, point in self._parts(rows, points):
            matmul(matrix, row, out=point)
        return points.view(-1, *places.shape[2:])

    def to_places(self, points: Tensor) -> Tensor:
        """The transpose of `to_points`: `[n, channels, height, width]` from `[points, n, channels]`."""
        flat = points.flatten(1)
        rows = flat.new_empty(len(self.height), self.image[1], flat.shape[1])
        for matrix, row, point in self._parts(rows, flat):
            matmul(matrix.mT, point, out=row)
        places = matmul(self.height.mT, rows.flatten(1))
        return places.view(*self.image, *points.shape[1:]).permute(2, 3, 0, 1)

    def _parts(self, rows: Tensor, points: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """A matrix, the rows it applies to and their points, once for real rows and once for pairs."""
        end, size = self.real * len(self.width), points.shape[1]
        kinds = (
            (self.real, self.width, rows[: self.real], points[:end]),
            (self.pairs, self.widths, rows[self.real :], points[end:]),
        )
        return [
            (
                matrix.expand(number, -1, -1),
                row.view(number, matrix.shape[1], size),
                point.view(number, matrix.shape[0], size),
            )
            for number, matrix, row, point in kinds
        ]


def _transforms(layer: nn.Conv2d, image: Sequence[int]) -> tuple[_Transform, ...]:
    """The transforms D of inputs, E of kernels and C of gradients at the output.

    y[i] is the sum of w[k] x[i + k - padding]. What wraps around a period of size + padding meets zeros.
    """
    padding = tuple(int(size) for size in layer.padding)
    kernel = tuple(layer.kernel_size)
    sizes = tuple(image)
    period = tuple(size + more for size, more in zip(image, padding, strict=True))
    outputs = tuple(
        max(0, size + 2 * more - width + 1)
        for size, more, width in zip(image, padding, kernel, strict=True)
    )
    return (
        _transform("inputs", sizes, (0, 0), period),
        _transform("kernel", kernel, padding, period),
        _transform("outputs", outputs, (0, 0), period),
    )


@lru_cache(maxsize=64)
def _transform(
    of: str, image: tuple[int, int], offset: tuple[int, int], period: tuple[int, int]
) -> _Transform:
    """The transform of what `_GAUSS` calls `of`; an image starts `offset` places before the period."""
    gauss = torch.tensor(_GAUSS[of], dtype=torch.float64)
    twice, scale = (2, 1 / math.prod(period)) if of == "outputs" else (1, 1)
    waves = [
        [_wave(step, *axis) for step in range(axis[-1])]
        for axis in zip(image, offset, period, strict=True)
    ]
    (tall, wide), (real_tall, real_wide) = waves, (_real(size) for size in period)
    height = [tall[step][:1] for step in real_tall]
    height += [twice * tall[step] for step in range(1, (period[0] + 1) // 2)]
    width = [wide[step][:1] for step in real_wide]
    width += [twice * gauss @ wide[step] for step in range(1, (period[1] + 1) // 2)]
    quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    widths = [gauss @ torch.cat([wave, quarter_turn @ wave], dim=1) for wave in wide]
    return _Transform(
        image,
        torch.cat(height).float(),
        (scale * torch.cat(width)).float(),
        (scale * torch.cat(widths)).float(),
        len(real_tall),
    )


def _real(period: int) -> list[int]:
    """Frequencies without an imaginary part."""
    return [0, period // 2] if period % 2 == 0 else [0]


def _wave(step: int, places: int, offset: int, period: int) -> Tensor:
    """Cosine and sine of a frequency, `[2, places]`, float64."""
    angles = 2 * math.pi * step / period * (torch.arange(places).double() - offset)
    return torch.stack([angles.cos(), angles.sin()])
