"""Errors and accuracies."""

import torch
from torch import Tensor
from torch.nn import functional

from wzfl.models import Model
from wzfl.norms import energies, squared_distances
from wzfl.threads import in_threads

_CHUNK = 500  # examples


def relative_error(estimates: Tensor, updates: Tensor) -> float:
    """Mean over clients of |estimate - update|**2 / |update|**2; clients with a zero update are left out.

    Both are `[clients, dim]`; NaN when every update is zero.
    """
    return mean_ratio(squared_distances(estimates, updates), energies(updates))


def mean_energy_ratio(vectors: Tensor, references: Tensor) -> float:
    """Mean over clients of |vector|**2 / |reference|**2; clients with a zero reference are left out.

    Both are `[clients, dim]`; NaN when every reference is zero.
    """
    return mean_ratio(energies(vectors), energies(references))


def evaluate(model: Model, weights: Tensor, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `weights` `[dim]` on `x` `[n, ...]`, `y` `[n]`."""

    def part(batch: tuple[Tensor, Tensor]) -> tuple[float, int]:
        inputs, labels = batch
        with torch.no_grad():
            logits = model.apply(weights, inputs)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        return float(loss), int((logits.argmax(dim=1) == labels).sum())

    batches = list(zip(x.split(_CHUNK), y.split(_CHUNK), strict=True))
    losses, correct = zip(*in_threads(part, batches), strict=True)
    return sum(losses) / len(y), sum(correct) / len(y)


def mean_ratio(energy: Tensor, reference: Tensor) -> float:
    """Mean of energy / reference, `[clients]` each, where both are known and the reference is not 0."""
    known = (reference > 0) & ~energy.isnan()
    return float((energy[known] / reference[known]).mean())
