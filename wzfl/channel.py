"""Delivers payloads to the server, with faults on the way.

A payload reaches the server as it was sent, or it does not, or twice, damaged, or under another client's
name. The frame's checksum covers client and round, so that whatever is not the payload of this client
and round is refused; this is where that is put to the test.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from wzfl.errors import InputError
from wzfl.public import Public, stable_seed


class Channel(Protocol):
    """Carries payloads from the clients to the server."""

    def deliver(self, payloads: Sequence[bytes], public: Public) -> list[tuple[bytes, ...]]:
        """Returns what arrives from each client of `public`, in order of arrival."""
        ...


@dataclass(frozen=True)
class Perfect:
    """Every payload arrives, once and as it was sent."""

    def deliver(self, payloads: Sequence[bytes], public: Public) -> list[tuple[bytes, ...]]:
        return [(payload,) for payload in payloads]


@dataclass(frozen=True)
class Faulty:
    """Clients drop out or come too late, payloads are damaged, doubled, or taken for someone else's.

    What happens to a client's payload in a round depends on seed, round and client alone: it is the same for
    all compressors. For whose a confused one is taken does not: that depends on who is handled together, a
    chunk of clients whose size follows from dim, device and number of threads. Bits of what does not arrive
    were sent all the same, and count.

    Attributes:
        loss: share of payloads that do not arrive before the round ends.
        corruption: share of those that arrive with a bit flipped.
        duplication: share of those that arrive twice.
        confusion: share of those that arrive under the name of the next of the clients that are handled
            together, before that one's own.
    """

    loss: float = 0.0
    corruption: float = 0.0
    duplication: float = 0.0
    confusion: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if not 0 <= share <= 1:
                raise InputError(f"channel.{field.name} must be a share, 0 to 1; got {share}")

    def deliver(self, payloads: Sequence[bytes], public: Public) -> list[tuple[bytes, ...]]:
        """See `Channel`; clients that are handled apart are confused with themselves."""
        arrived: list[list[bytes]] = [[] for _ in payloads]
        for row, (client, payload) in enumerate(zip(public.clients, payloads, strict=True)):
            chance = random.Random(stable_seed("channel", public.seed, public.round, client))
            lost, damaged, doubled, confused = (chance.random() for _ in range(4))
            if lost < self.loss:
                continue
            if damaged < self.corruption:
                payload = _damaged(payload, chance.randrange(8 * len(payload)))
            arrived[row] += [payload] * (2 if doubled < self.duplication else 1)
            if confused < self.confusion:
                arrived[(row + 1) % len(payloads)].insert(0, payload)
        return [tuple(each) for each in arrived]


def _damaged(payload: bytes, bit: int) -> bytes:
    flipped = bytearray(payload)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
