"""Counts bits by looking at the bytes that were sent."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class BitLedger:
    """Adds up bits of the payloads it is shown; it takes nobody's word for a size.

    Attributes:
        uplink_bits: bits of all payloads from clients.
        downlink_bits: bits of all payloads from the server, once per receiver.
    """

    uplink_bits: int = 0
    downlink_bits: int = 0

    def sent_up(self, payloads: Iterable[bytes]) -> None:
        self.uplink_bits += _bits(payloads)

    def sent_down(self, payloads: Iterable[bytes]) -> None:
        self.downlink_bits += _bits(payloads)

    def join(self, other: "BitLedger") -> None:
        """Adds the bits of another ledger."""
        self.uplink_bits += other.uplink_bits
        self.downlink_bits += other.downlink_bits


def _bits(payloads: Iterable[bytes]) -> int:
    total = 0
    for payload in payloads:
        if not isinstance(payload, bytes):
            raise TypeError(f"the ledger counts bytes; got {type(payload).__name__}")
        total += 8 * len(payload)
    return total
