"""What a client sends again when the server could not use its payload."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wzfl.compressors import Compressor, is_side_informed
from wzfl.decoding import decode
from wzfl.downlink import plan_for
from wzfl.federation import Federation, State
from wzfl.ledger import BitLedger
from wzfl.norms import energies, squared_distances
from wzfl.public import Public


@dataclass(frozen=True, eq=False)
class Again:
    """What came of it.

    Attributes:
        estimate: `[1, dim]`.
        size: bytes that the client sent.
    """

    estimate: Tensor
    size: int


def sent_again(
    federation: Federation,
    state: State,
    public: Public,
    ledger: BitLedger,
    update: Tensor,
    side: Tensor,
    first: Tensor,
) -> Again:
    """Of one client; vectors are `[1, dim]`, `first` what its first payload left to estimate.

    A server that plans has learned from the failure to expect more, and asks by a new plan. If what then
    comes can not be used either, or nothing is planned, it asks by a byte for the update coded alone.
    """
    compressor, before = federation.compressor, ledger.uplink_bits
    plan = plan_for(federation, state, public) if federation.models_residuals else b""
    if plan:
        planned = replace(public, plans=(plan,))
        payloads = _asked(plan, compressor, update, planned, ledger)
        clients = torch.tensor(public.clients, device=update.device)
        model = federation.residual_model(state.side, clients)
        first, failed = decode(compressor, payloads, side, planned, model)
        if not bool(failed):
            return Again(first, (ledger.uplink_bits - before) // 8)
    payloads = _asked(b"\x00", compressor, update, public.alone(), ledger)
    told = decode(compressor, payloads, torch.zeros_like(side), public.alone())[0]
    estimate = told if compressor.unbiased else _between(first, told, compressor)
    return Again(estimate, (ledger.uplink_bits - before) // 8)


def _asked(
    question: bytes, compressor: Compressor, update: Tensor, public: Public, ledger: BitLedger
) -> list[bytes]:
    """What the client answers."""
    ledger.sent_down([question])
    payloads = compressor.encode(update, public)
    ledger.sent_up(payloads)
    return payloads


def _between(first: Tensor, told: Tensor, compressor: Compressor) -> Tensor:
    """What is most likely between two estimates `[1, dim]`, of which `told` is of the update coded alone.

    `told` is a posterior mean, with energy g |x|**2 if x is the update, and off by R = (1 - g) |x|**2,
    orthogonally. `first` is off by P, independently: their distance is P + R, and the Wiener filter goes
    P / (P + R) of the way from it.
    """
    assert is_side_informed(compressor)  # no other's payloads fail
    gain = compressor.residual_gain(told.shape[1], 1.0)
    off = (1 / gain - 1) * energies(told)
    share = 1 - off / squared_distances(first, told).clamp_min(1e-300)
    return torch.lerp(first, told, share.clamp(0, 1).to(told)[:, None])
