"""The updates of all clients of a round, on all cores.

One rule says how, by what is fastest; the results are those of one client after the other:

1. One gradient each, of a network of known layers: a shared pass over several clients' examples.
2. Local steps of a network of dense layers: batched products over several clients' weights.
3. Anything else: one client after the other on each core.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wzfl import batched_steps, shared_pass
from wzfl.client import ClientWork, Gradient, Shard, autograd_gradient, update_of
from wzfl.models import Model
from wzfl.threads import in_threads

Schedule = Sequence[Tensor]
# Floats that examples and activations of clients that are handled together may take.
_BUDGET = {"cpu": 10**7, "cuda": 10**9}
# Examples of one shared pass, and clients of one batched step, beyond which nothing is gained.
_EXAMPLES = {"cpu": 1024, "cuda": 2**16}
_CLIENTS = {"cpu": 16, "cuda": 1024}


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
    schedules = [work.schedule(len(shard.y), seed_of(row)) for row, shard in enumerate(shards)]
    several, size = _way(work, model, shards, schedules)

    def some(first: int) -> None:
        here = slice(first, first + size)
        losses[here] = several(work, model, weights, shards[here], schedules[here], updates[here])

    firsts = range(0, len(shards), size)
    if weights.is_cuda:
        for first in firsts:
            some(first)
    else:
        in_threads(some, firsts)
    return updates, losses


_Several = Callable[
    [ClientWork, Model, Tensor, Sequence[Shard], Sequence[Schedule], Tensor], Tensor
]


def _way(
    work: ClientWork, model: Model, shards: Sequence[Shard], schedules: Sequence[Schedule]
) -> tuple[_Several, int]:
    """What fills several clients' updates and returns their losses, and for how many at once."""
    device, x = shards[0].y.device.type, shards[0].x
    examples = max(sum(len(rows) for rows in schedule) for schedule in schedules)
    if work.precision == "float32" and work.lr is None and shared_pass.supports(model.network):
        floats = examples * shared_pass.floats_per_example(model.network, x.shape[1:])
        most = min(_EXAMPLES[device] // examples, _BUDGET[device] // floats)
        return _shared, _evenly(len(shards), most)
    if work.precision == "float32" and batched_steps.supports(model.network):
        floats = examples * x[0].numel() + 2 * model.dim
        most = min(_CLIENTS[device], _BUDGET[device] // floats)
        return _batched, _evenly(len(shards), most)
    return _one_by_one, 1


def _evenly(clients: int, most: int) -> int:
    """The size of groups that are as large as allowed and of the same size."""
    groups = -(-clients // max(1, most))
    return -(-clients // groups)


def _shared(
    work: ClientWork,
    model: Model,
    weights: Tensor,
    shards: Sequence[Shard],
    schedules: Sequence[Schedule],
    out: Tensor,
) -> Tensor:
    batches = [shard.rows(rows) for shard, (rows,) in zip(shards, schedules, strict=True)]
    x, y = batches[0].x, batches[0].y
    if len(batches) > 1:
        x, y = torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])
    sizes = [len(batch.y) for batch in batches]
    losses = shared_pass.gradients(model.network, weights, x, y, sizes, out)
    if work.l2:
        out.add_(weights, alpha=work.l2)
        losses += work.l2 / 2 * weights.square().sum()
    return losses


def _batched(
    work: ClientWork,
    model: Model,
    weights: Tensor,
    shards: Sequence[Shard],
    schedules: Sequence[Schedule],
    out: Tensor,
) -> Tensor:
    assert work.lr is not None
    x, y = [shard.x for shard in shards], [shard.y for shard in shards]
    return batched_steps.local_updates(
        model.network, weights, x, y, schedules, work.lr, work.l2, out
    )


def _one_by_one(
    work: ClientWork,
    model: Model,
    weights: Tensor,
    shards: Sequence[Shard],
    schedules: Sequence[Schedule],
    out: Tensor,
) -> Tensor:
    gradient, losses = _gradient(work, model), []
    for shard, schedule, row in zip(shards, schedules, out, strict=True):
        update, loss = update_of(work, weights, shard, schedule, gradient)
        row.copy_(update)
        losses.append(loss)
    return torch.stack(losses)


def _gradient(work: ClientWork, model: Model) -> Gradient:
    if work.precision != "float32" or not shared_pass.supports(model.network):
        return autograd_gradient(model, work.precision)

    def gradient(weights: Tensor, batch: Shard) -> tuple[Tensor, Tensor]:
        slope = torch.empty(1, model.dim, device=weights.device)
        size = [len(batch.y)]
        loss = shared_pass.gradients(model.network, weights, batch.x, batch.y, size, slope)
        return slope[0], loss[0]

    return gradient
