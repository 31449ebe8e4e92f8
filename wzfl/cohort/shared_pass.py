"""Gradients of many clients at the same weights, without an autograd graph for each.

One forward pass and one pass of input gradients serve the examples of all clients together; only each
layer's weight gradient is taken client by client, and written where it belongs in `[clients, dim]`.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wzfl.cohort import dense_pass
from wzfl.cohort.dense import dense_layers
from wzfl.cohort.layers import ExamplesByClient, GradientSink, Layer, is_known, layer_of
from wzfl.products import goes_to_openblas

# Floats that examples and activations which are handled together may take.
BUDGET = {"cpu": 10**7, "cuda": 10**9}

Pair = tuple[Tensor | None, Tensor | None]  # of weight and bias
_Place = tuple[int, torch.Size]  # where they start in a flat vector, and their shape


def supports(network: nn.Module) -> bool:
    """Whether `network` is a plain sequence of layers whose gradients are known here."""
    return isinstance(network, nn.Sequential) and all(is_known(layer) for layer in network)


@lru_cache(maxsize=16)
def floats_per_example(network: nn.Module, shape: Sequence[int]) -> int:
    """Number of floats in an input of this `shape` and in every layer's output for it."""
    assert isinstance(network, nn.Sequential)
    values = torch.zeros(1, *shape)
    floats = values.numel()
    for layer in network:
        values = layer(values)
        floats += values.numel()
    return floats


@torch.no_grad()
def outputs(network: nn.Module, weights: Tensor, inputs: Tensor) -> Tensor:
    """Logits `[n, classes]` of inputs `[n, ...]`; nothing is kept of layers on the way."""
    assert isinstance(network, nn.Sequential)
    values = inputs
    for module, pair in zip(network, _views(network, weights), strict=True):
        values = layer_of(module, *pair, values).forward(values)
    return values


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
    if dense_layers(network) and all(map(goes_to_openblas, (weights, inputs))):
        return dense_pass.gradients(_table(network), weights, inputs, labels, sizes, out)
    examples = ExamplesByClient(sizes)
    sinks = [GradientSink(*pair, examples) for pair in _views(network, out)]
    return _pass(network, _views(network, weights), inputs, labels, examples, sinks)


@torch.no_grad()
def descend(
    network: nn.Module,
    weights: Tensor,
    batches: Iterable[tuple[Tensor, Tensor]],
    lr: float,
    l2: float,
) -> Tensor:
    """Takes steps of SGD on the mean cross-entropy plus l2/2 |weights|**2, in place in `weights` `[dim]`.

    A step's batch is inputs `[n, ...]` and labels `[n]`. Returns the mean of what was minimised before
    each step.
    """
    views, views_of_one = _views(network, weights), _views(network, weights[None])
    losses = []
    for inputs, labels in batches:
        penalty = l2 / 2 * weights.square().sum() if l2 else 0
        examples = ExamplesByClient([len(labels)])
        sinks = [GradientSink(*pair, examples, 1 - lr * l2, -lr) for pair in views_of_one]
        losses.append(_pass(network, views, inputs, labels, examples, sinks)[0] + penalty)
    return torch.stack(losses).mean()


def _pass(
    network: nn.Module,
    views: Sequence[Pair],
    inputs: Tensor,
    labels: Tensor,
    examples: ExamplesByClient,
    sinks: Sequence[GradientSink],
) -> Tensor:
    """Adds each client's gradients to `sinks`, one for each layer; returns the mean losses `[clients]`.

    `views` are the layers' weights and biases.
    """
    assert isinstance(network, nn.Sequential)
    values, layers = inputs, list[Layer]()
    for module, (weight, bias) in zip(network, views, strict=True):
        layers.append(layer_of(module, weight, bias, values))
        values = layers[-1].forward(values)
    losses = functional.cross_entropy(values, labels, reduction="none")
    grad = functional.softmax(values, dim=1)
    grad -= torch.zeros_like(grad).scatter_(1, labels[:, None], 1)
    for grads in examples.alike(grad):
        grads /= grads.shape[1]
    # Nobody needs the gradient at the input of the first layer that has weights.
    first = next((n for n, sink in enumerate(sinks) if sink.weight is not None), len(layers))
    for number in reversed(range(first, len(layers))):
        grad = layers[number].backward(grad, sinks[number], needs_input_grad=number > first)
    return torch.cat([part.mean(dim=1) for part in examples.alike(losses)])


def _views(network: nn.Module, flat: Tensor) -> list[Pair]:
    """Each layer's weight and bias in `flat` `[..., dim]`, each `[..., *shape]`, or None."""
    return [(_view(flat, weight), _view(flat, bias)) for weight, bias in _places(network)]


def _view(flat: Tensor, place: _Place | None) -> Tensor | None:
    if place is None:
        return None
    start, shape = place
    return flat[..., start : start + shape.numel()].view(*flat.shape[:-1], *shape)


@lru_cache(maxsize=16)
def _table(network: nn.Module) -> np.ndarray:
    """The layers of a dense network, as `kernels.dense_pass` takes them."""
    rows = [
        (*reversed(weight[1]), weight[0], -1 if bias is None else bias[0])
        for weight, bias in _places(network)
        if weight is not None
    ]
    return np.array(rows, np.int64)


@lru_cache(maxsize=16)
def _places(network: nn.Module) -> list[tuple[_Place | None, _Place | None]]:
    """Where each layer's weight and bias are in a flat vector, or None."""
    assert isinstance(network, nn.Sequential)
    places, start = [], 0
    for layer in network:
        pair: list[_Place | None] = []
        for name in ("weight", "bias"):
            parameter = getattr(layer, name, None)
            pair.append(None if parameter is None else (start, parameter.shape))
            start += 0 if parameter is None else parameter.numel()
        places.append((pair[0], pair[1]))
    return places
