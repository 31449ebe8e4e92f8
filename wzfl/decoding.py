"""Decodes payloads with whatever the compressor's decoder makes use of."""

import torch
from torch import Tensor

from wzfl.compressors import Compressor, is_planned, is_side_informed
from wzfl.public import Public
from wzfl.residual_model import ResidualModel


def decode(
    compressor: Compressor,
    payloads: list[bytes],
    side: Tensor,
    public: Public,
    model: ResidualModel | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns estimates `[clients, dim]`, and which rows failed the decoder's check, bool `[clients]`.

    `model` is what `public.plans` came from.
    """
    if is_planned(compressor):
        return compressor.decode_checked(payloads, side, public, model)
    if is_side_informed(compressor):
        return compressor.decode_checked(payloads, side, public)
    nothing_failed = torch.zeros(len(side), dtype=torch.bool, device=side.device)
    return compressor.decode(payloads, side, public), nothing_failed
