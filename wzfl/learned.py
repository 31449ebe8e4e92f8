"""Predicts updates, and where in a vector the residuals' energy will lie."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wzfl.errors import InputError
from wzfl.linear import Linear
from wzfl.norms import squared_distances
from wzfl.residual_model import ResidualModel
from wzfl.side_information import Decoded, Memory, numbers_of
from wzfl.spread import Spread

# RMS of residuals, over that of updates, below which predictions come into use, and stay in use.
_HELPS, _STILL_HELPS = 0.5, 0.7
_FIRST_MARGIN = 0.1
_MARGIN_STEP, _MARGINS = 0.2, (0.03, 0.5)  # where everything fails; least and largest


@dataclass(frozen=True)
class Learned(Linear):
    """`Linear`, and a model of the residuals for compressors that are planned with one.

    For every coordinate the server keeps a running mean of squared residuals, of each client and on average
    over the clients of the last round. Each says how large a residual to expect there; how large they then
    are is counted (`Spread`), and the expectation that tells more is what the next round is planned with: a
    client's own history where clients differ, the average where batches are small. Nothing is planned for
    a client that was never heard, or is forgotten.

    A client's history is used where it leaves about half of the update. Residuals from predictions p are
    other ones than updates: when their use begins or ends, the square of each is expected to be what the last
    would have been, (estimate - p)**2 and the posterior variance of the estimate.

    After a failure the client's margin on entropies doubles and then shrinks back; where nothing of an
    update was read, its residuals are expected to be twice as large. The margin of all follows
    `failure_rate`, as `Linear`'s on scales does.

    Attributes:
        failure_rate: share of payloads that may fail; less than for scales, as next to an error of -30 dB a
            failure counts more.
        pace: weight of the latest residual in the running mean of its square.
    """

    failure_rate: float | None = 0.001
    pace: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.pace <= 1:
            raise InputError(f"side_information.pace must be in (0, 1]; got {self.pace}")

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        """See `SideInformation`."""
        memory = super().init(population, dim, device)
        memory.margin.fill_(_FIRST_MARGIN)
        spread = Spread.empty(population, dim, device, self.capacity, self.pace)
        return replace(memory, spread=spread)

    def scale_ratio(self, memory: Memory) -> float:
        """See `SideInformation`; plans have no scale, and residuals are taken to be what is expected."""
        return 1.0

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        """See `SideInformation`."""
        _spread(memory).expect(numbers_of(memory, clients))
        return super().plan(memory, clients)

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        """See `SideInformation`; nothing where history is hardly better."""
        return self._weighted_sum(memory, clients) * _spread(memory).predicted[clients][:, None]

    def model(self, memory: Memory, clients: Tensor) -> ResidualModel:
        """See `ModelsResiduals`."""
        return _spread(memory).model(clients, float(memory.margin))

    def learn(self, memory: Memory, decoded: Decoded) -> None:
        """See `SideInformation`; what was read by a plan, the residuals' model has already learned."""
        clients = decoded.clients
        alone = ~(self._planned(memory, clients) | decoded.failed)
        if bool(alone.any()):
            residuals = decoded.estimates[alone] - decoded.expected[alone]
            for client, residual in zip(clients[alone].tolist(), residuals, strict=True):
                _spread(memory).start_over(client, residual.square())
        predictions = self._weighted_sum(memory, clients)
        self._learn(memory, replace(decoded, expected=predictions), _unread(decoded))
        self._judge(memory, clients, decoded.estimates, predictions)

    def finish(self, memory: Memory, mean: Tensor, clients: int, gain: float) -> None:
        """See `SideInformation`."""
        super().finish(memory, mean, clients, gain)
        _spread(memory).finish()

    def _judge(
        self, memory: Memory, clients: Tensor, estimates: Tensor, predictions: Tensor
    ) -> None:
        """Decides who is predicted from now on; `predictions` are those there were, used or not."""
        spread = _spread(memory)
        used = spread.predicted[clients]
        limits = torch.where(used, _STILL_HELPS, _HELPS) * memory.update_rms[clients]
        helps = (memory.residual_rms[clients] < limits).tolist()
        for row, (client, before) in enumerate(zip(clients.tolist(), used.tolist(), strict=True)):
            variance = spread.planned.pop(client, 0.0)
            if helps[row] != before:
                residual = estimates[row] - (predictions[row] if helps[row] else 0.0)
                spread.turn(client, residual.square() + variance, predicted=helps[row])

    def _planned(self, memory: Memory, clients: Tensor) -> Tensor:
        planned = [client in _spread(memory).planned for client in clients.tolist()]
        return torch.tensor(planned, device=clients.device)

    def _adjust_margin(self, memory: Memory, surprise: float) -> None:
        memory.margin.add_(_MARGIN_STEP * surprise).clamp_(*_MARGINS)

    def _beware(self, memory: Memory, clients: Tensor) -> None:
        _spread(memory).beware(clients)


def _spread(memory: Memory) -> Spread:
    assert memory.spread is not None
    return memory.spread


def _unread(decoded: Decoded) -> Tensor:
    """Finds clients whose estimates are what was expected, and say nothing of their updates."""
    moved = squared_distances(decoded.expected, decoded.estimates).to(decoded.failed.device)
    return decoded.failed & (moved == 0)
