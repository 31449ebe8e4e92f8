"""What the server expects of each client, from its own memory alone.

Memory is explicit, so that it can be checkpointed; a policy is a frozen dataclass of settings. As side
information y is made of decoded updates, decoding errors feed back. With an unbiased code, whose
residuals have E|estimate - y|**2 = g |x - y|**2, g = 1 + omega, the plain rule y <- estimate diverges
from omega = 1 on, and y <- y + a (estimate - y) with a = 1/g contracts (the step of DIANA, Mishchenko
et al. 2019).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wzfl.errors import InputError
from wzfl.norms import squared_distances
from wzfl.threads import in_threads


@dataclass(frozen=True, eq=False)
class Memory:
    """What a policy remembers.

    Attributes:
        vectors: `[population, dim]`, or `[1, dim]` shared by all, or `[0, dim]`.
        residual_rms: `[population]` estimated RMS per coordinate of update - side information; 0 while
            nothing has been decoded from that client.
    """

    vectors: Tensor
    residual_rms: Tensor


class SideInformation(Protocol):
    """A server-only prediction of every client's next update, and of how far off it is.

    Attributes:
        margin: planned scale over estimated residual RMS.
        broadcasts_scale: whether clients are sent a scale each round.
    """

    @property
    def margin(self) -> float: ...

    @property
    def broadcasts_scale(self) -> bool: ...

    def init(self, population: int, dim: int, device: torch.device) -> Memory: ...

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        """`[clients]`: the scales to broadcast."""
        ...

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        """`[clients, dim]`: what is expected of each client; until `update`, it may be memory itself."""
        ...

    def update(
        self, memory: Memory, clients: Tensor, estimates: Tensor, failed: Tensor, gain: float
    ) -> Memory:
        """The memory, changed in place, after `estimates` `[clients, dim]` by a codec of residual gain g.

        For rows that `failed` `[clients]` the decoder's check the scale was too small: twice as much is
        planned next time.
        """
        ...


@dataclass(frozen=True)
class Zero:
    """Expects nothing: coding without side information; clients scale by their own RMS."""

    margin: float = 1.0
    broadcasts_scale: bool = False

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        return Memory(torch.zeros(0, dim, device=device), torch.zeros(population, device=device))

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        return torch.zeros(len(clients), device=clients.device)

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        return memory.vectors.new_zeros(1, 1).expand(len(clients), memory.vectors.shape[1])

    def update(
        self, memory: Memory, clients: Tensor, estimates: Tensor, failed: Tensor, gain: float
    ) -> Memory:
        return memory


@dataclass(frozen=True)
class Last:
    """Expects of each client what was last decoded from it; stale for clients that sat out.

    Attributes:
        margin: planned scale over the estimated residual RMS; above 1 leaves room for growth.
        step: damping a of y <- y + a (estimate - y); None takes min(1, 1/g).
    """

    margin: float = 1.2
    step: float | None = None
    broadcasts_scale: bool = True

    def __post_init__(self) -> None:
        _check(self.margin, self.step)

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        return Memory(
            torch.zeros(population, dim, device=device), torch.zeros(population, device=device)
        )

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        return self.margin * memory.residual_rms[clients]

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        everyone = torch.arange(len(memory.vectors), device=clients.device)
        return memory.vectors if torch.equal(clients, everyone) else memory.vectors[clients]

    def update(
        self, memory: Memory, clients: Tensor, estimates: Tensor, failed: Tensor, gain: float
    ) -> Memory:
        step, energy = _step(self.step, gain), torch.empty(len(clients), dtype=torch.float64)

        def learn(row: int) -> None:
            vector, estimate = memory.vectors[clients[row]], estimates[row]
            energy[row] = squared_distances(estimate[None], vector[None])[0]
            vector.lerp_(estimate, step)

        in_threads(learn, range(len(clients)))
        return Memory(memory.vectors, _tracked(memory, clients, energy, failed, gain))


@dataclass(frozen=True)
class Mean:
    """Expects of every client the mean of what was last decoded from all.

    Attributes:
        margin: planned scale over the estimated residual RMS.
        step: damping of the mean's update; None takes 1 / (1 + (g - 1) / clients), as the
            errors of independent clients average out.
    """

    margin: float = 1.2
    step: float | None = None
    broadcasts_scale: bool = True

    def __post_init__(self) -> None:
        _check(self.margin, self.step)

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        return Memory(torch.zeros(1, dim, device=device), torch.zeros(population, device=device))

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        return self.margin * memory.residual_rms[clients]

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        return memory.vectors.expand(len(clients), -1)

    def update(
        self, memory: Memory, clients: Tensor, estimates: Tensor, failed: Tensor, gain: float
    ) -> Memory:
        energy = squared_distances(estimates, memory.vectors.expand_as(estimates))
        step = _step(self.step, 1 + max(0.0, gain - 1) / len(clients))
        memory.vectors.lerp_(estimates.mean(dim=0, keepdim=True), step)
        return Memory(memory.vectors, _tracked(memory, clients, energy, failed, gain))


def _check(margin: float, step: float | None) -> None:
    if not margin > 0 or not (step is None or 0 < step <= 1):
        raise InputError(
            "side information needs a margin above 0 and a step in (0, 1] or null; got"
            f" margin={margin}, step={step}"
        )


def _step(step: float | None, gain: float) -> float:
    return min(1.0, 1 / gain) if step is None else step


def _tracked(
    memory: Memory, clients: Tensor, energy: Tensor, failed: Tensor, gain: float
) -> Tensor:
    """`[population]`: the RMS of decoded residuals of that energy, without what decoding added to it."""
    mean_square = energy.to(clients.device) / memory.vectors.shape[1]
    rms = (mean_square / gain).sqrt().float()
    rms = torch.where(failed, 2 * memory.residual_rms[clients], rms)
    return memory.residual_rms.index_copy(0, clients, rms)
