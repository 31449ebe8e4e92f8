"""What travels between clients and server: a few clients at a time, in whatever grouping, the same bytes."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from wzfl.compressors import Compressor, Planned, SideInformed
from wzfl.federation import Federation, State
from wzfl.feedback import ClientMemory
from wzfl.ledger import BitLedger
from wzfl.measured_scale import heard, measured, tell
from wzfl.norms import energies, squared_distances
from wzfl.public import Public
from wzfl.residual_model import ResidualModel
from wzfl.threads import in_threads

Result = TypeVar("Result")

# Coordinates at once. On a CPU few enough for the shared cache, and enough for threads not to wait for
# each other: whoever returns from a compiled kernel needs Python's lock.
_CHUNK = {"cpu": 2**21, "cuda": 2**27}


class Diverged(ArithmeticError):
    """Training left the finite numbers."""


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What is known, to an observer of both ends, of one exchange; tensors are `[clients]`.

    Attributes:
        ledger: has been shown the payloads.
        energy: |update|**2.
        error: |estimate - update|**2.
        side_error: |side information - update|**2.
        side_energy: |side information|**2.
        scale: what the client was told, or measured; 0 where it coded without side information.
        payload_bytes: of what it sent.
        failed: whether the decoder's check failed.
    """

    ledger: BitLedger
    energy: Tensor
    error: Tensor
    side_error: Tensor
    side_energy: Tensor
    scale: Tensor
    payload_bytes: Tensor
    failed: Tensor

    def columns(self) -> dict[str, Tensor]:
        """What is known of each client, by name."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        del every["ledger"]
        return every


def exchange(
    federation: Federation, state: State, updates: Tensor, public: Public
) -> list[Exchanged]:
    """Sends `updates` `[clients, dim]`, which are overwritten by what the server decodes.

    `state` learns of it. Clients are those of `public`.

    Raises:
        Diverged: an update is not finite.
    """

    def some(rows: slice) -> Exchanged:
        return _exchange(federation, state, updates[rows], public.rows(rows))

    return in_chunks(some, updates)


def in_chunks(function: Callable[[slice], Result], vectors: Tensor) -> list[Result]:
    """`function` of rows of `vectors` `[clients, dim]` that are best handled together."""
    clients, dim = vectors.shape
    size = _CHUNK[vectors.device.type] // dim
    if vectors.is_cpu:
        size = min(size, -(-clients // torch.get_num_threads()))
    size = max(1, size)
    return in_threads(
        function,
        [slice(start, min(start + size, clients)) for start in range(0, clients, size)],
    )


def decode(
    compressor: Compressor,
    payloads: list[bytes],
    side: Tensor,
    public: Public,
    model: ResidualModel | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimates `[clients, dim]`, and which rows failed the decoder's check, `[clients]` bool.

    `model` is what `public.plans` came from.
    """
    if isinstance(compressor, Planned):
        return compressor.decode_checked(payloads, side, public, model)
    if isinstance(compressor, SideInformed):
        return compressor.decode_checked(payloads, side, public)
    nothing_failed = torch.zeros(len(side), dtype=torch.bool, device=side.device)
    return compressor.decode(payloads, side, public), nothing_failed


def _exchange(federation: Federation, state: State, updates: Tensor, public: Public) -> Exchanged:
    policy, ledger = federation.side_information, BitLedger()
    clients = torch.tensor(public.clients, device=updates.device)
    energy = energies(updates)
    if not bool(energy.isfinite().all()):
        raise Diverged(f"an update of round {public.round} is not finite")

    # Clients: only payloads leave this line.
    payloads = _sent(federation.compressor, state, clients, updates, public)

    # Server: sees payloads, public and its own memory.
    ledger.sent_up(payloads)
    payload_bytes = torch.tensor([len(payload) for payload in payloads], device=updates.device)
    if federation.measures_scales:
        payloads, public = heard(payloads, public)
        state.side.residual_rms[clients] = public.scale / policy.planned_ratio(state.side)
    side = policy.predict(state.side, clients)
    estimates, failed = _received(federation, state, clients, payloads, side, public)

    # Observer: sees both ends, changes neither.
    error = squared_distances(estimates, updates)
    nothing_expected = side.stride(1) == 0 and not bool(side[:, 0].any())
    side_error = energy if nothing_expected else squared_distances(side, updates)
    side_energy = torch.zeros_like(energy) if nothing_expected else energies(side)

    # Server: learns; `side` may be its memory itself, and is not what it was from here on.
    policy.learn(state.side, clients, estimates, failed, federation.residual_gain(state.side))
    updates.copy_(estimates)
    return Exchanged(
        ledger, energy, error, side_error, side_energy, public.scale, payload_bytes, failed
    )


def _sent(
    compressor: Compressor, state: State, clients: Tensor, updates: Tensor, public: Public
) -> list[bytes]:
    """The payloads; clients that remember then learn what the server will have read."""
    if public.sketches is not None:
        public = measured(updates, public)
        return tell(compressor.encode(updates, public), public)
    if not isinstance(compressor, ClientMemory) or state.client_memory is None:
        return compressor.encode(updates, public)
    memory = state.client_memory[clients]
    payloads = compressor.encode(compressor.before(memory, updates, public), public)
    nothing = updates.new_zeros(1, 1).expand_as(updates)
    decoded = compressor.decode(payloads, nothing, public)
    state.client_memory[clients] = compressor.after(memory, updates, decoded, public)
    return payloads


def _received(
    federation: Federation,
    state: State,
    clients: Tensor,
    payloads: list[bytes],
    side: Tensor,
    public: Public,
) -> tuple[Tensor, Tensor]:
    """Estimates and failures; a server that remembers its clients learns what was sent."""
    compressor, model = federation.compressor, federation.residual_model(state.side, clients)
    estimates, failed = decode(compressor, payloads, side, public, model)
    if isinstance(compressor, ClientMemory) and state.server_memory is not None:
        memory = state.server_memory[clients]
        estimates, state.server_memory[clients] = compressor.received(memory, estimates, public)
    return estimates, failed
