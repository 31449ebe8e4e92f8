"""Runs a round's clients from their work to the aggregate, never with all of their vectors at once.

Clients are divided into groups (`Cohort.groups`) and groups into lanes. A lane handles one group after the
other, from training to aggregation, in one thread: memory holds the vectors of a few groups, whatever the
number of clients, and a vector is worked on while it is in cache.
"""

from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from wzfl.cohort import Cohort
from wzfl.exchange import exchange
from wzfl.exchanged import COLUMNS
from wzfl.federation import Federation, State
from wzfl.ledger import BitLedger
from wzfl.public import Public
from wzfl.server import Aggregate
from wzfl.threads import in_threads

# Lanes, and floats their sums may take. Independent of the thread count: rounding depends on the lanes.
_LANES, _SUMS = 16, 2**28


@dataclass
class Received:
    """What came of a round's clients, or of some of them.

    Attributes:
        aggregate: the aggregate of their estimates.
        ledger: the bits of their payloads.
        columns: `[columns, clients]` float64: losses, then `COLUMNS`.
        vectors: updates and side information, `[clients, dim]` of each group, if they are kept.
    """

    aggregate: Aggregate
    ledger: BitLedger = field(default_factory=BitLedger)
    columns: Tensor | None = None
    vectors: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def append(self, columns: Tensor) -> None:
        """Adds the `columns` of clients that follow.

        Joined at once: a few numbers kept for each group lie between the blocks that vectors were in, which
        the next group's then no longer fit.
        """
        known = self.columns
        self.columns = columns if known is None else torch.cat([known, columns], dim=1)

    def by_name(self) -> dict[str, Tensor]:
        """The columns, `[clients]` float64 each, on a CPU."""
        assert self.columns is not None
        return dict(zip(("losses", *COLUMNS), self.columns.cpu(), strict=True))

    def join(self, other: "Received") -> "Received":
        """Adds what came of the clients that follow, and returns the whole."""
        self.aggregate.join(other.aggregate)
        self.ledger.join(other.ledger)
        if other.columns is not None:
            self.append(other.columns)
        self.vectors += other.vectors
        return self


def receive(
    federation: Federation,
    state: State,
    cohort: Cohort,
    public: Public,
    keep_vectors: bool = False,
) -> Received:
    """Trains `cohort`, the clients of `public`, and adds up what they send.

    `keep_vectors`: whether updates and side information are kept in `Received.vectors`.
    """
    device = cohort.weights.device

    def lane(groups: list[slice]) -> Received:
        received = Received(Aggregate(federation.aggregation))
        for rows in groups:
            _group(federation, state, cohort.rows(rows), public.rows(rows), received, keep_vectors)
        return received

    lanes = _lanes(cohort.groups(), federation.model.dim)
    parts = [lane(groups) for groups in lanes] if device.type == "cuda" else in_threads(lane, lanes)
    return reduce(Received.join, parts)


def _lanes(groups: list[slice], dim: int) -> list[list[slice]]:
    """Successive groups, handled one after the other by one lane each."""
    lanes = max(1, min(len(groups), _LANES, _SUMS // dim))
    ends = [len(groups) * lane // lanes for lane in range(lanes + 1)]
    return [groups[start:end] for start, end in pairwise(ends)]


def _group(
    federation: Federation,
    state: State,
    cohort: Cohort,
    public: Public,
    received: Received,
    keep_vectors: bool,
) -> None:
    updates, losses = cohort.updates()
    if keep_vectors:
        clients = torch.tensor(public.clients, device=updates.device)
        side = federation.side_information.predict(state.side, clients)
        received.vectors.append((updates.clone(), side.clone()))
    parts = exchange(federation, state, updates, public)
    for part in parts:
        received.ledger.join(part.ledger)
    table = torch.cat([part.table() for part in parts], dim=1)
    received.append(torch.cat([losses.double()[None], table]))
    # A client says once, when it joins, how many examples it holds; that is no part of a round.
    examples = torch.tensor([len(shard.y) for shard in cohort.shards], device=updates.device)
    lost = torch.cat([part.lost for part in parts])
    # Added in one piece: the number of parts depends on that of threads, and rounding on what is added.
    estimates = [part.estimates for part in parts]
    whole = estimates[0] if len(estimates) == 1 else torch.cat(estimates, out=updates)
    received.aggregate.add(whole, examples * ~lost)
