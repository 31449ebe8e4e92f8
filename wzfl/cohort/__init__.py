"""The clients of a round and their updates.

One rule says how updates are computed, by what is fastest; the results are those of one client after the
other:

1. One gradient each, of a network of known layers: a shared pass over several clients' examples.
2. Local steps of a network of dense layers: batched products over several clients' weights.
3. Local steps of any other network of known layers: one client at a time, steps taken in its weights.
4. Anything else: one client at a time, by autograd.

The same rule divides a round into groups of clients that are handled together. Groups depend on sizes and
the kind of device, never on the number of threads, so that sums over groups do not either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wzfl.client import ClientWork, Shard, update_by_autograd
from wzfl.cohort import batched_steps, shared_pass
from wzfl.cohort.dense import dense_layers
from wzfl.models import Model
from wzfl.threads import in_threads, runs

# Most floats in the updates of clients that are handled together.
_UPDATES = {"cpu": 2**25, "cuda": 2**29}
# Examples in one shared pass, and clients in one batched step, beyond which nothing is gained.
_EXAMPLES = {"cpu": 1024, "cuda": 2**16}
_CLIENTS = {"cpu": 16, "cuda": 1024}
# Fewest clients of a batched step for which a thread is worth what Python does for it.
_EACH = 4


@dataclass(frozen=True, eq=False)
class Cohort:
    """Clients that start from the same weights.

    Attributes:
        weights: `[dim]`, as received.
        shards: each client's examples.
        schedules: the rows of each client's steps.
    """

    work: ClientWork
    model: Model
    weights: Tensor
    shards: Sequence[Shard]
    schedules: Sequence[Sequence[Tensor]]

    @classmethod
    def with_seeds(
        cls,
        work: ClientWork,
        model: Model,
        weights: Tensor,
        shards: Sequence[Shard],
        seeds: Sequence[int],
    ) -> "Cohort":
        """Draws each client's batches with its seed."""
        sizes = [len(shard.y) for shard in shards]
        schedules = [work.schedule(*each) for each in zip(sizes, seeds, strict=True)]
        return cls(work, model, weights, shards, schedules)

    def __len__(self) -> int:
        return len(self.shards)

    def rows(self, rows: slice) -> "Cohort":
        """The same with only these of the clients."""
        return replace(self, shards=self.shards[rows], schedules=self.schedules[rows])

    def groups(self) -> list[slice]:
        """Rows of clients that are best handled together, in groups of as equal sizes as possible."""
        _, most = self._way()
        size = _evenly(len(self), min(most, _UPDATES[self.weights.device.type] // self.model.dim))
        return runs(len(self), size)

    def updates(self) -> tuple[Tensor, Tensor]:
        """Updates `[clients, dim]` and mean training losses `[clients]` of all, taken together."""
        out = torch.empty(len(self), self.model.dim, device=self.weights.device)
        compute, _ = self._way()
        return out, compute(self, out)

    def _way(self) -> tuple[Callable[["Cohort", Tensor], Tensor], int]:
        """The function that fills updates `[clients, dim]` and returns losses, and its most clients."""
        network, exact = self.model.network, self.work.precision == "float32"
        device, x = self.weights.device.type, self.shards[0].x
        examples = max(sum(len(rows) for rows in schedule) for schedule in self.schedules)
        if exact and self.work.lr is None and shared_pass.supports(network):
            floats = examples * shared_pass.floats_per_example(network, x.shape[1:])
            return _shared, min(_EXAMPLES[device] // examples, shared_pass.BUDGET[device] // floats)
        if exact and self.work.lr is not None and dense_layers(network):
            floats = examples * x[0].numel() + 2 * self.model.dim
            return _batched, min(_CLIENTS[device], shared_pass.BUDGET[device] // floats)
        if exact and shared_pass.supports(network):
            return _in_place, 1
        return _by_autograd, 1


def _evenly(clients: int, most: int) -> int:
    """Size of groups of at most `most` clients, as few groups and of as equal sizes as possible."""
    groups = -(-clients // max(1, most))
    return -(-clients // groups)


def _shared(cohort: Cohort, out: Tensor) -> Tensor:
    rows = [rows for (rows,) in cohort.schedules]
    batch, sizes = Shard.joined(cohort.shards, rows), [len(each) for each in rows]
    network = cohort.model.network
    losses = shared_pass.gradients(network, cohort.weights, batch.x, batch.y, sizes, out)
    l2 = cohort.work.l2
    if l2:
        out.add_(cohort.weights, alpha=l2)
        losses += l2 / 2 * cohort.weights.square().sum()
    return losses


def _batched(cohort: Cohort, out: Tensor) -> Tensor:
    work, layers = cohort.work, dense_layers(cohort.model.network)
    lr, l2 = work.lr, work.l2
    assert lr is not None

    def some(rows: slice) -> Tensor:
        shards, schedules = cohort.shards[rows], cohort.schedules[rows]
        x, y = [shard.x for shard in shards], [shard.y for shard in shards]
        return batched_steps.local_updates(
            layers, cohort.weights, x, y, schedules, lr, l2, out[rows]
        )

    threads = torch.get_num_threads() if out.is_cpu else 1
    size = max(_EACH, -(-len(cohort) // threads))
    return torch.cat(in_threads(some, runs(len(cohort), size)))


def _in_place(cohort: Cohort, out: Tensor) -> Tensor:
    work, weights, network = cohort.work, cohort.weights, cohort.model.network
    assert work.lr is not None
    losses = []
    for shard, schedule, local in zip(cohort.shards, cohort.schedules, out, strict=True):
        steps = (shard.rows(rows) for rows in schedule)
        batches = ((batch.x, batch.y) for batch in steps)
        local.copy_(weights)
        losses.append(shared_pass.descend(network, local, batches, work.lr, work.l2))
        torch.sub(weights, local, out=local)
    return torch.stack(losses)


def _by_autograd(cohort: Cohort, out: Tensor) -> Tensor:
    losses = []
    for shard, schedule, row in zip(cohort.shards, cohort.schedules, out, strict=True):
        update, loss = update_by_autograd(
            cohort.work, cohort.model, cohort.weights, shard, schedule
        )
        row.copy_(update)
        losses.append(loss)
    return torch.stack(losses)
