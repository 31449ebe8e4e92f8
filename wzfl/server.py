"""How the server turns estimates into the next weights."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from wzfl.errors import InputError

OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


class Aggregate:
    """Combines the clients' estimates, some at a time.

    "mean" is weighted. "majority_vote" is the sign of the sum of signs, one vote each, 0 on a tie
    (Bernstein et al., ICML 2018).
    """

    def __init__(self, how: str) -> None:
        if how not in ("mean", "majority_vote"):
            raise InputError(
                f"server.aggregation is auto, mean or majority_vote; got {how!r}; see conf/server/"
            )
        self._votes = how == "majority_vote"
        self._sum: Tensor | None = None
        self._weight = 0.0

    def add(self, estimates: Tensor, weights: Tensor) -> None:
        """Takes in estimates `[clients, dim]` with weights `[clients]`."""
        if self._votes:
            self._gather(estimates.sign().sum(dim=0))
            return
        factors = weights.to(estimates.dtype)
        if self._sum is None:
            self._sum = torch.mv(estimates.T, factors)
        else:
            self._sum.addmv_(estimates.T, factors)
        self._weight += float(weights.sum())

    def join(self, other: "Aggregate") -> None:
        """Takes in what `other` has gathered, which is not to be used any more."""
        if other._sum is not None:
            self._gather(other._sum)
        self._weight += other._weight

    def result(self) -> Tensor:
        """The aggregate `[dim]` of what was added, at least one client's."""
        assert self._sum is not None
        return self._sum.sign() if self._votes else self._sum / self._weight

    def _gather(self, summand: Tensor) -> None:
        self._sum = summand if self._sum is None else self._sum.add_(summand)


class Server:
    """Global weights `[dim]` and a torch optimizer that descends along aggregated updates."""

    def __init__(self, weights: Tensor, optimizer: OptimizerFactory) -> None:
        self.weights = weights
        try:
            self._optimizer = optimizer([self.weights])
        except ValueError as error:
            raise InputError(
                f"server.optimizer can not be made: {error}; see conf/server/"
            ) from error

    def contents(self) -> dict[str, Any]:
        """Everything that rounds change, for a checkpoint."""
        return {"weights": self.weights, "optimizer": self._optimizer.state_dict()}

    def restore(self, contents: Mapping[str, Any]) -> None:
        """Sets everything to what `contents` returned."""
        self.weights.data.copy_(contents["weights"])
        self._optimizer.load_state_dict(dict(contents["optimizer"]))

    def step(self, update: Tensor) -> None:
        """Moves the weights against the aggregated `update` `[dim]`."""
        self.weights.grad = update
        self._optimizer.step()
