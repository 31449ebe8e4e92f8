"""Sends a round's clients the model, and what they are to know of what the server expects."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from wzfl.compressors import is_planned
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.federation import Federation, State
from wzfl.ledger import BitLedger
from wzfl.measured_scale import sketches
from wzfl.public import Public
from wzfl.threads import in_threads


def broadcast(
    federation: Federation,
    state: State,
    round: int,
    sampled: tuple[int, ...],
    ledger: BitLedger,
) -> tuple[Tensor, Public]:
    """Returns the weights as clients read them, and what is public of a round with clients `sampled`."""
    weights = state.server.weights.detach()
    server = Public(federation.seed, round, (-1,)).to(weights.device)
    (payload,) = Uncompressed().encode(weights[None], server)
    ledger.sent_down([payload] * len(sampled))
    public = Public(federation.seed, round, sampled).to(weights.device)
    return (
        Uncompressed().decode([payload], weights[None], server)[0],
        _with_side_information(federation, state, public, ledger),
    )


def _with_side_information(
    federation: Federation, state: State, public: Public, ledger: BitLedger
) -> Public:
    """Adds to `public` what each client is sent of the side information: plan, sketch, scale or nothing."""
    policy, device = federation.side_information, public.scale.device
    scales = policy.plan(state.side, torch.tensor(public.clients, device=device))
    if federation.models_residuals:
        plans = _for_each(_plan, federation, state, public)
        ledger.sent_down(plans)
        return replace(public, plans=tuple(plans))
    if federation.measures_scales:
        sent = _for_each(_sketch, federation, state, public)
        ledger.sent_down(sent)
        return replace(public, sketches=float32_rows(sent, device, public.clients))
    if policy.broadcasts_scale:
        sent = float32_bytes(scales[:, None])
        ledger.sent_down(sent)
        scales = float32_rows(sent, device, public.clients)[:, 0]
    return replace(public, scale=scales)


def _for_each(
    message: Callable[[Federation, State, Public], bytes],
    federation: Federation,
    state: State,
    public: Public,
) -> list[bytes]:
    rows = [slice(row, row + 1) for row in range(len(public.clients))]
    return in_threads(lambda row: message(federation, state, public.rows(row)), rows)


def _plan(federation: Federation, state: State, public: Public) -> bytes:
    """Tells a client in which way to send what the server's model does not say."""
    client = torch.tensor(public.clients, device=public.scale.device)
    model = federation.residual_model(state.side, client)
    assert is_planned(federation.compressor)
    assert model is not None
    side = federation.side_information.predict(state.side, client)
    (plan,) = federation.compressor.plan(model, side)
    return plan


def _sketch(federation: Federation, state: State, public: Public) -> bytes:
    """Makes the floats by which a client measures how far it is from what is expected of it."""
    client = torch.tensor(public.clients, device=public.scale.device)
    side = federation.side_information.predict(state.side, client)
    size = min(federation.side_information.sketch, federation.model.dim)
    (sketch,) = float32_bytes(sketches(side, size, public))
    return sketch
