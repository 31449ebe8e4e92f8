"""Compressed differences: client and server both remember what was sent, and only news travels."""

from dataclasses import dataclass

from torch import Tensor

from wzfl.compressors import Compressor, has_relative_variance
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.errors import InputError
from wzfl.feedback import ClientSide
from wzfl.public import Public


@dataclass(frozen=True)
class Diana(ClientSide):
    """Compresses update - h; both ends move h by alpha times what was decoded. Unbiased inside.

    The client keeps dim floats, as does the server for each client. h tends to the client's gradient at
    the optimum, so noise vanishes although gradients do not. The honest rival of side information at the
    server, which saves the client's memory.

    Source: Mishchenko et al., "Distributed Learning with Compressed Gradient Differences" (2019).

    Attributes:
        compressor: codes the differences; unbiased.
        alpha: step of h; None takes 1 / (1 + omega), omega the compressor's relative variance.
    """

    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is None and not has_relative_variance(self.compressor):
            raise InputError(
                f"{type(self.compressor).__name__} does not state its relative variance; give alpha,"
                " at most 1 / (1 + relative variance)"
            )
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise InputError(f"alpha must be above 0 and at most 1; got {self.alpha}")

    def before(self, memory: Tensor, updates: Tensor, public: Public) -> Tensor:
        return updates.detach() - memory

    def after(
        self, memory: Tensor, updates: Tensor, sent: Tensor, decoded: Tensor, public: Public
    ) -> Tensor:
        return memory + self._step(memory.shape[1]) * decoded

    def received(self, memory: Tensor, decoded: Tensor, public: Public) -> tuple[Tensor, Tensor]:
        return memory + decoded, memory + self._step(memory.shape[1]) * decoded

    def _step(self, dim: int) -> float:
        if self.alpha is not None:
            return self.alpha
        assert has_relative_variance(self.compressor)
        return 1 / (1 + self.compressor.relative_variance(dim))


@dataclass(frozen=True)
class EF21(ClientSide):
    """Compresses update - g; both ends add what was decoded to g, which is the estimate. Biased.

    The client keeps dim floats, as does the server for each client.

    Source: Richtarik, Sokolov, Fatkhullin, "EF21: A New, Simpler, Theoretically Better, and Practically
    Faster Error Feedback" (NeurIPS 2021).

    Attributes:
        compressor: codes the differences; contractive, such as top-k.
    """

    def before(self, memory: Tensor, updates: Tensor, public: Public) -> Tensor:
        return updates.detach() - memory

    def after(
        self, memory: Tensor, updates: Tensor, sent: Tensor, decoded: Tensor, public: Public
    ) -> Tensor:
        return memory + decoded

    def received(self, memory: Tensor, decoded: Tensor, public: Public) -> tuple[Tensor, Tensor]:
        return memory + decoded, memory + decoded


@dataclass(frozen=True)
class Marina(ClientSide):
    """Compresses update - previous update; now and then all clients send their updates as they are.

    The client keeps dim floats (its previous update), as does the server for each client (its estimate
    of that). Errors add up until the next full round, which a shared coin decides; the first round is
    one. A client that was never asked before sends its whole update, compressed.

    Source: Gorbunov et al., "MARINA: Faster Non-Convex Distributed Learning with Compression" (ICML
    2021), here with one estimate per client in place of their mean, so that clients may sit out.

    Attributes:
        compressor: codes the differences; unbiased.
        full_rate: probability of a full round; None takes bitrate / 32, as published: full rounds then
            cost as much in all as the others.
    """

    full_rate: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.full_rate is not None and not 0 <= self.full_rate <= 1:
            raise InputError(f"full_rate must be 0 to 1; got {self.full_rate}")

    @property
    def bitrate(self) -> float:
        """Mean bits per coordinate over rounds; the first, which is full, is left out."""
        share = self._share
        return share * Uncompressed.bitrate + (1 - share) * self.compressor.bitrate

    def chosen(self, public: Public) -> Compressor:
        return Uncompressed() if self._is_full(public) else self.compressor

    def before(self, memory: Tensor, updates: Tensor, public: Public) -> Tensor:
        updates = updates.detach()
        return updates if self._is_full(public) else updates - memory

    def after(
        self, memory: Tensor, updates: Tensor, sent: Tensor, decoded: Tensor, public: Public
    ) -> Tensor:
        return updates.detach().clone()  # whoever made them may go on to change them

    def received(self, memory: Tensor, decoded: Tensor, public: Public) -> tuple[Tensor, Tensor]:
        estimates = decoded if self._is_full(public) else memory + decoded
        return estimates, estimates.clone()  # as `after` does

    @property
    def _share(self) -> float:
        if self.full_rate is not None:
            return self.full_rate
        return min(1.0, self.compressor.bitrate / Uncompressed.bitrate)

    def _is_full(self, public: Public) -> bool:
        coin = float(public.common(1).uniform("full round", 1))
        return public.round <= 1 or coin < self._share
