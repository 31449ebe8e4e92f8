"""Error feedback: what a payload loses, the client adds to its next update."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from wzfl.compressors import Compressor, SideInformed
from wzfl.errors import InputError
from wzfl.public import Public


@runtime_checkable
class ClientMemory(Protocol):
    """A compressor whose clients keep `[dim]` floats each between rounds."""

    def init(self, population: int, dim: int, device: torch.device) -> Tensor: ...
    def before(self, memory: Tensor, updates: Tensor) -> Tensor: ...
    def after(self, intended: Tensor, decoded: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class ErrorFeedback:
    """Compresses update + memory, where memory is what was lost before; memory = sent - decoded.

    The client keeps dim floats and decodes its own payload, so a compressor whose decoder needs the
    server's side information can not be wrapped.

    Source: Seide et al., "1-Bit Stochastic Gradient Descent" (Interspeech 2014); Karimireddy et al.,
    "Error Feedback Fixes SignSGD" (ICML 2019).

    Attributes:
        compressor: the compressor whose errors are fed back.
    """

    compressor: Compressor

    def __post_init__(self) -> None:
        if isinstance(self.compressor, SideInformed):
            raise InputError(
                f"error feedback can not wrap {type(self.compressor).__name__}: a client can not"
                " decode its own payload without the server's side information"
            )

    @property
    def wire_id(self) -> int:
        return self.compressor.wire_id

    @property
    def aggregation(self) -> str:
        return self.compressor.aggregation

    @property
    def bitrate(self) -> float:
        return self.compressor.bitrate

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        return self.compressor.encode(updates, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return self.compressor.decode(payloads, side, public)

    def init(self, population: int, dim: int, device: torch.device) -> Tensor:
        """The memories of all clients, `[population, dim]`."""
        return torch.zeros(population, dim, device=device)

    def before(self, memory: Tensor, updates: Tensor) -> Tensor:
        """What the clients of these rows compress, `[clients, dim]`."""
        return memory + updates

    def after(self, intended: Tensor, decoded: Tensor) -> Tensor:
        """Their new memories, `[clients, dim]`."""
        return intended - decoded
