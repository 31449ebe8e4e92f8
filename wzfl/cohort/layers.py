"""Layers of a network in a pass over the examples of several clients, which have the same weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wzfl.cohort.fast_convolution import FastConvolution, is_faster
from wzfl.products import baddbmm_, linear, matmul

_aten: Any = torch.ops.aten


class ExamplesByClient:
    """Says which examples of a pass are whose: one client's after the other's, `sizes[0]` of the first."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._runs = [(len(list(run)), size) for size, run in groupby(sizes)]

    def each(self, examples: Tensor) -> Sequence[Tensor]:
        """Each client's part of `[n, ...]`."""
        return examples.split_with_sizes(self._sizes)

    def alike(self, examples: Tensor) -> list[Tensor]:
        """Parts `[clients, n, ...]`, each of neighbours who have the same number of examples."""
        parts = examples.split_with_sizes([clients * size for clients, size in self._runs])
        return [
            part.view(*run, *examples.shape[1:])
            for part, run in zip(parts, self._runs, strict=True)
        ]

    def rows_alike(self, rows: Tensor) -> Sequence[Tensor]:
        """The parts of `[clients, ...]` whose clients are those of the parts that `alike` gives."""
        return rows.split_with_sizes([clients for clients, _ in self._runs])


@dataclass(frozen=True, eq=False)
class GradientSink:
    """Takes the gradients of a layer's weight and bias, client by client.

    What is there becomes `beta` times itself plus `alpha` times the gradient.

    Attributes:
        weight: `[clients, ...]`, where each client's weight gradient is written; None: the layer has none.
        bias: `[clients, ...]`, the same of biases.
        examples: which examples of the pass are whose.
    """

    weight: Tensor | None
    bias: Tensor | None
    examples: ExamplesByClient
    beta: float = 0.0
    alpha: float = 1.0

    def add_weights(self, gradient: Callable[..., Tensor], *tensors: Tensor) -> None:
        """Adds the weight gradients that `gradient` makes of each client's part of `tensors` `[n, ...]`."""
        assert self.weight is not None
        parts = (self.examples.each(tensor) for tensor in tensors)
        for weight, *own in zip(self.weight, *parts, strict=True):
            self._add(weight, gradient(*own))

    def add_dense_weights(self, grad: Tensor, x: Tensor) -> None:
        """Adds a dense layer's weight gradients, from the gradient at its output and its input `x`."""
        assert self.weight is not None
        parts = self.examples.alike(grad), self.examples.alike(x)
        for weights, grads, inputs in zip(
            self.examples.rows_alike(self.weight), *parts, strict=True
        ):
            baddbmm_(weights, grads.mT, inputs, beta=self.beta, alpha=self.alpha)

    def add_biases(self, grad: Tensor) -> None:
        """Adds the bias gradients, if there are any, from the gradient at the output `[n, out, ...]`."""
        if self.bias is None:
            return
        others = [dim for dim in range(1, grad.dim() + 1) if dim != 2]
        for biases, grads in zip(
            self.examples.rows_alike(self.bias), self.examples.alike(grad), strict=True
        ):
            self._add(biases, grads.sum(dim=others))

    def _add(self, out: Tensor, gradient: Tensor) -> None:
        if self.beta == 0:  # there may be anything, and 0 times NaN is NaN
            torch.mul(gradient, self.alpha, out=out)
        else:
            out.mul_(self.beta).add_(gradient, alpha=self.alpha)


class Layer(Protocol):
    """One layer in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[n, ...]` of inputs `[n, ...]`."""
        ...

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        """The gradient at the input, from that at the output; anything if it is not needed.

        The gradients of weight and bias are added to `sink` afterwards, which may hold the weights
        themselves.
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

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        return grad.view(self._shape)


class _ReLU:
    def forward(self, x: Tensor) -> Tensor:
        self._out = torch.relu(x)
        return self._out

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        return _aten.threshold_backward(grad, self._out, 0)


class _MaxPool:
    """Pools with the channels last: several times faster on a CPU, the change of layout included."""

    def __init__(self, layer: nn.MaxPool2d) -> None:
        sizes = layer.kernel_size, layer.stride, layer.padding
        self._sizes = [[size, size] if isinstance(size, int) else list(size) for size in sizes]

    def forward(self, x: Tensor) -> Tensor:
        self._x = _channels_last(x)
        out, self._places = _aten.max_pool2d_with_indices(self._x, *self._sizes)
        return out

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        return _aten.max_pool2d_with_indices_backward(
            _channels_last(grad), self._x, *self._sizes, [1, 1], False, self._places
        )


class _Linear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        self._x = x
        return linear(x, self._weight, self._bias)

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        input_grad = matmul(grad, self._weight) if needs_input_grad else grad
        sink.add_biases(grad)
        sink.add_dense_weights(grad, self._x)
        return input_grad


class _Convolution:
    """Torch's convolution. On a CPU, images of one channel alone are faster with the channels last."""

    def __init__(self, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        self._sizes = [list(size) for size in (layer.stride, layer.padding, layer.dilation)]

    def forward(self, x: Tensor) -> Tensor:
        self._last = x.is_cpu and x.shape[1] == 1
        # Of one channel both layouts are the same memory: strides tell which is meant.
        self._x = x.squeeze(1).unsqueeze(3).movedim(3, 1) if self._last else x.contiguous()
        return _aten.convolution(self._x, self._weight, self._bias, *self._sizes, False, [0, 0], 1)

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        grad = _channels_last(grad) if self._last else grad.contiguous()
        input_grad = grad
        if needs_input_grad:
            input_grad = self._gradients(self._x, grad, (True, False, False))[0]
        sink.add_biases(grad)
        sink.add_weights(
            lambda x, grads: self._gradients(x, grads, (False, True, False))[1], self._x, grad
        )
        return input_grad

    def _gradients(
        self, x: Tensor, grad: Tensor, mask: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of input, weight and bias, as far as `mask` asks for them."""
        return _aten.convolution_backward(
            grad, x, self._weight, None, *self._sizes, False, [0, 0], 1, mask
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

    def backward(self, grad: Tensor, sink: GradientSink, needs_input_grad: bool) -> Tensor:
        input_grad = torch.empty_like(self._x)
        sink.add_biases(grad)
        sink.add_weights(self._convolution.backward, self._x, grad, input_grad)
        return input_grad


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)
