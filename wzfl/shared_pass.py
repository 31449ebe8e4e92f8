"""Gradients of many clients at the same weights, without an autograd graph for each.

One forward pass and one pass of input gradients serve the examples of all clients together; only each
layer's weight gradient is taken client by client, and written where it belongs in `[clients, dim]`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_aten: Any = torch.ops.aten


def supports(network: nn.Module) -> bool:
    """Whether `network` is a plain sequence of layers whose gradients are known here."""
    return isinstance(network, nn.Sequential) and all(_is_known(layer) for layer in network)


@lru_cache(maxsize=16)
def floats_per_example(network: nn.Module, shape: Sequence[int]) -> int:
    """An input of this shape and every layer's output for it."""
    assert isinstance(network, nn.Sequential)
    values = torch.zeros(1, *shape)
    floats = values.numel()
    for layer in network:
        values = layer(values)
        floats += values.numel()
    return floats


@torch.no_grad()
def gradients(
    network: nn.Module,
    weights: Tensor,
    inputs: Tensor,
    labels: Tensor,
    sizes: Sequence[int],
    out: Tensor,
) -> Tensor:
    """Fills `out` `[clients, dim]` with each client's gradient of its mean cross-entropy.

    Inputs `[n, ...]` and labels `[n]` are those of the first client, `sizes[0]` of them, then of the next.
    Returns the losses `[clients]`.
    """
    assert isinstance(network, nn.Sequential)
    parameters, slopes = _views(network, weights[None]), _views(network, out)
    values, kept = inputs, []
    for layer, (weight, bias) in zip(network, parameters, strict=True):
        before, (values, after) = values, _forward(layer, values, weight, bias)
        kept.append((before, after))
    losses = functional.cross_entropy(values, labels, reduction="none")
    slope = functional.softmax(values, dim=1)
    slope[torch.arange(len(slope), device=slope.device), labels] -= 1
    for part in slope.split(list(sizes)):
        part /= len(part)
    # Nobody needs the gradient at the input of the first layer that has weights.
    first = next(
        (n for n, (weight, _) in enumerate(parameters) if weight is not None), len(network)
    )
    for number in reversed(range(first, len(network))):
        layer, (before, after), (weight, _) = network[number], kept[number], parameters[number]
        _weight_slopes(layer, before, slope, weight, sizes, slopes[number])
        if number > first:
            slope = _backward(layer, before, after, slope, weight)
    return torch.stack([part.mean() for part in losses.split(list(sizes))])


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return (
            layer.groups == 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
    if isinstance(layer, nn.MaxPool2d):
        return layer.dilation == 1 and not layer.ceil_mode
    return type(layer) in (nn.Flatten, nn.Linear, nn.ReLU)


Pair = tuple[Tensor | None, Tensor | None]


def _views(network: nn.Sequential, flat: Tensor) -> list[Pair]:
    """For each layer the weight and bias in `flat` `[rows, dim]`, each `[rows, ...]`, or None."""
    views, start = [], 0
    for layer in network:
        pair: list[Tensor | None] = []
        for name in ("weight", "bias"):
            parameter = getattr(layer, name, None)
            if parameter is None:
                pair.append(None)
                continue
            part = flat[:, start : start + parameter.numel()]
            pair.append(part.unflatten(1, parameter.shape))
            start += parameter.numel()
        views.append((pair[0], pair[1]))
    return views


def _forward(
    layer: nn.Module, x: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The layer's output, and what its backward pass needs besides its input."""
    if isinstance(layer, nn.MaxPool2d):
        # Several times faster with the channels last, the change of layout included.
        last = x.contiguous(memory_format=torch.channels_last)
        out, places = functional.max_pool2d_with_indices(
            last, _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding)
        )
        return out.contiguous(), places.contiguous()
    if isinstance(layer, nn.ReLU):
        out = torch.relu(x)
        return out, out
    if isinstance(layer, nn.Flatten):
        return x.flatten(1), None
    assert weight is not None
    first_bias = None if bias is None else bias[0]
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight[0], first_bias), None
    assert isinstance(layer, nn.Conv2d)
    return functional.conv2d(
        x, weight[0], first_bias, layer.stride, layer.padding, layer.dilation
    ), None


def _backward(
    layer: nn.Module, x: Tensor, after: Tensor | None, slope: Tensor, weight: Tensor | None
) -> Tensor:
    """The gradient at the layer's input `x` from that at its output."""
    if isinstance(layer, nn.MaxPool2d):
        size, stride, padding = layer.kernel_size, layer.stride, layer.padding
        return _aten.max_pool2d_with_indices_backward(
            slope, x, _pair(size), _pair(stride), _pair(padding), [1, 1], False, after
        )
    if isinstance(layer, nn.ReLU):
        return _aten.threshold_backward(slope, after, 0)
    if isinstance(layer, nn.Flatten):
        return slope.view(x.shape)
    assert weight is not None
    if isinstance(layer, nn.Linear):
        return slope @ weight[0]
    return _convolution(layer, x, slope, weight[0], (True, False, False))[0]


def _weight_slopes(
    layer: nn.Module,
    x: Tensor,
    slope: Tensor,
    weight: Tensor | None,
    sizes: Sequence[int],
    out: Pair,
) -> None:
    """Writes each client's gradients of the layer's weight and bias into `out`, `[clients, ...]`."""
    if weight is None:
        return
    weights, biases = out
    assert weights is not None
    parts = zip(x.split(list(sizes)), slope.split(list(sizes)), strict=True)
    for client, (inputs, slopes) in enumerate(parts):
        if isinstance(layer, nn.Linear):
            torch.mm(slopes.mT, inputs, out=weights[client])
            if biases is not None:
                torch.sum(slopes, dim=0, out=biases[client])
            continue
        assert isinstance(layer, nn.Conv2d)
        if layer.in_channels == 1:
            weights[client] = _of_one_channel(layer, inputs, slopes)
        else:
            _, weights[client], _ = _convolution(
                layer, inputs, slopes, weight[0], (False, True, False)
            )
        if biases is not None:
            torch.sum(slopes, dim=(0, 2, 3), out=biases[client])


def _of_one_channel(layer: nn.Conv2d, x: Tensor, slope: Tensor) -> Tensor:
    """The weight gradient of a convolution of one channel, `[out, 1, height, width]`.

    Examples and channels change places: it is the convolution of inputs with slopes. Several times
    faster than the library's own for one channel, and several times slower for more.
    """
    assert not isinstance(layer.padding, str)
    height, width = layer.kernel_size
    whole = functional.conv2d(
        x.transpose(0, 1),
        slope.transpose(0, 1),
        stride=layer.dilation,
        padding=layer.padding,
        dilation=layer.stride,
    )
    return whole[:, :, :height, :width].transpose(0, 1)


def _convolution(
    layer: nn.Module, x: Tensor, slope: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias, those that are `wanted`."""
    assert isinstance(layer, nn.Conv2d)
    return _aten.convolution_backward(
        slope,
        x,
        weight,
        [len(weight)],
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        wanted,
    )


def _pair(size: int | tuple[int, int]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
