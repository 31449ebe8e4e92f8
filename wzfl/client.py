"""What a client computes from the weights it receives: an update, `[dim]`, to be descended along."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

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
        """The examples in these rows; the shard itself where that is all of them in their order."""
        if len(rows) == len(self.y) and bool((rows == torch.arange(len(rows))).all()):
            return self
        rows = rows.to(self.y.device)
        return Shard(self.x.index_select(0, rows), self.y.index_select(0, rows))

    @classmethod
    def joined(cls, shards: Sequence["Shard"], rows: Sequence[Tensor]) -> "Shard":
        """The examples in these rows of each shard, one shard's after the other's."""
        if len(shards) == 1:
            return shards[0].rows(rows[0])
        sizes, first = [len(each) for each in rows], shards[0]
        x = first.x.new_empty(sum(sizes), *first.x.shape[1:])
        y = first.y.new_empty(sum(sizes))
        x_parts, y_parts = x.split_with_sizes(sizes), y.split_with_sizes(sizes)
        for shard, own, x_part, y_part in zip(shards, rows, x_parts, y_parts, strict=True):
            own = own.to(y.device)
            torch.index_select(shard.x, 0, own, out=x_part)
            torch.index_select(shard.y, 0, own, out=y_part)
        return cls(x, y)


class ClientWork(Protocol):
    """One client's computation in one round."""

    @property
    def l2(self) -> float:
        """Weight of |weights|**2 / 2 in the loss."""
        ...

    @property
    def precision(self) -> str:
        """`"bfloat16"` runs under torch's autocast; `"float32"` does not."""
        ...

    def schedule(self, examples: int, seed: int) -> Sequence[Tensor]:
        """Row indices of each step's batch, for a client with `examples` examples."""
        ...

    @property
    def lr(self) -> float | None:
        """Learning rate of local steps; None: the update is the gradient of the only step."""
        ...


@dataclass(frozen=True)
class FedSGD:
    """One stochastic gradient per round.

    Attributes:
        batch_size: examples, drawn without replacement.
        l2: weight of |weights|**2 / 2 in the loss.
        precision: "float32", or "bfloat16" for torch's autocast.
    """

    batch_size: int
    l2: float = 0.0
    precision: str = "float32"
    lr: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check(self.precision, self.l2, batch_size=self.batch_size)

    def schedule(self, examples: int, seed: int) -> Sequence[Tensor]:
        order = torch.randperm(examples, generator=torch.Generator().manual_seed(seed))
        return [order[: self.batch_size]]


@dataclass(frozen=True)
class FullGradient:
    """The gradient on all of the client's examples.

    Attributes:
        l2: weight of |weights|**2 / 2 in the loss.
        precision: "float32", or "bfloat16" for torch's autocast.
    """

    l2: float = 0.0
    precision: str = "float32"
    lr: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check(self.precision, self.l2)

    def schedule(self, examples: int, seed: int) -> Sequence[Tensor]:
        return [torch.arange(examples)]


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
        precision: "float32", or "bfloat16" for torch's autocast.
    """

    epochs: int
    batch_size: int
    lr: float
    l2: float = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        _check(self.precision, self.l2, epochs=self.epochs, batch_size=self.batch_size)
        if not self.lr > 0:
            raise InputError(f"client.lr must be above 0; got {self.lr}")

    def schedule(self, examples: int, seed: int) -> Sequence[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [
            batch
            for _ in range(self.epochs)
            for batch in torch.randperm(examples, generator=generator).split(self.batch_size)
        ]


def update_by_autograd(
    work: ClientWork, model: Model, weights: Tensor, shard: Shard, schedule: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """One client's update `[dim]` and mean training loss, regularisation included; for any model.

    `schedule` holds the rows of each step's batch.
    """
    local, losses = weights.clone(), []
    for rows in schedule:
        grad, loss = _gradient(model, local, shard.rows(rows), work.precision)
        if work.l2:
            loss = loss + work.l2 / 2 * local.square().sum()
            grad = grad.add(local, alpha=work.l2)
        if work.lr is None:
            return grad, loss
        losses.append(loss)
        local.sub_(grad, alpha=work.lr)
    return weights - local, torch.stack(losses).mean()


def _gradient(model: Model, weights: Tensor, batch: Shard, precision: str) -> tuple[Tensor, Tensor]:
    """Gradient `[dim]` of the mean cross-entropy, and the mean cross-entropy."""
    weights = weights.detach().requires_grad_()
    narrow = precision == "bfloat16"
    with torch.autocast(weights.device.type, torch.bfloat16, enabled=narrow):
        logits = model.apply(weights, batch.x)
    loss = functional.cross_entropy(logits.float(), batch.y)
    (grad,) = torch.autograd.grad(loss, weights)
    return grad, loss.detach()


def batch_seed(seed: int, round: int, client: int) -> int:
    """Seed of a client's batches in a round, the same for all compressors."""
    return stable_seed("batches", seed, round, client)


def _check(precision: str, l2: float, **counts: int) -> None:
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"client.precision must be float32 or bfloat16; got {precision!r}")
    if l2 < 0:
        raise InputError(f"client.l2 must be at least 0; got {l2}")
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"client.{name} must be at least 1; got {value}")
