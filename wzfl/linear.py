"""Predicts updates as weighted sums of what the server knows, with weights learned client by client."""

from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor

from wzfl.errors import InputError
from wzfl.norms import energies, squared_distances
from wzfl.side_information import Decoded, Last, Memory, check_waves, numbers_of

_RIDGE = 1e-3  # of the candidates' energies, which makes weights unique
_PACE = 10  # a failure raises the margin by a tenth, or less where there are more clients than this
_LEAST_MARGIN, _LARGEST_FACTOR = 1.02, 8.0


@dataclass(frozen=True)
class Linear(Last):
    """a * (this client's last update) + b * (the last aggregate), or nothing where that is no better.

    a and b are those of least squares over the client's earlier rounds, each weighted by its energy and the
    older ones less: recursive least squares on decoded updates alone. Noise of the code in what is
    remembered lowers a by itself. With a sketch, scales are measured. Without one, a client whose residual,
    with the margin, would be no smaller than its update is sent no scale, and codes without side information.

    What is remembered of a client is y + w (estimate - y), y what was expected: the Wiener filter of an
    estimate with noise, whose w is 1/g where side information was used.

    Source: recursive least squares with forgetting, as in Haykin, "Adaptive Filter Theory"; the filter's
    step is DIANA's (Mishchenko et al. 2019).

    Without a sketch, the margin grows when decoding fails and shrinks when it does not, at rates that
    balance where `failure_rate` of the planned scales are too small (Robbins & Monro's tracking of a
    quantile, 1951).

    Attributes:
        memory: weight of the rounds before in the next one's least squares.
        failure_rate: share of planned scales that may be too small; None keeps the margin as it is.
        waves: as in `Mean`; the aggregate it weighs is then that of this round's earlier waves.
    """

    memory: float = 0.8
    failure_rate: float | None = 0.01
    waves: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_waves(self.waves)
        if self.failure_rate is not None and not 0 < self.failure_rate < 1:
            raise InputError(
                "side_information.failure_rate must be in (0, 1), or null for a fixed margin; got"
                f" {self.failure_rate}"
            )
        if not 0 <= self.memory < 1:
            raise InputError(f"side_information.memory must be in [0, 1); got {self.memory}")

    def scale_ratio(self, memory: Memory) -> float:
        """See `SideInformation`."""
        if self.sketch:
            return super().scale_ratio(memory)
        return self.margin * float(memory.margin)

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        """See `SideInformation`."""
        return self._weighted_sum(memory, clients)

    def learn(self, memory: Memory, decoded: Decoded) -> None:
        """See `SideInformation`; of a failed row only that its scale was too small."""
        self._learn(memory, decoded, unread=decoded.failed)

    def finish(self, memory: Memory, mean: Tensor, clients: int, gain: float) -> None:
        """See `SideInformation`."""
        memory.common.copy_(mean)
        planned, failed = (sum(counts) for counts in zip(*memory.outcomes, strict=True))
        memory.outcomes.clear()
        if self.failure_rate is not None and planned:
            surprise = (failed - self.failure_rate * planned) * min(1.0, _PACE / planned)
            self._adjust_margin(memory, surprise / _PACE)

    def _learn(self, memory: Memory, decoded: Decoded, unread: Tensor) -> None:
        """Learns from `decoded`, whose `expected` are weighted sums, used or not.

        Estimates of `unread` rows, bool `[clients]`, say nothing of their updates.
        """
        had_plan, failed = self._planned(memory, decoded.clients), decoded.failed
        memory.outcomes.append((int(had_plan.sum()), int((had_plan & failed).sum())))
        self._beware(memory, decoded.clients[failed])
        kept = ~unread
        clients, had_plan = decoded.clients[kept], had_plan[kept]
        expected, estimates = decoded.expected[kept], decoded.estimates[kept]
        if not len(clients):
            return
        used = squared_distances(expected, estimates).to(clients.device)
        energy = energies(estimates).to(clients.device)
        noise = torch.where(had_plan, used, energy) * max(0.0, 1 - 1 / decoded.gain)
        residual = (used - noise).clamp_min(1e-3 * used)
        self._regress(memory, clients, estimates, energy)
        memory.residual_rms[clients] = (residual / memory.own.dim).sqrt().float()
        without_noise = (energy - noise).clamp_min(residual)
        memory.update_rms[clients] = (without_noise / memory.own.dim).sqrt().float()
        share = (residual / (residual + noise).clamp_min(1e-300)).tolist()
        for row, client in enumerate(clients.tolist()):
            step = share[row] if self.step is None else self.step
            memory.own.move(client, torch.lerp(expected[row], estimates[row], step), 1.0)

    def _adjust_margin(self, memory: Memory, surprise: float) -> None:
        """Moves the margin by `surprise`, the share of failures beyond the one that is wanted."""
        memory.margin.mul_(exp(surprise)).clamp_(_LEAST_MARGIN / self.margin, _LARGEST_FACTOR)

    def _weighted_sum(self, memory: Memory, clients: Tensor) -> Tensor:
        own, weights = memory.own.read(numbers_of(memory, clients)), self._weights(memory, clients)
        return torch.addcmul(weights[:, :1] * own, weights[:, 1:], memory.common)

    def _planned(self, memory: Memory, clients: Tensor) -> Tensor:
        """Finds clients for whom something was planned that can have failed, bool `[clients]`."""
        return self._scales(memory, clients) > 0

    def _beware(self, memory: Memory, clients: Tensor) -> None:
        """Expects more of clients whose decoding failed."""
        memory.residual_rms[clients] *= 2

    def _scales(self, memory: Memory, clients: Tensor) -> Tensor:
        planned = super()._scales(memory, clients)
        if self.sketch:
            return planned
        return torch.where(planned < memory.update_rms[clients], planned, 0)

    def _regress(self, memory: Memory, clients: Tensor, estimates: Tensor, energy: Tensor) -> None:
        """Takes this round into the least squares' sums."""
        common = memory.common
        for row, client in enumerate(clients.tolist()):
            own = memory.own.read([client])[0]
            products = torch.stack(
                [
                    own @ own,
                    own @ common,
                    common @ common,
                    own @ estimates[row],
                    common @ estimates[row],
                ]
            )
            memory.products[client] *= self.memory
            memory.products[client] += products.double() / energy[row].clamp_min(1e-300)

    def _weights(self, memory: Memory, clients: Tensor) -> Tensor:
        """Solves for the weights a and b, `[clients, 2]`; 0 before anything is known."""
        own, both, common, with_own, with_common = memory.products[clients].unbind(1)
        own, common = own * (1 + _RIDGE), common * (1 + _RIDGE)
        determinant = own * common - both.square()
        alone = torch.stack([with_own / own, torch.zeros_like(own)], dim=1)
        pair = torch.stack(
            [with_own * common - with_common * both, with_common * own - with_own * both], dim=1
        )
        weights = torch.where((determinant > 0)[:, None], pair / determinant[:, None], alone)
        return weights.nan_to_num(0.0, 0.0, 0.0).float()
