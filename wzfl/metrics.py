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
    return mean_energy_ratio(estimates - updates, updates)


def mean_energy_ratio(vectors: Tensor, references: Tensor) -> float:
    """Mean over clients of |vector|**2 / |reference|**2; clients with a zero reference are left out.

    Both are `[clients, dim]`; NaN when every reference is zero.
    """
    energies = vectors.double().square().sum(dim=1)
    reference_energies = references.double().square().sum(dim=1)
    nonzero = reference_energies > 0
    return float((energies[nonzero] / reference_energies[nonzero]).mean())


@torch.no_grad()
def evaluate(model: Model, weights: Tensor, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `weights` `[dim]` on `x` `[n, ...]`, `y` `[n]`."""
    loss, correct = 0.0, 0
    for inputs, labels in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
        logits = model.apply(weights, inputs)
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(dim=1) == labels).sum())
    return loss / len(y), correct / len(y)
