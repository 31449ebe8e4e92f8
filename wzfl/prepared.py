"""A run before its first round, from the config that describes it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from wzfl.client import Shard
from wzfl.compressors import Compressor, is_side_informed, uses_failed
from wzfl.config import build, settings_of
from wzfl.config_values import check_command
from wzfl.datasets import Dataset, to_device
from wzfl.errors import InputError
from wzfl.federation import Federation, State
from wzfl.partition import Partition
from wzfl.server import Server


class Prepared(NamedTuple):
    """A federation, its state before round 1, and the data whose test examples evaluate its weights."""

    federation: Federation
    state: State
    data: Dataset


def used_settings(config: DictConfig, command: str) -> dict[str, Any]:
    """Resolves a config, and sets what its run does not use to what does nothing.

    Runs that differ in nothing but that have the same settings, and so the same id.

    Args:
        config: as Hydra composes it.
        command: the name of its file in conf/, e.g. "train".

    Raises:
        InputError: a setting is unknown, or its value not usable.
    """
    check_command(config, command, settings_of(command))
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    compressor = build(config.compressor)
    if not is_side_informed(compressor):
        settings["side_information"] = {"_target_": "wzfl.side_information.Zero"}
        settings["names"]["side_information"] = "zero"
        settings["resend"] = False
    if uses_failed(compressor):
        settings["resend"] = False
    return {str(key): value for key, value in settings.items()}


def prepared(config: DictConfig, device: torch.device) -> Prepared:
    """Builds a run on a device; sets torch's threads in this process to as many as the config asks for.

    Raises:
        InputError: a part of the config can not be built, or does not fit the others.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    compressor: Compressor = build(config.compressor)
    data: Dataset = to_device(build(config.dataset), device)
    federation = _federation(config, compressor, data)
    weights = federation.model.init(config.seed).to(device)
    server = Server(weights, build(config.server.optimizer))
    return Prepared(federation, State.initial(federation, server), data)


def _federation(config: DictConfig, compressor: Compressor, data: Dataset) -> Federation:
    """The clients, their work and the codec."""
    partition: Partition = build(config.partition)
    parts = partition.split(data.train_y, config.seed)
    _check_parts(f"partition {config.partition._target_}", parts, len(data.train_y))
    aggregation = config.server.aggregation
    return Federation(
        model=build(config.model, input_shape=data.input_shape, classes=data.classes),
        shards=[Shard(data.train_x, data.train_y).rows(part) for part in parts],
        work=build(config.client),
        compressor=compressor,
        side_information=build(config.side_information),
        aggregation=compressor.aggregation if aggregation == "auto" else aggregation,
        clients_per_round=config.clients_per_round,
        seed=config.seed,
        channel=build(config.channel),
        resend=config.resend,
    )


def _check_parts(partition: str, parts: Sequence[Tensor], examples: int) -> None:
    """Raises InputError where `parts` are not what a partition of so many examples is to give."""
    if not len(parts):
        raise InputError(f"{partition} must give the examples of at least 1 client; got none")
    for client, part in enumerate(parts):
        if not isinstance(part, Tensor) or part.dtype not in (torch.int32, torch.int64):
            got = part.dtype if isinstance(part, Tensor) else type(part).__name__
            raise InputError(
                f"{partition} must give each client's indices as a tensor of torch.int64; got {got} for"
                f" client {client}"
            )
        if part.ndim != 1 or not len(part):
            raise InputError(
                f"{partition} must give every client at least one index, as [n]; got {list(part.shape)}"
                f" for client {client}"
            )
    dealt = torch.cat([part.cpu() for part in parts])
    lowest, highest = int(dealt.min()), int(dealt.max())
    if not 0 <= lowest <= highest < examples:
        raise InputError(
            f"{partition} must give indices of 0 to {examples - 1}, the training examples; got {lowest} to"
            f" {highest}"
        )
    if len(twice := (dealt.bincount() > 1).nonzero()):
        raise InputError(
            f"{partition} must give each example to one client, and once; got {len(twice)} that are given"
            f" again, among them {int(twice[0])}"
        )
