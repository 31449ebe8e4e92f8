"""A run before its first round, from the config that describes it."""

from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from wzfl.client import Shard
from wzfl.compressors import Compressor
from wzfl.config import build
from wzfl.datasets import Dataset, to_device
from wzfl.federation import Federation, State
from wzfl.server import Server


class Prepared(NamedTuple):
    """What is simulated, and the data whose test examples its weights are evaluated on."""

    federation: Federation
    state: State
    data: Dataset


def prepared(config: DictConfig, settings: dict[str, Any], device: torch.device) -> Prepared:
    """The run of a config on a device, with as many of torch's threads in this process as it asks for.

    `settings` is the same without what this run does not use.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    compressor: Compressor = build(config.compressor)
    data: Dataset = to_device(build(config.dataset), device)
    federation = _federation(config, settings, compressor, data)
    weights = federation.model.init(config.seed).to(device)
    server = Server(weights, build(config.server.optimizer))
    return Prepared(federation, State.initial(federation, server), data)


def _federation(
    config: DictConfig, settings: dict[str, Any], compressor: Compressor, data: Dataset
) -> Federation:
    """The clients, their work and the codec."""
    parts = build(config.partition).split(data.train_y, config.seed)
    aggregation = config.server.aggregation
    return Federation(
        model=build(config.model, input_shape=data.input_shape, classes=data.classes),
        shards=[Shard(data.train_x, data.train_y).rows(part) for part in parts],
        work=build(config.client),
        compressor=compressor,
        side_information=build(OmegaConf.create(settings).side_information),
        aggregation=compressor.aggregation if aggregation == "auto" else aggregation,
        clients_per_round=config.clients_per_round,
        seed=config.seed,
        channel=build(config.channel),
        resend=config.resend,
    )
