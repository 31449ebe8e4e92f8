"""Federated training, one round function for every compressor."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wzfl.client import batch_seed
from wzfl.cohort import Cohort
from wzfl.compressors import Planned
from wzfl.compressors.envelope import float32_bytes, float32_rows
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.errors import InputError
from wzfl.federation import Federation, State
from wzfl.ledger import BitLedger
from wzfl.metrics import evaluate, mean_ratio
from wzfl.public import Public, stable_seed
from wzfl.server import Server
from wzfl.threads import in_threads
from wzfl.uplink import receive

# Called with a round's number, its updates and the server's side information, both `[clients, dim]`.
Observe = Callable[[int, Tensor, Tensor], None]


def run_round(
    federation: Federation, state: State, round: int, observe: Observe | None = None
) -> dict[str, float]:
    """Advances `state` by one round and returns what was observed; `observe` is shown the vectors.

    Raises:
        Diverged: an update is not finite.
    """
    ledger, sampled = BitLedger(), _sample(federation, round)
    weights, public = _broadcast(federation, state, round, sampled, ledger)
    cohort = Cohort.with_seeds(
        federation.work,
        federation.model,
        weights,
        [federation.shards[client] for client in sampled],
        [batch_seed(federation.seed, round, client) for client in sampled],
    )
    received = receive(federation, state, cohort, public, watch=observe is not None)
    if observe is not None:
        updates, side = (torch.cat(parts) for parts in zip(*received.vectors, strict=True))
        observe(round, updates, side)
    aggregate = received.aggregate.result()
    federation.side_information.finish(
        state.side, aggregate, len(sampled), federation.residual_gain(state.side)
    )
    state.server.step(aggregate)

    ledger.join(received.ledger)
    losses, energy = received.column("losses").double(), received.column("energy")
    examples = torch.tensor([len(shard.y) for shard in cohort.shards], device=losses.device)
    return {
        "round": round,
        "uplink_bits": ledger.uplink_bits,
        "downlink_bits": ledger.downlink_bits,
        "train_loss": float(losses @ examples.double() / examples.sum()),
        "nmse": mean_ratio(received.column("error"), energy),
        "side_information_error": mean_ratio(received.column("side_error"), energy),
        "decode_failures": int(received.column("failed").sum()),
    }


def simulate(
    federation: Federation,
    server: Server,
    rounds: int,
    eval_every: int,
    test_x: Tensor,
    test_y: Tensor,
    observe: Observe | None = None,
) -> Iterator[dict[str, float]]:
    """One record per round; `test_loss` and `test_accuracy` every `eval_every` rounds and at the end.

    `train_loss` is that of the weights which the round started from, the test columns those of the
    weights which it ended with.
    """
    if rounds < 1 or eval_every < 1:
        raise InputError(f"rounds and eval_every must be at least 1; got {rounds} and {eval_every}")
    state = State.initial(federation, server)
    for round in range(1, rounds + 1):
        start = time.perf_counter()
        record = run_round(federation, state, round, observe)
        test_loss = test_accuracy = float("nan")
        if round % eval_every == 0 or round == rounds:
            weights = server.weights.detach()
            test_loss, test_accuracy = evaluate(federation.model, weights, test_x, test_y)
        record |= {"test_loss": test_loss, "test_accuracy": test_accuracy}
        yield record | {"seconds": time.perf_counter() - start}


def _sample(federation: Federation, round: int) -> tuple[int, ...]:
    """The clients of a round, in ascending order; the same for all compressors."""
    seed = stable_seed("clients", federation.seed, round)
    order = torch.randperm(
        len(federation.shards), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return tuple(sorted(order[: federation.clients_per_round]))


def _broadcast(
    federation: Federation,
    state: State,
    round: int,
    sampled: tuple[int, ...],
    ledger: BitLedger,
) -> tuple[Tensor, Public]:
    """What clients read from the server's payloads: its model and, where it plans, a scale for each."""
    policy, weights = federation.side_information, state.server.weights.detach()
    server = Public(federation.seed, round, (-1,)).to(weights.device)
    (payload,) = Uncompressed().encode(weights[None], server)
    ledger.sent_down([payload] * len(sampled))
    clients = torch.tensor(sampled, device=weights.device)
    planned = policy.plan(state.side, clients)
    scale = torch.zeros(len(sampled), device=weights.device)
    plans: tuple[bytes, ...] = ()
    if federation.models_residuals:
        plans = _plans(federation, state, clients)
        ledger.sent_down(plans)
    elif policy.broadcasts_scale:
        scales = float32_bytes(planned[:, None])
        ledger.sent_down(scales)
        scale = float32_rows(scales, weights.device)[:, 0]
    return (
        Uncompressed().decode([payload], weights[None], server)[0],
        Public(federation.seed, round, sampled, scale, plans),
    )


def _plans(federation: Federation, state: State, clients: Tensor) -> tuple[bytes, ...]:
    """For each client, in which way to send what the server's model does not tell."""

    def of(client: Tensor) -> bytes:
        model = federation.residual_model(state.side, client)
        assert isinstance(federation.compressor, Planned)
        assert model is not None
        side = federation.side_information.predict(state.side, client)
        (plan,) = federation.compressor.plan(model, side)
        return plan

    return tuple(in_threads(of, list(clients.split(1))))
