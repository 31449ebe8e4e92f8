"""Records what an observer of both ends knows of an exchange."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from wzfl.ledger import BitLedger


@dataclass(frozen=True, eq=False)
class Exchanged:
    """One exchange as an observer of both ends sees it; neither end alone knows all of it.

    Tensors are `[clients]`, but for the estimates.

    Attributes:
        ledger: bits that were sent.
        estimates: `[clients, dim]`, what the server decoded; 0 where nothing was received.
        energy: |update|**2; NaN if it is not finite.
        error: |estimate - update|**2; NaN where nothing was received, as the next two.
        side_error: |side information - update|**2.
        side_energy: |side information|**2.
        scale: what was broadcast to the client, or measured by it; 0 where it coded without side information,
            NaN where it measured and nothing was received.
        payload_bytes: bytes that the client sent.
        failed: whether the decoder's check failed.
        lost: whether nothing was received that could be read.
        refused: how many payloads could not be read.
    """

    ledger: BitLedger
    estimates: Tensor
    energy: Tensor
    error: Tensor
    side_error: Tensor
    side_energy: Tensor
    scale: Tensor
    payload_bytes: Tensor
    failed: Tensor
    lost: Tensor
    refused: Tensor

    def table(self) -> Tensor:
        """Stacks all but ledger and estimates, `[columns, clients]` float64, as `COLUMNS` says."""
        # All are float64 where some are.
        return torch.stack([getattr(self, name) for name in COLUMNS])

    @classmethod
    def nothing(
        cls, sent: list[bytes], zeros: Tensor, energy: Tensor, scale: Tensor, refused: int
    ) -> "Exchanged":
        """Describes an exchange with one client of whom nothing was read; `zeros` are its estimate."""
        ledger, unknown = BitLedger(), torch.full_like(energy, torch.nan)
        ledger.sent_up(sent)
        return cls(
            ledger=ledger,
            estimates=zeros,
            energy=energy,
            error=unknown,
            side_error=unknown,
            side_energy=unknown,
            scale=scale,
            payload_bytes=torch.tensor([sum(map(len, sent))], device=energy.device),
            failed=torch.zeros_like(energy, dtype=torch.bool),
            lost=torch.ones_like(energy, dtype=torch.bool),
            refused=torch.full_like(energy, refused, dtype=torch.int64),
        )


COLUMNS = tuple(
    field.name for field in fields(Exchanged) if field.name not in ("ledger", "estimates")
)
