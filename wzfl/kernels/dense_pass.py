"""Gradients of a network of dense layers, for many clients with the same weights, in one call.

What torch does in some fifty operations, each of which asks for Python's lock and for memory. Like
`products`, this serves training: its numbers are torch's but for the rounding.
"""

import numpy as np

from wzfl.kernels import compiled
from wzfl.kernels.products import add_products


@compiled
def gradients(
    x: np.ndarray,
    labels: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    layers: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:
    """Fills `out` `[clients, dim]` with each client's gradient of its mean cross-entropy, which it returns.

    Args:
        x: `[n, features]` float32, the examples of one client after the other.
        labels: `[n]` int64.
        ends: `[clients + 1]`, where each client's examples start, and the last one's end.
        weights: `[dim]` float32.
        layers: for each its inputs, its outputs, and where weights and biases start, -1 if there are none.
        out: float32.

    Raises:
        IndexError: a label is of no class.
    """
    last = len(layers) - 1
    values = [x]
    for number in range(last + 1):
        outputs = _outputs(values[number], weights, layers[number])
        if number < last:
            _cut(outputs)
        values.append(outputs)
    slope = values.pop()
    losses = _entropies(slope, labels, ends)
    for number in range(last, -1, -1):
        for client in range(len(out)):
            own = slice(ends[client], ends[client + 1])
            _put(out[client], layers[number], slope[own], values[number][own])
        if number:
            slope = _before(slope, weights, layers[number])
            _cut_where(slope, values[number])
    return losses


@compiled
def _outputs(x: np.ndarray, weights: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Of a layer without its ReLU, `[n, outputs]`."""
    inputs, outputs, start, biases = layer
    out = np.empty((len(x), outputs), np.float32)
    keep = 0.0
    if biases >= 0:
        keep, out[:] = 1.0, weights[biases : biases + outputs]
    left, room = (x.ctypes.data, 0, inputs, 0), (out.ctypes.data, 0, outputs, 0)
    turned = (weights[start:].ctypes.data, 0, inputs, 1)
    add_products(1, (len(x), inputs, outputs), left, turned, room, keep, 1.0)
    return out


@compiled
def _before(slope: np.ndarray, weights: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """The gradient at a layer's inputs `[n, inputs]`, from that at its outputs."""
    inputs, outputs, start, _ = layer
    out = np.empty((len(slope), inputs), np.float32)
    left, room = (slope.ctypes.data, 0, outputs, 0), (out.ctypes.data, 0, inputs, 0)
    right = (weights[start:].ctypes.data, 0, inputs, 0)
    add_products(1, (len(slope), outputs, inputs), left, right, room, 0.0, 1.0)
    return out


@compiled
def _put(out: np.ndarray, layer: np.ndarray, slope: np.ndarray, x: np.ndarray) -> None:
    """One client's gradients of a layer's weights and biases, where they belong in `out` `[dim]`."""
    inputs, outputs, start, biases = layer
    turned, right = (slope.ctypes.data, 0, outputs, 1), (x.ctypes.data, 0, inputs, 0)
    room = (out[start:].ctypes.data, 0, inputs, 0)
    add_products(1, (outputs, len(x), inputs), turned, right, room, 0.0, 1.0)
    if biases >= 0:
        sums = np.zeros(outputs)
        for row in range(len(slope)):
            for place in range(outputs):
                sums[place] += slope[row, place]
        for place in range(outputs):
            out[biases + place] = sums[place]


@compiled
def _cut(values: np.ndarray) -> None:
    """ReLU, in place; NaN stays."""
    flat = values.reshape(-1)
    for place in range(len(flat)):
        value = flat[place]
        flat[place] = np.float32(0) if value <= 0 else value


@compiled
def _cut_where(slope: np.ndarray, outputs: np.ndarray) -> None:
    """The gradient at a ReLU's inputs, in place, from that at its outputs."""
    flat, by = slope.reshape(-1), outputs.reshape(-1)
    for place in range(len(flat)):
        value = flat[place]
        flat[place] = np.float32(0) if by[place] <= 0 else value


@compiled
def _entropies(values: np.ndarray, labels: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Each client's mean cross-entropy, `[clients]` float32; `values` become the gradients at them."""
    entropies, classes = np.empty(len(ends) - 1, np.float32), values.shape[1]
    for client in range(len(entropies)):
        total, size = 0.0, np.float32(ends[client + 1] - ends[client])
        for row in range(ends[client], ends[client + 1]):
            label, own = labels[row], values[row]
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
