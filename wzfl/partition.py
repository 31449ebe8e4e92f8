"""Which client holds which training examples."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wzfl.errors import InputError

_MOST_IMBALANCE = 10.0  # beyond, one client has nearly all; far beyond, its share is no number


class Partition(Protocol):
    """A rule that deals examples to `clients` clients."""

    @property
    def clients(self) -> int: ...

    def split(self, labels: Tensor, seed: int) -> list[Tensor]:
        """Indices of each client's examples, from the `labels` `[n]` of all; disjoint, none empty."""
        ...


@dataclass(frozen=True)
class IID:
    """Examples dealt at random.

    Attributes:
        clients: how many clients.
        imbalance: standard deviation of the log of the clients' sizes; 0 makes them equal.
        examples_per_client: how many each keeps at most; None: all.
    """

    clients: int
    imbalance: float = 0.0
    examples_per_client: int | None = None

    def __post_init__(self) -> None:
        _check(self.clients, self.imbalance, self.examples_per_client)

    def split(self, labels: Tensor, seed: int) -> list[Tensor]:
        _check_enough(self.clients, labels)
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(labels))
        shares = _shares(generator, self.clients, self.imbalance)
        held = _tensors(_cut(order, shares))
        return _at_most(self.examples_per_client, held, generator)


@dataclass(frozen=True)
class Dirichlet:
    """Each class dealt in proportions drawn from Dirichlet(alpha): the smaller alpha, the more skewed.

    Source: Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated
    Visual Classification" (2019). Clients left empty get one example of the largest.

    Attributes:
        clients: how many clients.
        alpha: concentration, above 0.
    """

    clients: int
    alpha: float

    def __post_init__(self) -> None:
        _check(self.clients, 0.0, None)
        if not self.alpha > 0:
            raise InputError(f"partition.alpha must be above 0; got {self.alpha}")

    def split(self, labels: Tensor, seed: int) -> list[Tensor]:
        _check_enough(self.clients, labels)
        generator = np.random.default_rng(seed)
        held: list[list[np.ndarray]] = [[] for _ in range(self.clients)]
        for members in _by_class(labels, generator):
            shares = generator.dirichlet(np.full(self.clients, self.alpha))
            for client, part in enumerate(_cut(members, shares)):
                held[client].append(part)
        return _tensors([np.concatenate(parts) for parts in held])


@dataclass(frozen=True)
class ByClass:
    """Each client holds examples of `classes_per_client` classes, as equal in number as they can be.

    Source: the pathological split of McMahan et al. (AISTATS 2017), with classes instead of shards.

    Attributes:
        clients: how many clients.
        classes_per_client: how many classes each holds.
        imbalance: standard deviation of the log of the clients' shares of a class.
        examples_per_client: how many each keeps at most; None: all.
    """

    clients: int
    classes_per_client: int = 1
    imbalance: float = 0.0
    examples_per_client: int | None = None

    def __post_init__(self) -> None:
        _check(self.clients, self.imbalance, self.examples_per_client)

    def split(self, labels: Tensor, seed: int) -> list[Tensor]:
        _check_enough(self.clients, labels)
        generator = np.random.default_rng(seed)
        members = _by_class(labels, generator)
        if not 1 <= self.classes_per_client <= len(members):
            raise InputError(
                f"partition.classes_per_client must be 1 to {len(members)}, the number of classes;"
                f" got {self.classes_per_client}"
            )
        holders: list[list[int]] = [[] for _ in members]
        for slot in range(self.clients * self.classes_per_client):
            holders[slot % len(members)].append(slot // self.classes_per_client)
        held: list[list[np.ndarray]] = [[] for _ in range(self.clients)]
        for clients, examples in zip(holders, members, strict=True):
            if clients:
                shares = _shares(generator, len(clients), self.imbalance)
                for client, part in zip(clients, _cut(examples, shares), strict=True):
                    held[client].append(part)
        parts = _tensors([np.concatenate(parts) for parts in held])
        return _at_most(self.examples_per_client, parts, generator)


def _check(clients: int, imbalance: float, examples_per_client: int | None) -> None:
    if examples_per_client is not None and examples_per_client < 1:
        raise InputError(
            "partition.examples_per_client must be at least 1, or null for all; got"
            f" {examples_per_client}"
        )
    if clients < 1 or not 0 <= imbalance <= _MOST_IMBALANCE:
        raise InputError(
            f"a partition needs at least 1 client and an imbalance of 0 to {_MOST_IMBALANCE:g}; got"
            f" clients={clients}, imbalance={imbalance}"
        )


def _check_enough(clients: int, labels: Tensor) -> None:
    if clients > len(labels):
        raise InputError(f"clients={clients} can not share {len(labels)} training examples")


def _at_most(count: int | None, held: list[Tensor], generator: np.random.Generator) -> list[Tensor]:
    """Keeps at most `count` of each client's examples, drawn at random; None keeps all."""
    if count is None:
        return held
    return [part[torch.from_numpy(generator.permutation(len(part))[:count])] for part in held]


def _by_class(labels: Tensor, generator: np.random.Generator) -> list[np.ndarray]:
    """The indices of every class, shuffled."""
    values = labels.cpu().numpy()
    return [generator.permutation(np.flatnonzero(values == label)) for label in np.unique(values)]


def _shares(generator: np.random.Generator, clients: int, imbalance: float) -> np.ndarray:
    """Log-normal shares `[clients]` that add up to 1."""
    shares = np.exp(imbalance * generator.standard_normal(clients))
    return shares / shares.sum()


def _cut(examples: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    """Consecutive parts whose sizes are near `shares`."""
    ends = np.round(np.cumsum(shares) * len(examples)).astype(int)
    return np.split(examples, ends[:-1])


def _tensors(held: list[np.ndarray]) -> list[Tensor]:
    """The parts as tensors; a client without examples gets one of the largest part."""
    for client, part in enumerate(held):
        if len(part) == 0:
            largest = max(range(len(held)), key=lambda other: len(held[other]))
            held[client], held[largest] = held[largest][:1], held[largest][1:]
    return [torch.from_numpy(part) for part in held]
