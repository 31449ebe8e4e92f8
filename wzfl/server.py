"""How the server turns estimates into the next weights."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from wzfl.errors import InputError

OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


def aggregate(estimates: Tensor, weights: Tensor, how: str) -> Tensor:
    """`[dim]`: the clients' estimates `[clients, dim]` combined.

    "mean" is weighted by `weights` `[clients]`. "majority_vote" is the sign of the sum of signs, one
    vote each, 0 on a tie (Bernstein et al., ICML 2018).
    """
    if how == "mean":
        return weights.to(estimates.dtype) @ estimates / weights.sum()
    if how == "majority_vote":
        return estimates.sign().sum(dim=0).sign()
    raise InputError(f"server.aggregation is auto, mean or majority_vote; got {how!r}")


class Server:
    """Global weights `[dim]` and a torch optimizer that descends along aggregated updates."""

    def __init__(self, weights: Tensor, optimizer: OptimizerFactory) -> None:
        self.weights = weights
        self._optimizer = optimizer([self.weights])

    def step(self, update: Tensor) -> None:
        self.weights.grad = update
        self._optimizer.step()
