"""Local steps of several clients at once: one batched product where each would take its own.

For networks of dense layers, whose products are too small for a core when clients take turns. Every
client has its own weights; a gradient goes straight into them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from wzfl.products import baddbmm_, matmul

_aten: Any = torch.ops.aten


@torch.no_grad()
def local_updates(
    dense: Sequence[nn.Linear],
    weights: Tensor,
    inputs: Sequence[Tensor],
    labels: Sequence[Tensor],
    schedules: Sequence[Sequence[Tensor]],
    lr: float,
    l2: float,
    out: Tensor,
) -> Tensor:
    """Fills `out` `[clients, dim]` with received weights minus local ones after SGD.

    The layers are those that `dense_layers` gives. Each client has inputs `[n, ...]`, labels `[n]` and a
    schedule: the rows of every step. Returns the mean losses of the steps, `[clients]`, regularisation
    l2/2 |weights|**2 included.
    """
    # Clients with the most steps first: those that still take part are a prefix.
    order = sorted(range(len(schedules)), key=lambda client: -len(schedules[client]))
    layers = [_Dense(layer, len(order), weights.device) for layer in dense]
    _load(layers, weights)
    x, y, share = _in_steps(
        [inputs[client] for client in order],
        [labels[client] for client in order],
        [schedules[client] for client in order],
    )
    log_probs = share.new_zeros(*share.shape, dense[-1].out_features)
    targets = torch.zeros_like(log_probs).scatter_(3, y[..., None], share[..., None])
    penalties = share.new_zeros(share.shape[:2])
    for step in range(x.shape[1]):
        active = sum(len(schedule) > step for schedule in schedules)
        here = slice(0, active), step
        if l2:
            penalties[here] = l2 / 2 * _energies(layers, active)
        _step(layers, x[here], share[here][..., None], targets[here], log_probs[here], lr, l2)
    entropies = -(log_probs.gather(3, y[..., None])[..., 0] * share).sum(dim=2)
    losses = sum((entropies + penalties).unbind(dim=1), torch.zeros(len(order), device=x.device))
    steps = torch.tensor([len(schedules[client]) for client in order], device=weights.device)
    places = torch.tensor(order, device=weights.device)
    local = torch.cat([part.flatten(1) for layer in layers for part in layer.parts], dim=1)
    out[places] = torch.sub(weights, local, out=local)
    return torch.empty_like(losses).index_copy_(0, places, losses / steps)


class _Dense:
    """A dense layer's weights `[clients, out, in]` and biases `[clients, 1, out]`, one per client."""

    def __init__(self, layer: nn.Linear, clients: int, device: torch.device) -> None:
        shape = layer.weight.shape
        self.weight = torch.empty(clients, *shape, device=device)
        self.bias = torch.zeros(clients, 1, shape[0], device=device)
        self.parts = [self.weight, self.bias] if layer.bias is not None else [self.weight]


def _load(layers: Sequence[_Dense], weights: Tensor) -> None:
    """Gives all clients the same `weights` `[dim]`."""
    start = 0
    for layer in layers:
        for part in layer.parts:
            size = part[0].numel()
            part.copy_(weights[start : start + size].view(part.shape[1:]).expand_as(part))
            start += size


def _in_steps(
    inputs: Sequence[Tensor], labels: Sequence[Tensor], schedules: Sequence[Sequence[Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Each client's examples in the order of its schedule.

    Returns inputs `[clients, steps, batch, features]`, labels `[clients, steps, batch]`, and each example's
    share in the mean of its step, 0 for what only fills up a batch.
    """
    steps, batch = len(schedules[0]), max(len(rows) for each in schedules for rows in each)
    features = inputs[0][0].numel()
    x = inputs[0].new_empty(len(inputs), steps, batch, features)
    y = labels[0].new_zeros(len(inputs), steps, batch)
    share = x.new_zeros(len(inputs), steps, batch)
    for client, schedule in enumerate(schedules):
        rows = pad_sequence(list(schedule), batch_first=True, padding_value=-1)
        wanted = (rows >= 0).to(share)
        shares = wanted / wanted.sum(dim=1, keepdim=True)
        share[client, : len(schedule), : rows.shape[1]] = shares
        rows = functional.pad(rows.clamp_min(0), (0, batch - rows.shape[1])).flatten().to(y.device)
        taken = (client, slice(0, len(schedule)))
        torch.index_select(inputs[client].flatten(1), 0, rows, out=x[taken].flatten(0, 1))
        torch.index_select(labels[client], 0, rows, out=y[taken].flatten())
    return x, y, share


def _energies(layers: Sequence[_Dense], clients: int) -> Tensor:
    """|weights|**2 of each of the first `clients`, `[clients]`."""
    parts = [part[:clients].flatten(1) for layer in layers for part in layer.parts]
    return torch.stack([part.square().sum(dim=1) for part in parts]).sum(dim=0)


def _step(
    layers: Sequence[_Dense],
    x: Tensor,
    share: Tensor,
    targets: Tensor,
    log_probs: Tensor,
    lr: float,
    l2: float,
) -> None:
    """Takes one SGD step of the first `len(x)` clients, in place.

    `targets` `[clients, batch, classes]` hold each example's `share` `[clients, batch, 1]` at its class. The
    classes' log probabilities before the step are written to `log_probs`, of the same shape.
    """
    clients, values = len(x), [x]
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        out = matmul(values[-1], layer.weight[:clients].mT).add_(layer.bias[:clients])
        values.append(out if last else out.relu_())
    torch.log_softmax(values.pop(), dim=2, out=log_probs)
    grad = log_probs.exp().mul_(share).sub_(targets)
    for number, layer in reversed(list(enumerate(layers))):
        inputs, weight = values.pop(), layer.weight[:clients]
        input_grad = grad
        if number:
            input_grad = _aten.threshold_backward(matmul(grad, weight), inputs, 0)
        baddbmm_(weight, grad.mT, inputs, beta=1 - lr * l2, alpha=-lr)
        if len(layer.parts) > 1:
            bias = layer.bias[:clients]
            if l2:
                bias.mul_(1 - lr * l2)
            bias.sub_(grad.sum(dim=1, keepdim=True), alpha=lr)
        grad = input_grad
