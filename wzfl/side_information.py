"""Predicts each client's update from the server's memory alone.

Memory is explicit, so that it can be checkpointed; a policy is a frozen dataclass of settings. As side
information y is made of decoded updates, decoding errors feed back. With an unbiased code, whose
residuals have E|estimate - y|**2 = g |x - y|**2, g = 1 + omega, the plain rule y <- estimate diverges
from omega = 1 on, and y <- y + a (estimate - y) with a = 1/g contracts (the step of DIANA, Mishchenko
et al. 2019).
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from wzfl.errors import InputError
from wzfl.history import PRECISIONS, History
from wzfl.measured_scale import margin as margin_of_sketch
from wzfl.norms import squared_distances
from wzfl.residual_model import ResidualModel
from wzfl.spread import Spread


@dataclass(frozen=True, eq=False)
class Memory:
    """What a policy remembers.

    Attributes:
        own: a vector per client.
        common: `[dim]`, a vector that all clients share.
        residual_rms: `[population]`, estimated RMS per coordinate of update - side information; 0 while
            nothing is known of that client.
        update_rms: `[population]`, the same of the updates themselves.
        products: `[population, 5]`, sums of inner products, for policies that learn weights.
        margin: a factor, for policies that learn their margin.
        outcomes: by group of this round's clients, how many scales were planned, and how many failed.
        spread: where residuals are large, for policies that model them.
    """

    own: History
    common: Tensor
    residual_rms: Tensor
    update_rms: Tensor
    products: Tensor
    margin: Tensor
    outcomes: list[tuple[int, int]]
    spread: Spread | None = None

    @classmethod
    def empty(
        cls,
        population: int,
        dim: int,
        device: torch.device,
        precision: str = "float32",
        capacity: int | None = None,
    ) -> "Memory":
        own = History(dim, device, precision, capacity or population)
        rms = torch.zeros(2, population, device=device)
        products = torch.zeros(population, 5, dtype=torch.float64, device=device)
        common, margin = torch.zeros(dim, device=device), torch.ones(())
        return cls(own, common, rms[0], rms[1], products, margin, [])


@dataclass(frozen=True, eq=False)
class Decoded:
    """What came of some clients' payloads, and what the server had expected of these clients.

    Attributes:
        clients: int64 `[clients]`, their numbers.
        expected: `[clients, dim]`, what `predict` gave.
        estimates: `[clients, dim]`, their updates as decoded.
        failed: bool `[clients]`, whose decoder's check failed: the scale was too small.
        gain: the codec's residual gain g.
    """

    clients: Tensor
    expected: Tensor
    estimates: Tensor
    failed: Tensor
    gain: float


class SideInformation(Protocol):
    """A server-only prediction of every client's next update, and of how far off it is.

    A round is one wave of its clients after the other. A wave is `plan` for its clients, then for groups
    of them, in any order and at the same time, `predict` and `learn`, then `finish`. All change the memory
    in place.

    Attributes:
        broadcasts_scale: whether clients are sent a scale each round.
        sketch: how many floats of a sketch they are sent instead, to measure it by; 0 for none.
        waves: parts of a round's clients; what one part sent is known before the next is asked.
    """

    @property
    def sketch(self) -> int: ...

    @property
    def waves(self) -> int: ...

    @property
    def broadcasts_scale(self) -> bool: ...

    def init(self, population: int, dim: int, device: torch.device) -> Memory: ...

    def scale_ratio(self, memory: Memory) -> float:
        """Returns planned scale over estimated residual RMS: the margin."""
        ...

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        """Returns the scales to broadcast, `[clients]`."""
        ...

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        """Returns what is expected of clients, `[clients, dim]`; until `learn`, it may be memory itself."""
        ...

    def learn(self, memory: Memory, decoded: Decoded) -> None:
        """Learns from what was decoded; for clients that failed twice as much is planned next time."""
        ...

    def finish(self, memory: Memory, mean: Tensor, clients: int, gain: float) -> None:
        """Learns from the aggregate `[dim]` of the round so far, over so many clients."""
        ...


@runtime_checkable
class ModelsResiduals(Protocol):
    """A policy that expects more of some coordinates' residuals than of others'."""

    def model(self, memory: Memory, clients: Tensor) -> ResidualModel:
        """Models the residuals from what `predict` gives; the same until `learn`."""
        ...


@dataclass(frozen=True)
class Zero:
    """Expects nothing: coding without side information; clients scale by their own RMS."""

    sketch: ClassVar[int] = 0
    waves = 1  # no setting here; without a type, heirs can make it one
    broadcasts_scale: ClassVar[bool] = False

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        return Memory.empty(population, dim, device)

    def scale_ratio(self, memory: Memory) -> float:
        return 1.0

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        return torch.zeros(len(clients), device=clients.device)

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        return _nothing(memory, clients)

    def learn(self, memory: Memory, decoded: Decoded) -> None:
        pass

    def finish(self, memory: Memory, mean: Tensor, clients: int, gain: float) -> None:
        pass


@dataclass(frozen=True)
class Last:
    """Expects of each client what was last decoded from it; stale for clients that sat out.

    Attributes:
        margin: planned scale over the estimated residual RMS; above 1 leaves room for growth.
        step: damping a of y <- y + a (estimate - y); None takes min(1, 1/g).
        precision: in which vectors are stored, "float32", "bfloat16" or "int8".
        sketch: floats per client and round by which it measures its scale (`measured_scale`); 0 plans it
            from earlier rounds, with the margin. More than the model has coordinates are these
            themselves: an oracle's scale, for bounds.
        capacity: clients remembered at most; those not heard of for longest are forgotten. None: all.
    """

    margin: float = 1.2
    step: float | None = None
    sketch: int = 0
    precision: str = "float32"
    capacity: int | None = None

    waves = 1
    broadcasts_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.margin, self.step, self.sketch)
        if self.precision not in PRECISIONS:
            raise InputError(
                f"side_information.precision must be one of {', '.join(PRECISIONS)}; got"
                f" {self.precision!r}"
            )
        capacity = self.capacity
        if capacity is not None and not (isinstance(capacity, int) and capacity >= 1):
            raise InputError(
                "side_information.capacity must be a whole number of at least 1, or null for all"
                f" clients; got {capacity!r}"
            )

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        return Memory.empty(population, dim, device, self.precision, self.capacity)

    def scale_ratio(self, memory: Memory) -> float:
        return _ratio(memory, self.margin, self.sketch)

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        for forgotten in memory.own.admit(numbers_of(memory, clients)):
            memory.residual_rms[forgotten] = memory.update_rms[forgotten] = 0
        return self._scales(memory, clients)

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        return memory.own.read(numbers_of(memory, clients))

    def learn(self, memory: Memory, decoded: Decoded) -> None:
        _track(memory, decoded)
        for client, estimate in zip(decoded.clients.tolist(), decoded.estimates, strict=True):
            memory.own.move(client, estimate, _step(self.step, decoded.gain))

    def finish(self, memory: Memory, mean: Tensor, clients: int, gain: float) -> None:
        pass

    def _scales(self, memory: Memory, clients: Tensor) -> Tensor:
        return self.scale_ratio(memory) * memory.residual_rms[clients]


@dataclass(frozen=True)
class Fixed(Last):
    """`Last`, with scales that are a constant of the run, as in the published scheme.

    Both ends know it beforehand, so that nothing is broadcast.

    Attributes:
        scale: RMS per coordinate of update - side information that is planned for.
    """

    scale: float = 0.005

    broadcasts_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0:
            raise InputError(f"side_information.scale must be above 0; got {self.scale}")
        if self.sketch:
            raise InputError("side_information=fixed has its scale; sketch must be 0")

    def scale_ratio(self, memory: Memory) -> float:
        """See `SideInformation`; residuals are taken to be what is planned for."""
        return 1.0

    def _scales(self, memory: Memory, clients: Tensor) -> Tensor:
        return torch.full((len(clients),), self.scale, device=clients.device)


@dataclass(frozen=True)
class Mean:
    """Expects of every client the aggregate of what was last decoded from all.

    In waves, that is the aggregate of this round's earlier waves (the peers of Mayekar, Suresh, Tyagi,
    AISTATS 2021); in the first wave, that of the round before.

    Attributes:
        margin: planned scale over the estimated residual RMS.
        step: damping of the mean's update; None takes 1 / (1 + (g - 1) / clients), as the
            errors of independent clients average out.
        sketch: as in `Last`.
        waves: parts of a round's clients, which are asked one after the other.
    """

    margin: float = 1.2
    step: float | None = None
    sketch: int = 0
    waves: int = 1

    broadcasts_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.margin, self.step, self.sketch)
        check_waves(self.waves)

    def init(self, population: int, dim: int, device: torch.device) -> Memory:
        return Memory.empty(population, dim, device)

    def scale_ratio(self, memory: Memory) -> float:
        return _ratio(memory, self.margin, self.sketch)

    def plan(self, memory: Memory, clients: Tensor) -> Tensor:
        numbers_of(memory, clients)
        return self.scale_ratio(memory) * memory.residual_rms[clients]

    def predict(self, memory: Memory, clients: Tensor) -> Tensor:
        return memory.common.expand(len(clients), -1)

    def learn(self, memory: Memory, decoded: Decoded) -> None:
        _track(memory, decoded)

    def finish(self, memory: Memory, mean: Tensor, clients: int, gain: float) -> None:
        memory.common.lerp_(mean, _step(self.step, 1 + max(0.0, gain - 1) / clients))


def numbers_of(memory: Memory, clients: Tensor) -> list[int]:
    """The clients `[clients]` as a list; refuses those that the memory is not of."""
    population = len(memory.residual_rms)
    if not isinstance(clients, Tensor) or clients.dtype != torch.int64 or clients.ndim != 1:
        raise InputError(f"clients must be an int64 tensor [clients]; got {clients!r:.80}")
    numbers: list[int] = clients.tolist()
    if not all(0 <= number < population for number in numbers):
        raise InputError(
            f"clients must be 0 to {population - 1}, as the memory is of {population}; got"
            f" {numbers!r:.80}: init it for more"
        )
    return numbers


def check_waves(waves: int) -> None:
    """Refuses less than one wave."""
    if waves < 1:
        raise InputError(f"side_information.waves must be at least 1; got {waves}")


def _nothing(memory: Memory, clients: Tensor) -> Tensor:
    return memory.common.new_zeros(1, 1).expand(len(clients), memory.own.dim)


def _check(margin: float, step: float | None, sketch: int) -> None:
    if not (isinstance(sketch, int) and sketch >= 0):
        raise InputError(
            f"side_information.sketch must be at least 0, a whole number of floats; got {sketch!r}"
        )
    if not margin > 0 or not (step is None or 0 < step <= 1):
        raise InputError(
            "side information needs a margin above 0 and a step in (0, 1] or null; got"
            f" margin={margin}, step={step}"
        )


def _ratio(memory: Memory, margin: float, sketch: int) -> float:
    """Returns planned scale over residual RMS: the policy's margin, or that of the clients' sketches."""
    return margin_of_sketch(sketch, memory.own.dim) if sketch else margin


def _step(step: float | None, gain: float) -> float:
    return min(1.0, 1 / gain) if step is None else step


def _track(memory: Memory, decoded: Decoded) -> None:
    """Keeps the RMS of decoded residuals, without what decoding added to it."""
    clients = decoded.clients
    distances = squared_distances(decoded.expected, decoded.estimates).to(clients.device)
    rms = (distances / memory.own.dim / decoded.gain).sqrt().float()
    memory.residual_rms[clients] = torch.where(
        decoded.failed, 2 * memory.residual_rms[clients], rms
    )
