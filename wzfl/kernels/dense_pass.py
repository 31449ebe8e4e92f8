"""Gradients of a network of dense layers, for many clients with the same weights, in one call.

Torch takes some fifty operations for it, each of which asks for Python's lock and for memory. Like
`products`, this serves training: its numbers are torch's but for the rounding.
"""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.products import baddbmm


@compiled
def gradients(
    x: np.ndarray,
    labels: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    layers: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:
    """Fills `out` `[clients, dim]` with each client's gradient; returns the mean cross-entropies `[clients]`.

    Args:
        x: `[n, features]` float32, the examples of one client after the other.
        labels: `[n]` int64.
        ends: `[clients + 1]`, where each client's examples start, and the last one's end.
        weights: `[dim]` float32.
        layers: `[layers, 4]` int64: inputs, outputs, and where weights and biases start, -1 for no biases.
        out: float32.

    Raises:
        IndexError: a label is of no class.
    """
    last = len(layers) - 1
    values = [x]
    for number in range(last + 1):
        outputs = _outputs(values[number], weights, layers[number])
        if number < last:
            _relu_(outputs)
        values.append(outputs)
    grad = values.pop()
    losses = _cross_entropies(grad, labels, ends)
    for number in range(last, -1, -1):
        for client in range(len(out)):
            own = slice(ends[client], ends[client + 1])
            _write_grads(out[client], layers[number], grad[own], values[number][own])
        if number:
            grad = _input_grad(grad, weights, layers[number])
            _relu_backward_(grad, values[number])
    return losses


@compiled
def _outputs(x: np.ndarray, weights: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """A layer's outputs `[n, outputs]`, before any ReLU, from its inputs `[n, inputs]`."""
    inputs, outputs, start, biases = layer
    out = np.empty((len(x), outputs), np.float32)
    beta = 0.0
    if biases >= 0:
        beta, out[:] = 1.0, weights[biases : biases + outputs]
    left, result = (x.ctypes.data, 0, inputs, 0), (out.ctypes.data, 0, outputs, 0)
    transposed = (weights[start:].ctypes.data, 0, inputs, 1)
    baddbmm(1, (len(x), inputs, outputs), left, transposed, result, beta, 1.0)
    return out


@compiled
def _input_grad(grad: np.ndarray, weights: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """The gradient at a layer's inputs `[n, inputs]`, from that at its outputs `[n, outputs]`."""
    inputs, outputs, start, _ = layer
    out = np.empty((len(grad), inputs), np.float32)
    left, result = (grad.ctypes.data, 0, outputs, 0), (out.ctypes.data, 0, inputs, 0)
    right = (weights[start:].ctypes.data, 0, inputs, 0)
    baddbmm(1, (len(grad), outputs, inputs), left, right, result, 0.0, 1.0)
    return out


@compiled
def _write_grads(out: np.ndarray, layer: np.ndarray, grad: np.ndarray, x: np.ndarray) -> None:
    """Writes one client's gradients of a layer's weights and biases where they belong in `out` `[dim]`."""
    inputs, outputs, start, biases = layer
    transposed, right = (grad.ctypes.data, 0, outputs, 1), (x.ctypes.data, 0, inputs, 0)
    result = (out[start:].ctypes.data, 0, inputs, 0)
    baddbmm(1, (outputs, len(x), inputs), transposed, right, result, 0.0, 1.0)
    if biases >= 0:
        sums = np.zeros(outputs)
        for row in range(len(grad)):
            for place in range(outputs):
                sums[place] += grad[row, place]
        for place in range(outputs):
            out[biases + place] = sums[place]


@compiled
def _relu_(values: np.ndarray) -> None:
    """Replaces negative values by 0, in place; NaN stays."""
    flat = values.reshape(-1)
    for place in range(len(flat)):
        value = flat[place]
        flat[place] = np.float32(0) if value <= 0 else value


@compiled
def _relu_backward_(grad: np.ndarray, outputs: np.ndarray) -> None:
    """Turns the gradient at a ReLU's `outputs` into that at its inputs, in place."""
    flat, flat_outputs = grad.reshape(-1), outputs.reshape(-1)
    for place in range(len(flat)):
        value = flat[place]
        flat[place] = np.float32(0) if flat_outputs[place] <= 0 else value


@compiled
def _cross_entropies(logits: np.ndarray, labels: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Each client's mean cross-entropy, `[clients]` float32; turns `logits` into the gradients at them."""
    entropies, classes = np.empty(len(ends) - 1, np.float32), logits.shape[1]
    for client in range(len(entropies)):
        total, size = 0.0, np.float32(ends[client + 1] - ends[client])
        for row in range(ends[client], ends[client + 1]):
            label, own = labels[row], logits[row]
            if not 0 <= label < classes:
                raise IndexError("a label is of no class")
            highest, chances = own.max(), 0.0
            total += highest - own[label]
            for place in range(classes):
                own[place] = np.exp(own[place] - highest)
                chances += own[place]
            total += np.log(chances)
            for place in range(classes):
                own[place] = np.float32(own[place] / chances) / size
            own[label] -= np.float32(1) / size
        entropies[client] = total / size
    return entropies
