"""Errors of estimates, and losses and accuracies of models."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wzfl.cohort import shared_pass
from wzfl.models import Model
from wzfl.norms import energies, squared_distances
from wzfl.threads import in_threads

# Examples in one pass, beyond which nothing is gained.
_EXAMPLES = 500


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
        logits = _logits(model, weights, inputs)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        return float(loss), int((logits.argmax(dim=1) == labels).sum())

    size = _examples_at_once(model.network, x)
    batches = list(zip(x.split(size), y.split(size), strict=True))
    losses, correct = zip(*in_threads(part, batches), strict=True)
    return sum(losses) / len(y), sum(correct) / len(y)


@torch.no_grad()
def _logits(model: Model, weights: Tensor, inputs: Tensor) -> Tensor:
    if shared_pass.supports(model.network):
        return shared_pass.outputs(model.network, weights, inputs)
    return model.apply(weights, inputs)


def _examples_at_once(network: nn.Module, x: Tensor) -> int:
    """How many examples stay in the caches, or fit a GPU, together with their activations."""
    if not isinstance(network, nn.Sequential):
        return _EXAMPLES
    floats = shared_pass.floats_per_example(network, x.shape[1:])
    return min(max(1, shared_pass.BUDGET[x.device.type] // floats), _EXAMPLES)


def mean_ratio(energy: Tensor, reference: Tensor) -> float:
    """Mean over clients of energy / reference, `[clients]` each, where both are known and it is not 0."""
    known = (reference > 0) & ~energy.isnan()
    return float((energy[known] / reference[known]).mean())
