"""Describes a federation: what does not change from round to round, and what does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from wzfl.channel import Channel, Perfect
from wzfl.client import ClientWork, Shard
from wzfl.compressors import Compressor, is_planned, is_side_informed, uses_failed
from wzfl.errors import InputError
from wzfl.feedback import ClientMemory, ServerMemory
from wzfl.linear import Linear
from wzfl.models import Model
from wzfl.residual_model import ResidualModel
from wzfl.server import Aggregate, Server
from wzfl.side_information import Mean, Memory, ModelsResiduals, SideInformation


@dataclass(frozen=True, eq=False)
class Federation:
    """A federation's parts and settings, which do not change from round to round.

    Attributes:
        shards: the examples of every client of the population.
        aggregation: "mean" or "majority_vote".
        clients_per_round: how many clients, drawn uniformly, take part in a round.
        seed: decides client sampling, batches and all shared randomness.
        channel: carries payloads to the server.
        resend: whether clients whose payload failed the decoder's check are asked to send again in the
            same round (`wzfl.resend`); not under a compressor that makes use of such payloads
            (`uses_failed`).
    """

    model: Model
    shards: Sequence[Shard]
    work: ClientWork
    compressor: Compressor
    side_information: SideInformation
    aggregation: str
    clients_per_round: int
    seed: int
    channel: Channel = Perfect()  # noqa: RUF009  # frozen
    resend: bool = False

    def __post_init__(self) -> None:
        Aggregate(self.aggregation)  # says, before a round does, that it is none
        if not 1 <= self.clients_per_round <= len(self.shards):
            raise InputError(
                f"clients_per_round must be 1 to {len(self.shards)}, the number of clients;"
                f" got {self.clients_per_round}"
            )
        averages = isinstance(self.side_information, Mean | Linear)
        if self.aggregation == "majority_vote" and averages and is_side_informed(self.compressor):
            raise InputError(
                f"side_information={type(self.side_information).__name__.lower()} learns from the mean of"
                " updates, which majority_vote does not give; take server.aggregation=mean, or"
                " side_information=last"
            )
        models = isinstance(self.side_information, ModelsResiduals)
        if models and not is_planned(self.compressor):
            raise InputError(
                f"side_information={type(self.side_information).__name__.lower()} models residuals, which"
                f" {type(self.compressor).__name__} does not use; take linear, or learned_slepian_wolf"
            )

    @cached_property  # for each client once a round, and `isinstance` of a protocol takes long
    def models_residuals(self) -> bool:
        """Whether the server plans payloads from a model, rather than from a scale."""
        return is_planned(self.compressor) and isinstance(self.side_information, ModelsResiduals)

    @cached_property
    def measures_scales(self) -> bool:
        """Whether clients measure their scales by a sketch, rather than being sent them."""
        informed = is_side_informed(self.compressor) and not self.models_residuals
        return informed and self.side_information.sketch > 0

    @property
    def resends(self) -> bool:
        """Whether clients are asked to send again what failed."""
        return self.resend and not uses_failed(self.compressor)

    def residual_model(self, memory: Memory, clients: Tensor) -> ResidualModel | None:
        """Returns the model that payloads are planned from and decoded with; None where there is none."""
        if self.models_residuals:
            assert isinstance(self.side_information, ModelsResiduals)
            return self.side_information.model(memory, clients)
        return None

    def residual_gain(self, memory: Memory) -> float:
        """Expected energy of decoded over true residuals, if the planned scale is right."""
        if is_side_informed(self.compressor):
            ratio = self.side_information.scale_ratio(memory)
            return self.compressor.residual_gain(self.model.dim, ratio)
        return 1.0


@dataclass
class State:
    """All that changes from round to round, and that a checkpoint must hold.

    Attributes:
        round: number of the last finished round.
        server: weights and optimizer.
        last_round: int64 `[population]`, the round in which each client was last received; 0 if never.
        side: the memory of the side information's policy; server only.
        client_memory: `[population, dim]` floats that the clients keep, or None.
        server_memory: as many that the server keeps for the clients' compressor, or None.
    """

    round: int
    server: Server
    last_round: Tensor
    side: Memory
    client_memory: Tensor | None
    server_memory: Tensor | None

    @classmethod
    def initial(cls, federation: Federation, server: Server) -> "State":
        population, dim = len(federation.shards), federation.model.dim
        device, compressor = server.weights.device, federation.compressor
        clients = server_side = None
        if isinstance(compressor, ClientMemory):
            clients = compressor.init(population, dim, device)
            if isinstance(compressor, ServerMemory):
                server_side = compressor.init(population, dim, device)
        side = federation.side_information.init(population, dim, device)
        last_round = torch.zeros(population, dtype=torch.int64, device=device)
        return cls(0, server, last_round, side, clients, server_side)

    def contents(self) -> dict[str, Any]:
        """Returns everything by name, for a checkpoint."""
        each = {field.name: getattr(self, field.name) for field in fields(self)}
        return each | {"server": self.server.contents()}

    def restore(self, contents: Mapping[str, Any]) -> None:
        """Takes over the `contents` of a run of the same settings."""
        for name, value in contents.items():
            if name != "server":
                setattr(self, name, value)
        self.server.restore(contents["server"])
