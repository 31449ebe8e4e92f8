"""What a client computes from the weights it receives: an update, `[dim]`, to be descended along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from wzfl.errors import InputError
from wzfl.models import Model
from wzfl.public import stable_seed


@dataclass(frozen=True, eq=False)
class Shard:
    """One client's examples: inputs `[n, ...]`, labels `[n]`."""

    x: Tensor
    y: Tensor

    def rows(self, rows: Tensor) -> "Shard":
        rows = rows.to(self.y.device)
        return Shard(self.x[rows], self.y[rows])


class ClientWork(Protocol):
    """One client's computation in one round."""

    def __call__(
        self, model: Model, weights: Tensor, shard: Shard, seed: int
    ) -> tuple[Tensor, Tensor]:
        """The update `[dim]` and the mean training loss, regularisation included."""
        ...


@dataclass(frozen=True)
class FedSGD:
    """One stochastic gradient per round.

    Attributes:
        batch_size: examples, drawn without replacement.
        l2: weight of |weights|**2 / 2 in the loss.
    """

    batch_size: int
    l2: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(batch_size=self.batch_size)

    def __call__(
        self, model: Model, weights: Tensor, shard: Shard, seed: int
    ) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(shard.y), generator=torch.Generator().manual_seed(seed))
        return _gradient(model, weights, shard.rows(order[: self.batch_size]), self.l2)


@dataclass(frozen=True)
class FullGradient:
    """The gradient on all of the client's examples.

    Attributes:
        l2: weight of |weights|**2 / 2 in the loss.
    """

    l2: float = 0.0

    def __call__(
        self, model: Model, weights: Tensor, shard: Shard, seed: int
    ) -> tuple[Tensor, Tensor]:
        return _gradient(model, weights, shard, self.l2)


@dataclass(frozen=True)
class FedAvg:
    """Local epochs of SGD; the update is the received weights minus the local ones.

    Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data"
    (AISTATS 2017).

    Attributes:
        epochs: passes over the client's examples, each in a new order.
        batch_size: examples per step.
        lr: local learning rate.
        l2: weight of |weights|**2 / 2 in the loss.
    """

    epochs: int
    batch_size: int
    lr: float
    l2: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(epochs=self.epochs, batch_size=self.batch_size)

    def __call__(
        self, model: Model, weights: Tensor, shard: Shard, seed: int
    ) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        local, losses = weights.clone(), []
        for _ in range(self.epochs):
            order = torch.randperm(len(shard.y), generator=generator)
            for batch in order.split(self.batch_size):
                gradient, loss = _gradient(model, local, shard.rows(batch), self.l2)
                local.sub_(gradient, alpha=self.lr)
                losses.append(loss)
        return weights - local, torch.stack(losses).mean()


def client_updates(
    work: ClientWork,
    model: Model,
    weights: Tensor,
    shards: Sequence[Shard],
    seed_of: Callable[[int], int],
) -> tuple[Tensor, Tensor]:
    """Updates `[clients, dim]` and losses `[clients]`; `seed_of(row)` seeds a client's batches."""
    updates = torch.empty(len(shards), model.dim, device=weights.device)
    losses = torch.empty(len(shards), device=weights.device)
    for row, shard in enumerate(shards):
        updates[row], losses[row] = work(model, weights, shard, seed_of(row))
    return updates, losses


def batch_seed(seed: int, round: int, client: int) -> int:
    """Seeds the batches of a client's round; the same for all compressors."""
    return stable_seed("batches", seed, round, client)


def _gradient(model: Model, weights: Tensor, shard: Shard, l2: float) -> tuple[Tensor, Tensor]:
    weights = weights.detach().requires_grad_()
    loss = functional.cross_entropy(model.apply(weights, shard.x), shard.y)
    if l2:
        loss = loss + l2 / 2 * weights.square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    return gradient, loss.detach()


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"client.{name} must be at least 1; got {value}")
