"""Asks clients again whose payloads the server could not use."""

from dataclasses import replace

import torch
from torch import Tensor

from wzfl.compressors import Compressor, is_planned, is_side_informed
from wzfl.decoding import decode
from wzfl.federation import Federation, State
from wzfl.ledger import BitLedger
from wzfl.norms import energies, squared_distances
from wzfl.public import Public


def resend_failed(
    federation: Federation,
    state: State,
    public: Public,
    ledger: BitLedger,
    updates: Tensor,
    side: Tensor,
    estimates: Tensor,
    failed: Tensor,
) -> Tensor:
    """Asks clients whose decoding `failed` again, and replaces their estimates; vectors are `[clients, dim]`.

    Returns the bytes that each client sent for it, `[clients]`.
    """
    sent = torch.zeros(len(failed), dtype=torch.int64, device=updates.device)
    for row in failed.nonzero()[:, 0].tolist():
        own, before = slice(row, row + 1), ledger.uplink_bits
        estimates[own] = _sent_again(
            federation,
            state,
            public.rows(own),
            ledger,
            updates[own],
            side[own],
            estimates[own],
        )
        sent[row] = (ledger.uplink_bits - before) // 8
    return sent


def _sent_again(
    federation: Federation,
    state: State,
    public: Public,
    ledger: BitLedger,
    update: Tensor,
    side: Tensor,
    first: Tensor,
) -> Tensor:
    """Asks one client and returns its estimate; `first` is that of its first payload, all are `[1, dim]`.

    A server that plans has learned from the failure to expect more, and asks by a new plan. If what then
    comes can not be used either, or nothing is planned, it asks by a byte for the update coded alone.
    """
    compressor = federation.compressor
    clients = torch.tensor(public.clients, device=update.device)
    model = federation.residual_model(state.side, clients)
    plans = compressor.plan(model, side) if model and is_planned(compressor) else [b""]
    if plans[0]:
        planned = replace(public, plans=tuple(plans))
        payloads = _asked(plans[0], compressor, update, planned, ledger)
        first, failed = decode(compressor, payloads, side, planned, model)
        if not bool(failed):
            return first
    payloads = _asked(b"\x00", compressor, update, public.alone(), ledger)
    coded_alone = decode(compressor, payloads, torch.zeros_like(side), public.alone())[0]
    return coded_alone if compressor.unbiased else _between(first, coded_alone, compressor)


def _asked(
    question: bytes, compressor: Compressor, update: Tensor, public: Public, ledger: BitLedger
) -> list[bytes]:
    """Returns the payload that the client answers with."""
    ledger.sent_down([question])
    payloads = compressor.encode(update, public)
    ledger.sent_up(payloads)
    return payloads


def _between(first: Tensor, coded_alone: Tensor, compressor: Compressor) -> Tensor:
    """Finds the likeliest vector between two estimates `[1, dim]`, the second of the update coded alone.

    `coded_alone` is a posterior mean, with energy g |x|**2 if x is the update, and off by R = (1 - g) |x|**2,
    orthogonally. `first` is off by P, independently: their distance is P + R, and the Wiener filter goes
    P / (P + R) of the way from it.
    """
    assert is_side_informed(compressor)  # no other's payloads fail
    gain = compressor.residual_gain(coded_alone.shape[1], 1.0)
    off = (1 / gain - 1) * energies(coded_alone)
    share = 1 - off / squared_distances(first, coded_alone).clamp_min(1e-300)
    return torch.lerp(first, coded_alone, share.clamp(0, 1).to(coded_alone)[:, None])
