"""Trains a federation round by round, in the same way for every compressor."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wzfl.client import batch_seed
from wzfl.client_records import client_records
from wzfl.cohort import Cohort
from wzfl.downlink import broadcast
from wzfl.errors import InputError
from wzfl.exchange import Diverged
from wzfl.federation import Federation, State
from wzfl.ledger import BitLedger
from wzfl.metrics import evaluate, mean_ratio
from wzfl.public import stable_seed
from wzfl.server import Aggregate
from wzfl.uplink import Received, receive

# Called with a round's number, its updates and the server's side information, both `[clients, dim]`.
Observe = Callable[[int, Tensor, Tensor], None]


def run_round(
    federation: Federation, state: State, round: int, observe: Observe | None = None
) -> dict[str, Any]:
    """Advances `state` by one round and returns its record; `observe` is shown the vectors.

    A record is numbers, and `clients`, which are those of `client_records`.

    Raises:
        Diverged: the weights are not finite, or no client's update is, or the training loss is not.
    """
    if not bool(state.server.weights.isfinite().all()):
        raise Diverged(f"the weights that round {round} starts from are not finite")
    ledger, sampled = BitLedger(), _sample(federation, round)
    received = _waves(federation, state, round, sampled, ledger, keep_vectors=observe is not None)
    if observe is not None:
        updates, side = (torch.cat(parts) for parts in zip(*received.vectors, strict=True))
        observe(round, updates, side)
    columns = received.by_name()
    energy, lost = columns["energy"], columns["lost"] > 0
    if not bool(energy.isfinite().any()):
        raise Diverged(f"no update of round {round} is finite")
    train_loss = _train_loss(federation, sampled, columns)
    if not math.isfinite(train_loss):
        raise Diverged(f"the training loss of round {round} is not finite")
    if not bool(lost.all()):
        state.server.step(received.aggregate.result())

    ledger.join(received.ledger)
    record = {
        "round": round,
        "uplink_bits": ledger.uplink_bits,
        "downlink_bits": ledger.downlink_bits,
        "train_loss": train_loss,
        "nmse": mean_ratio(columns["error"], energy),
        "side_information_error": mean_ratio(columns["side_error"], energy),
        "decode_failures": int(columns["failed"].sum()),
        "lost": int(lost.sum()),
        "refused": int(columns["refused"].sum()),
        "clients": client_records(round, sampled, state.last_round, federation.model.dim, columns),
    }
    state.last_round[torch.tensor(sampled)[~lost]] = round
    state.round = round
    return record


def _train_loss(
    federation: Federation, sampled: tuple[int, ...], columns: Mapping[str, Tensor]
) -> float:
    """Mean over examples. Leaves out clients of whom neither loss nor update is finite."""
    examples = [len(federation.shards[client].y) for client in sampled]
    losses, weights = columns["losses"], torch.tensor(examples).double()
    known = losses.isfinite() | columns["energy"].isfinite()
    return float(losses[known] @ weights[known] / weights[known].sum())


def _waves(
    federation: Federation,
    state: State,
    round: int,
    sampled: tuple[int, ...],
    ledger: BitLedger,
    keep_vectors: bool,
) -> Received:
    """Asks a round's clients, in as many waves as the side information wants."""
    policy = federation.side_information
    received, arrived = Received(Aggregate(federation.aggregation)), 0
    waves = min(policy.waves, len(sampled))
    ends = [len(sampled) * wave // waves for wave in range(waves + 1)]
    for start, end in pairwise(ends):
        clients = sampled[start:end]
        weights, public = broadcast(federation, state, round, clients, ledger)
        cohort = Cohort.with_seeds(
            federation.work,
            federation.model,
            weights,
            [federation.shards[client] for client in clients],
            [batch_seed(federation.seed, round, client) for client in clients],
        )
        wave = receive(federation, state, cohort, public, keep_vectors)
        new = len(clients) - int(wave.by_name()["lost"].sum())
        arrived += new
        received.join(wave)
        if new:
            gain = federation.residual_gain(state.side)
            policy.finish(state.side, received.aggregate.result(), arrived, gain)
    return received


def simulate(
    federation: Federation,
    state: State,
    rounds: int,
    eval_every: int,
    test_x: Tensor,
    test_y: Tensor,
    observe: Observe | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields a record for each round after `state`'s, up to `rounds`; `state` is then that after the round.

    `test_loss` and `test_accuracy` are there every `eval_every` rounds and at the end. `train_loss` is
    that of the weights which the round started from, or the mean over clients' local steps from there, the
    test columns those of the weights which it ended with.
    """
    if rounds < 1 or eval_every < 1:
        raise InputError(f"rounds and eval_every must be at least 1; got {rounds} and {eval_every}")
    for round in range(state.round + 1, rounds + 1):
        start = time.perf_counter()
        record = run_round(federation, state, round, observe)
        test_loss = test_accuracy = float("nan")
        if round % eval_every == 0 or round == rounds:
            weights = state.server.weights.detach()
            test_loss, test_accuracy = evaluate(federation.model, weights, test_x, test_y)
        record |= {"test_loss": test_loss, "test_accuracy": test_accuracy}
        yield record | {"seconds": time.perf_counter() - start}


def _sample(federation: Federation, round: int) -> tuple[int, ...]:
    """Draws the clients of a round, in ascending order; the same for all compressors."""
    seed = stable_seed("clients", federation.seed, round)
    order = torch.randperm(
        len(federation.shards), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return tuple(sorted(order[: federation.clients_per_round]))
