"""Compressors whose clients remember: what they compress depends on what they sent before."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from wzfl.compressors import Compressor, SelfReading, is_side_informed
from wzfl.compressors.envelope import settings_text
from wzfl.errors import InputError
from wzfl.public import Public


@runtime_checkable
class ClientMemory(Protocol):
    """A compressor whose clients keep `[dim]` floats each between rounds.

    A `memory` that is given may be what is kept itself: it is read, not written to. What is returned to be
    kept shares neither memory nor autograd's graph with `updates`.
    """

    def init(self, population: int, dim: int, device: torch.device) -> Tensor:
        """Returns the first memories of all clients, `[population, dim]`, at either end."""
        ...

    def before(self, memory: Tensor, updates: Tensor, public: Public) -> Tensor:
        """Returns what the clients of these rows compress, `[clients, dim]`."""
        ...

    def encode_and_decode(self, updates: Tensor, public: Public) -> tuple[list[bytes], Tensor]:
        """Returns payloads of what `before` gave, and what they decode to, `[clients, dim]`."""
        ...

    def after(
        self, memory: Tensor, updates: Tensor, sent: Tensor, decoded: Tensor, public: Public
    ) -> Tensor:
        """Returns the clients' memories after they decoded their own payloads; all `[clients, dim]`.

        `sent` is what `before` gave, which nobody needs any more.
        """
        ...


@runtime_checkable
class ServerMemory(ClientMemory, Protocol):
    """A compressor with memory at both ends: the server keeps `[dim]` floats per client of its own.

    Without such a memory, what the server decodes is its estimate.
    """

    def received(self, memory: Tensor, decoded: Tensor, public: Public) -> tuple[Tensor, Tensor]:
        """Returns the server's estimates and its new memories, all `[clients, dim]`."""
        ...


@dataclass(frozen=True)
class ClientSide:
    """Wraps a compressor whose payloads clients can decode themselves, and so remember.

    Attributes:
        compressor: makes and reads the payloads.

    Raises:
        InputError: its decoder needs the server's side information.
    """

    compressor: Compressor

    def __post_init__(self) -> None:
        if is_side_informed(self.compressor):
            raise InputError(
                f"{type(self).__name__} can not wrap {type(self.compressor).__name__}: a client can"
                " not decode its own payload without the server's side information"
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

    @property
    def unbiased(self) -> bool:
        return self.compressor.unbiased

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        return self.chosen(public).encode(updates, self._within(public))

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return self.chosen(public).decode(payloads, side, self._within(public))

    def encode_and_decode(self, updates: Tensor, public: Public) -> tuple[list[bytes], Tensor]:
        """See `ClientMemory`."""
        chosen, public = self.chosen(public), self._within(public)
        if isinstance(chosen, SelfReading):
            return chosen.encode_and_decode(updates, public)
        payloads = chosen.encode(updates, public)
        nothing = updates.new_zeros(1, 1).expand_as(updates)
        return payloads, chosen.decode(payloads, nothing, public)

    def chosen(self, public: Public) -> Compressor:
        """Returns the compressor of this round's payloads."""
        return self.compressor

    def _within(self, public: Public) -> Public:
        """What both ends know, of which the wrapper's kind and settings are a part."""
        settings = settings_text(self, apart="compressor")  # which seals its own
        return public.within(f"{type(self).__name__}:".encode() + settings)

    def init(self, population: int, dim: int, device: torch.device) -> Tensor:
        """See `ClientMemory`."""
        return torch.zeros(population, dim, dtype=torch.float32, device=device)


@dataclass(frozen=True)
class ErrorFeedback(ClientSide):
    """Compresses update + memory, where memory is what was lost before; memory = sent - decoded.

    The client keeps dim floats; the server keeps nothing.

    Source: Seide et al., "1-Bit Stochastic Gradient Descent" (Interspeech 2014); Karimireddy et al.,
    "Error Feedback Fixes SignSGD" (ICML 2019).
    """

    def before(self, memory: Tensor, updates: Tensor, public: Public) -> Tensor:
        return memory + updates.detach()

    def after(
        self, memory: Tensor, updates: Tensor, sent: Tensor, decoded: Tensor, public: Public
    ) -> Tensor:
        return sent.sub_(decoded)
