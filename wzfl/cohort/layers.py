"""Layers of a network in a pass over the examples of several clients, which have the same weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wzfl.cohort.fast_convolution import FastConvolution, is_faster
from wzfl.products import add_product, linear, product

_aten: Any = torch.ops.aten


class Clients:
    """Whose the examples of a pass are: the first `sizes[0]` are those of the first client, and so on."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._runs = [(len(list(run)), size) for size, run in groupby(sizes)]

    def each(self, examples: Tensor) -> Sequence[Tensor]:
        """Each client's part of `[n, ...]`."""
        return examples.split_with_sizes(self._sizes)

    def alike(self, examples: Tensor) -> list[Tensor]:
        """`[clients, n, ...]` of neighbours who have the same number of examples."""
        parts = examples.split_with_sizes([clients * size for clients, size in self._runs])
        return [
            part.view(*run, *examples.shape[1:])
            for part, run in zip(parts, self._runs, strict=True)
        ]

    def rows_alike(self, rows: Tensor) -> Sequence[Tensor]:
        """The same of what has a row per client."""
        return rows.split_with_sizes([clients for clients, _ in self._runs])


@dataclass(frozen=True, eq=False)
class Room:
    """Where gradients of a layer's weight and bias go, client by client.

    What is there becomes `keep` times itself plus `scale` times the gradient.

    Attributes:
        weight: `[clients, ...]`, None for a layer without.
        bias: the same.
    """

    weight: Tensor | None
    bias: Tensor | None
    clients: Clients
    keep: float = 0.0
    scale: float = 1.0

    def put_weights(self, gradient: Callable[..., Tensor], *examples: Tensor) -> None:
        """What `gradient` makes of each client's part of each `[n, ...]`."""
        assert self.weight is not None
        parts = (self.clients.each(each) for each in examples)
        for weight, *own in zip(self.weight, *parts, strict=True):
            self._put(weight, gradient(*own))

    def put_products(self, slope: Tensor, x: Tensor) -> None:
        """Weight gradients of a dense layer, from the gradient at its output and its input."""
        assert self.weight is not None
        parts = self.clients.alike(slope), self.clients.alike(x)
        for weights, slopes, inputs in zip(
            self.clients.rows_alike(self.weight), *parts, strict=True
        ):
            add_product(weights, slopes.mT, inputs, self.keep, self.scale)

    def put_biases(self, slope: Tensor) -> None:
        """From the gradient at the layer's output, `[n, out, ...]`."""
        if self.bias is None:
            return
        others = [dim for dim in range(1, slope.dim() + 1) if dim != 2]
        for biases, slopes in zip(
            self.clients.rows_alike(self.bias), self.clients.alike(slope), strict=True
        ):
            self._put(biases, slopes.sum(dim=others))

    def _put(self, room: Tensor, gradient: Tensor) -> None:
        if self.keep == 0:  # there may be anything, and 0 times NaN is NaN
            torch.mul(gradient, self.scale, out=room)
        else:
            room.mul_(self.keep).add_(gradient, alpha=self.scale)


class Layer(Protocol):
    """One layer in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[n, ...]` of inputs `[n, ...]`."""
        ...

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        """From the gradient at the output that at the input, if it is `wanted`; then fills `room`.

        `room` may be the weights themselves.
        """
        ...


def is_known(layer: nn.Module) -> bool:
    """Whether `layer_of` has this kind."""
    if isinstance(layer, nn.Conv2d):
        return (
            layer.groups == 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
    if isinstance(layer, nn.MaxPool2d):
        return layer.dilation == 1 and not layer.ceil_mode
    return type(layer) in (nn.Flatten, nn.Linear, nn.ReLU)


def layer_of(layer: nn.Module, weight: Tensor | None, bias: Tensor | None, x: Tensor) -> Layer:
    """The pass of `layer` with these weights over inputs `x`."""
    if isinstance(layer, nn.MaxPool2d):
        return _MaxPool(layer)
    if isinstance(layer, nn.ReLU):
        return _ReLU()
    if isinstance(layer, nn.Flatten):
        return _Flatten()
    assert weight is not None
    if isinstance(layer, nn.Linear):
        return _Linear(weight, bias)
    assert isinstance(layer, nn.Conv2d)
    if is_faster(layer, x):
        return _FastConvolution(layer, weight, bias, x.shape[2:])
    return _Convolution(layer, weight, bias)


class _Flatten:
    def forward(self, x: Tensor) -> Tensor:
        self._shape = x.shape
        return x.flatten(1)

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        return slope.view(self._shape)


class _ReLU:
    def forward(self, x: Tensor) -> Tensor:
        self._out = torch.relu(x)
        return self._out

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        return _aten.threshold_backward(slope, self._out, 0)


class _MaxPool:
    """With the channels last, which is several times faster on a CPU, the change of layout included."""

    def __init__(self, layer: nn.MaxPool2d) -> None:
        sizes = layer.kernel_size, layer.stride, layer.padding
        self._sizes = [[size, size] if isinstance(size, int) else list(size) for size in sizes]

    def forward(self, x: Tensor) -> Tensor:
        self._x = _channels_last(x)
        out, self._places = _aten.max_pool2d_with_indices(self._x, *self._sizes)
        return out

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        return _aten.max_pool2d_with_indices_backward(
            _channels_last(slope), self._x, *self._sizes, [1, 1], False, self._places
        )


class _Linear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        self._x = x
        return linear(x, self._weight, self._bias)

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        before = product(slope, self._weight) if wanted else slope
        room.put_biases(slope)
        room.put_products(slope, self._x)
        return before


class _Convolution:
    """The library's. On a CPU, images of one channel are faster with the channels last, others are not."""

    def __init__(self, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        self._sizes = [list(size) for size in (layer.stride, layer.padding, layer.dilation)]

    def forward(self, x: Tensor) -> Tensor:
        self._last = x.is_cpu and x.shape[1] == 1
        # Of one channel both layouts are the same memory: strides tell which is meant.
        self._x = x.squeeze(1).unsqueeze(3).movedim(3, 1) if self._last else x.contiguous()
        return _aten.convolution(self._x, self._weight, self._bias, *self._sizes, False, [0, 0], 1)

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        slope = _channels_last(slope) if self._last else slope.contiguous()
        before = self._gradients(self._x, slope, (True, False, False))[0] if wanted else slope
        room.put_biases(slope)
        room.put_weights(
            lambda x, slopes: self._gradients(x, slopes, (False, True, False))[1], self._x, slope
        )
        return before

    def _gradients(
        self, x: Tensor, slope: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of input, weight and bias, those that are wanted."""
        return _aten.convolution_backward(
            slope, x, self._weight, None, *self._sizes, False, [0, 0], 1, wanted
        )


class _FastConvolution:
    def __init__(
        self, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None, image: Sequence[int]
    ) -> None:
        self._convolution, self._bias = FastConvolution(layer, weight, image), bias

    def forward(self, x: Tensor) -> Tensor:
        self._x = _channels_last(x)
        out = self._convolution.forward(self._x)
        return out if self._bias is None else out.add_(self._bias[:, None, None])

    def backward(self, slope: Tensor, room: Room, wanted: bool) -> Tensor:
        before = torch.empty_like(self._x)
        room.put_biases(slope)
        room.put_weights(self._convolution.backward, self._x, slope, before)
        return before


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)
