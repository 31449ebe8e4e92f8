"""Encodes, delivers and decodes a few clients' updates; the bytes do not depend on the grouping."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from wzfl.channel import Perfect
from wzfl.compressors import Compressor
from wzfl.decoding import decode
from wzfl.errors import InputError, PayloadError
from wzfl.exchanged import Exchanged
from wzfl.federation import Federation, State
from wzfl.feedback import ClientMemory, ServerMemory
from wzfl.ledger import BitLedger
from wzfl.measured_scale import prepend_scales, split_scales, with_measured_scales
from wzfl.norms import energies, squared_distances
from wzfl.public import Public
from wzfl.resend import resend_failed
from wzfl.side_information import Decoded
from wzfl.threads import in_threads, runs

Result = TypeVar("Result")

# Coordinates at once. On a CPU few enough for the shared cache, and enough for threads not to wait for
# each other: whoever returns from a compiled kernel needs Python's lock.
_CHUNK = {"cpu": 2**21, "cuda": 2**27}
_TOO_LARGE = 2.0**200  # |update|**2; float32 ends at 2**128, and codecs scale sums of coordinates


class Diverged(ArithmeticError):
    """Training left the finite numbers."""


def exchange(
    federation: Federation, state: State, updates: Tensor, public: Public
) -> list[Exchanged]:
    """Sends `updates` `[clients, dim]`; `state` learns of it.

    Clients are those of `public`, in order over the parts. A client whose update is not finite, or so
    large that sums of it may not be, sends nothing, and its update becomes 0.
    """

    def some(rows: slice) -> list[Exchanged]:
        return _exchange(federation, state, updates[rows], public.rows(rows))

    return [part for parts in in_chunks(some, updates) for part in parts]


def in_chunks(function: Callable[[slice], Result], vectors: Tensor) -> list[Result]:
    """Applies `function` to slices of `vectors` `[clients, dim]`, each of rows best handled together."""
    clients, dim = vectors.shape
    size = _CHUNK[vectors.device.type] // dim
    if vectors.is_cpu:
        size = min(size, -(-clients // torch.get_num_threads()))
    return in_threads(function, runs(clients, max(1, size)))


def _exchange(
    federation: Federation, state: State, updates: Tensor, public: Public
) -> list[Exchanged]:
    energy = energies(updates)
    energy = torch.where(energy < _TOO_LARGE, energy, torch.nan)
    able = energy.isfinite()
    all_arrive = isinstance(federation.channel, Perfect) and bool(able.all())
    if not all_arrive:
        updates[~able] = 0

    # Clients: only payloads leave this line.
    payloads, learned = _sent(federation.compressor, state, updates, public)

    # Server: sees payloads, public and its own memory.
    if all_arrive:
        parts = [_read(federation, state, payloads, payloads, updates, energy, public)]
    else:
        parts = _delivered(federation, state, payloads, updates, energy, public)

    if learned is None or state.client_memory is None:
        return parts
    if all_arrive:
        state.client_memory[_places(public)] = learned
        return parts
    # Where payloads can be lost the server answers each by a byte, whether it was understood; if not, its
    # client keeps the memory it had. Who sent nothing, not being able to, knows that.
    if not isinstance(federation.channel, Perfect):
        parts[0].ledger.sent_down([b"\x00"] * len(payloads))
    understood = ~torch.cat([part.lost for part in parts])
    clients = torch.tensor(public.clients, device=updates.device)
    state.client_memory[clients[understood]] = learned[understood]
    return parts


def _delivered(
    federation: Federation,
    state: State,
    payloads: list[bytes],
    updates: Tensor,
    energy: Tensor,
    public: Public,
) -> list[Exchanged]:
    """Delivers and reads payloads, which may be lost or changed; who has no finite update sends none."""
    candidates: dict[int, tuple[bytes, ...]] = {}
    if senders := energy.isfinite().nonzero()[:, 0].tolist():
        names = Public(public.seed, public.round, tuple(public.clients[row] for row in senders))
        arrived = federation.channel.deliver([payloads[row] for row in senders], names)
        candidates = dict(zip(senders, arrived, strict=True))
    parts = []
    for row in range(len(payloads)):
        own = slice(row, row + 1)
        sent = payloads[own] if row in candidates else []
        part = _first_read(
            federation,
            state,
            sent,
            candidates.get(row, ()),
            updates[own],
            energy[own],
            public.rows(own),
        )
        parts.append(part)
    return parts


def _first_read(
    federation: Federation,
    state: State,
    sent: list[bytes],
    candidates: Iterable[bytes],
    updates: Tensor,
    energy: Tensor,
    public: Public,
) -> Exchanged:
    """Takes the first of one client's `candidates` that can be read."""
    refused = 0
    for payload in candidates:
        try:
            part = _read(federation, state, sent, [payload], updates, energy, public)
            return replace(part, refused=part.refused + refused)
        except PayloadError:
            refused += 1
    scale = torch.full_like(energy, torch.nan) if federation.measures_scales else public.scale
    return Exchanged.nothing(sent, torch.zeros_like(updates), energy, scale, refused)


def _read(
    federation: Federation,
    state: State,
    sent: list[bytes],
    received: list[bytes],
    updates: Tensor,
    energy: Tensor,
    public: Public,
) -> Exchanged:
    """Decodes a payload of each client, and learns from it.

    Raises:
        PayloadError: one can not be read; then nothing has happened.
    """
    policy, ledger = federation.side_information, BitLedger()
    clients = torch.tensor(public.clients, device=updates.device)
    ledger.sent_up(sent)
    payload_bytes = torch.tensor([len(payload) for payload in sent], device=updates.device)
    if federation.measures_scales:
        received, public = split_scales(received, public)
    side = policy.predict(state.side, clients)
    estimates, failed = _decoded(federation, state, clients, received, side, public)
    if federation.resends:
        payload_bytes += resend_failed(
            federation,
            state,
            public,
            ledger,
            updates,
            side,
            estimates,
            failed,
        )
    if federation.measures_scales:
        state.side.residual_rms[clients] = public.scale / policy.scale_ratio(state.side)

    # Observer: sees both ends, changes neither.
    error, side_error, side_energy = _distances(side, estimates, updates, energy)

    # Server: learns; `side` may be its memory itself, and is not what it was from here on.
    gain = federation.residual_gain(state.side)
    policy.learn(state.side, Decoded(clients, side, estimates, failed, gain))
    return Exchanged(
        ledger=ledger,
        estimates=estimates,
        energy=energy,
        error=error,
        side_error=side_error,
        side_energy=side_energy,
        scale=public.scale,
        payload_bytes=payload_bytes,
        failed=failed,
        lost=torch.zeros_like(failed),
        refused=torch.zeros_like(payload_bytes),
    )


def _distances(
    side: Tensor, estimates: Tensor, updates: Tensor, energy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns |estimate - update|**2, |side - update|**2, |side|**2, `[clients]`; `energy`: |update|**2."""
    error = squared_distances(estimates, updates)
    if side.stride(1) == 0 and not bool(side[:, 0].any()):  # nothing is expected
        return error, energy, torch.zeros_like(energy)
    return error, squared_distances(side, updates), energies(side)


def _sent(
    compressor: Compressor, state: State, updates: Tensor, public: Public
) -> tuple[list[bytes], Tensor | None]:
    """Returns payloads, and the clients' memories `[clients, dim]` once the server has read them.

    None for clients that do not remember.

    Raises:
        Diverged: what clients remember has grown beyond what can be sent.
    """
    if public.sketches is not None:
        public = with_measured_scales(updates, public)
        return prepend_scales(compressor.encode(updates, public), public), None
    if state.client_memory is None or not isinstance(compressor, ClientMemory):
        return compressor.encode(updates, public), None
    memory = state.client_memory[_places(public)]
    sent = compressor.before(memory, updates, public)
    try:
        payloads, decoded = compressor.encode_and_decode(sent, public)
    except InputError as error:
        if (energies(sent) < _TOO_LARGE).all():
            raise
        raise Diverged(f"what clients remember grew too large: {error}") from error
    return payloads, compressor.after(memory, updates, sent, decoded, public)


def _places(public: Public) -> slice | list[int]:
    """Finds the clients' rows in a memory of all; one client's row is not copied to be read."""
    first, *others = public.clients
    return list(public.clients) if others else slice(first, first + 1)


def _decoded(
    federation: Federation,
    state: State,
    clients: Tensor,
    payloads: list[bytes],
    side: Tensor,
    public: Public,
) -> tuple[Tensor, Tensor]:
    """Decodes to estimates and failures; a server that remembers its clients moves its memory."""
    compressor, model = federation.compressor, federation.residual_model(state.side, clients)
    estimates, failed = decode(compressor, payloads, side, public, model)
    if state.server_memory is not None and isinstance(compressor, ServerMemory):
        places = _places(public)
        memory = state.server_memory[places]
        estimates, state.server_memory[places] = compressor.received(memory, estimates, public)
    return estimates, failed
