"""Federated training, one round function for every compressor."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wzfl.client import ClientWork, Shard, batch_seed
from wzfl.cohort import client_updates
from wzfl.compressors import Compressor, SideInformed
from wzfl.compressors.envelope import float32_bytes, float32_rows
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.errors import InputError
from wzfl.exchange import decode, encode
from wzfl.feedback import ClientMemory
from wzfl.ledger import BitLedger
from wzfl.metrics import evaluate, mean_ratio
from wzfl.models import Model
from wzfl.norms import energies, squared_distances
from wzfl.public import Public, stable_seed
from wzfl.server import Server, aggregate
from wzfl.side_information import Memory, SideInformation

# Called with a round's number, its updates and the server's side information, both `[clients, dim]`.
Observe = Callable[[int, Tensor, Tensor], None]


class Diverged(ArithmeticError):
    """Training left the finite numbers."""


@dataclass(frozen=True, eq=False)
class Federation:
    """What does not change from round to round.

    Attributes:
        shards: the examples of every client of the population.
        aggregation: "mean" or "majority_vote".
        clients_per_round: how many clients, drawn uniformly, take part in a round.
        seed: of client sampling, batches and all that is shared.
    """

    model: Model
    shards: Sequence[Shard]
    work: ClientWork
    compressor: Compressor
    side_information: SideInformation
    aggregation: str
    clients_per_round: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.clients_per_round <= len(self.shards):
            raise InputError(
                f"clients_per_round must be 1 to {len(self.shards)}, the number of clients;"
                f" got {self.clients_per_round}"
            )

    @property
    def residual_gain(self) -> float:
        """Energy of decoded over true residuals, as the side information plans for it."""
        if isinstance(self.compressor, SideInformed):
            return self.compressor.residual_gain(self.model.dim, self.side_information.margin)
        return 1.0


@dataclass
class State:
    """What changes: all that a checkpoint must hold.

    Attributes:
        server: weights and optimizer.
        side: the memory of the side information's policy; server only.
        client_memory: `[population, dim]` floats that the clients keep, or None.
        server_memory: as many that the server keeps for the clients' compressor, or None.
    """

    server: Server
    side: Memory
    client_memory: Tensor | None
    server_memory: Tensor | None

    @classmethod
    def initial(cls, federation: Federation, server: Server) -> "State":
        population, dim = len(federation.shards), federation.model.dim
        device, compressor = server.weights.device, federation.compressor
        clients = server_side = None
        if isinstance(compressor, ClientMemory):
            clients = compressor.init(population, dim, device)
            server_side = compressor.init(population, dim, device)
        side = federation.side_information.init(population, dim, device)
        return cls(server, side, clients, server_side)


def run_round(
    federation: Federation, state: State, round: int, observe: Observe | None = None
) -> dict[str, float]:
    """Advances `state` by one round and returns what was observed; `observe` is shown the vectors.

    Raises:
        Diverged: an update is not finite.
    """
    compressor, policy = federation.compressor, federation.side_information
    device = state.server.weights.device
    ledger = BitLedger()

    # Broadcast: the model and, where the server plans, one scale per client.
    sampled = _sample(federation, round)
    rows = torch.tensor(sampled, device=device)
    model_payload, weights = _broadcast(state.server.weights.detach(), federation.seed, round)
    ledger.sent_down([model_payload] * len(sampled))
    scale = torch.zeros(len(sampled))
    if policy.broadcasts_scale:
        scales = float32_bytes(policy.plan(state.side, rows)[:, None])
        ledger.sent_down(scales)
        scale = float32_rows(scales, device)[:, 0]
    public = Public(federation.seed, round, sampled, scale).to(device)

    # Clients: only payloads leave this block.
    updates, losses = client_updates(
        federation.work,
        federation.model,
        weights,
        [federation.shards[client] for client in sampled],
        lambda row: batch_seed(federation.seed, round, sampled[row]),
    )
    energy = energies(updates)
    if not bool(energy.isfinite().all()):
        raise Diverged(f"an update of round {round} is not finite")
    payloads = _sent_by_clients(compressor, state, rows, updates, public)

    # Server: sees payloads, public and its own memory.
    ledger.sent_up(payloads)
    side = policy.predict(state.side, rows)
    estimates, failed = decode(compressor, payloads, side, public)
    if isinstance(compressor, ClientMemory) and state.server_memory is not None:
        memory = state.server_memory[rows]
        estimates, state.server_memory[rows] = compressor.received(memory, estimates, public)

    # Observer: sees both ends, changes neither.
    if observe is not None:
        observe(round, updates, side)
    nmse = mean_ratio(squared_distances(estimates, updates), energy)
    side_error = mean_ratio(squared_distances(side, updates), energy)

    # Server: learns; `side` may be its memory itself, and is not what it was from here on.
    state.side = policy.update(state.side, rows, estimates, failed, federation.residual_gain)
    # How many examples a client holds is told once, when it joins, and is no part of a round.
    examples = torch.tensor([len(federation.shards[c].y) for c in sampled], device=device)
    state.server.step(aggregate(estimates, examples, federation.aggregation))
    return {
        "round": round,
        "uplink_bits": ledger.uplink_bits,
        "downlink_bits": ledger.downlink_bits,
        "train_loss": float(losses.double() @ examples.double() / examples.sum()),
        "nmse": nmse,
        "side_information_error": side_error,
        "decode_failures": int(failed.sum()),
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


def _broadcast(weights: Tensor, seed: int, round: int) -> tuple[bytes, Tensor]:
    """The server's model as a payload, and what a client reads from it."""
    server = Public(seed, round, (-1,)).to(weights.device)
    (payload,) = Uncompressed().encode(weights[None], server)
    return payload, Uncompressed().decode([payload], weights[None], server)[0]


def _sent_by_clients(
    compressor: Compressor, state: State, rows: Tensor, updates: Tensor, public: Public
) -> list[bytes]:
    """The payloads; clients that remember then learn what the server will have read."""
    if not isinstance(compressor, ClientMemory) or state.client_memory is None:
        return encode(compressor, updates, public)
    memory = state.client_memory[rows]
    payloads = encode(compressor, compressor.before(memory, updates, public), public)
    nothing = updates.new_zeros(1, 1).expand_as(updates)
    decoded, _ = decode(compressor, payloads, nothing, public)
    state.client_memory[rows] = compressor.after(memory, updates, decoded, public)
    return payloads
