"""Errors and accuracies."""

import torch
from torch import Tensor
from torch.nn import functional

from wzfl.models import Model

_CHUNK = 2000


def relative_error(estimates: Tensor, updates: Tensor) -> float:
    """Mean over clients of |estimate - update|**2 / |update|**2; clients with a zero update are left out.

    Both are `[clients, dim]`; NaN when every update is zero.
    """
    errors = (estimates - updates).double().square().sum(dim=1)
    energies = updates.double().square().sum(dim=1)
    nonzero = energies > 0
    return float((errors[nonzero] / energies[nonzero]).mean())


@torch.no_grad()
def evaluate(model: Model, weights: Tensor, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `weights` `[dim]` on `x` `[n, ...]`, `y` `[n]`."""
    loss, correct = 0.0, 0
    for inputs, labels in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
        logits = model.apply(weights, inputs)
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(dim=1) == labels).sum())
    return loss / len(y), correct / len(y)
