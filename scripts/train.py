"""Trains one federated run, or with -m a sweep of them; see conf/train.yaml.

    python scripts/train.py compressor=wyner_ziv bitrate=2 dataset=mnist
    python scripts/train.py -m compressor=none,wyner_ziv,qsgd bitrate=1,2,4 seed=0,1,2

A run lands in results/runs/<id>/; one that is already there is not trained again.
"""

import logging
from pathlib import Path
from typing import Any

from wzfl.errors import InputError  # isort: skip  # before torch: see wzfl.openmp

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from run_command import run_command
from tqdm import tqdm

from wzfl.client import Shard
from wzfl.compressors import Compressor, SideInformed
from wzfl.config import build, conf_dir, settings_of
from wzfl.config_values import check_command
from wzfl.datasets import Dataset, to_device
from wzfl.environment import (
    compute_deterministically,
    describe_environment,
    keep_freed_memory,
    resolve_device,
)
from wzfl.exchange import Diverged
from wzfl.federation import Federation, State
from wzfl.feedback import ClientMemory
from wzfl.frame import OVERHEAD_BYTES
from wzfl.partial_run import COLUMNS, PartialRun
from wzfl.results import RunFolder, SweepFolder, load_config, run_id
from wzfl.server import Server
from wzfl.simulation import simulate
from wzfl.sweep_process import in_sweep, side_by_side, stay_with_sweep

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def main(config: DictConfig) -> None:
    stay_with_sweep()
    compute_deterministically()
    try:
        folder = carry_out(config)
    except InputError as error:
        if in_sweep():
            log.error("error: run %s: %s", " ".join(HydraConfig.get().overrides.task), error)
        raise
    if in_sweep():
        SweepFolder(Path(HydraConfig.get().sweep.dir)).mark(HydraConfig.get().job.num, folder.id)


def carry_out(config: DictConfig) -> RunFolder:
    """The folder of the run that a config describes, which is trained unless it is there."""
    settings = used_settings(config)
    folder = RunFolder(Path(config.results_dir) / "runs", run_id(settings))
    with folder.claimed():
        if folder.finished:
            log.info("run %s is already in %s", folder.id, folder.path)
            if (before := load_config(folder.path)["data_dir"]) != config.data_dir:
                log.warning("its data came from %s, not from %s", before, config.data_dir)
        else:
            train(config, settings, folder)
    return folder


def train(config: DictConfig, settings: dict[str, Any], folder: RunFolder) -> None:
    """Carries out one run and writes its folder."""
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    compressor: Compressor = build(config.compressor)
    data: Dataset = to_device(build(config.dataset), device)
    federation = build_federation(config, settings, compressor, data)
    server = Server(federation.model.init(config.seed).to(device), build(config.server.optimizer))
    tracker = build(config.tracking)
    _announce(folder.id, device, data, federation, config)

    state = State.initial(federation, server)
    partial = PartialRun(folder, describe_environment(device), config.checkpoint_every)
    partial.begin(settings, state)
    if state.round:
        log.info("run %s goes on after round %d", folder.id, state.round)
    tracker.start(folder.id, settings, Path(config.results_dir), goes_on=state.round > 0)
    for record in partial.rounds():
        tracker.log(record)
    summary: dict[str, Any] = {"diverged_in_round": None}
    records = simulate(
        federation, state, config.rounds, config.eval_every, data.test_x, data.test_y
    )
    # Bars of several processes would overwrite each other; None hides a bar off a terminal.
    hidden = True if side_by_side() else None
    bar = tqdm(
        total=config.rounds,
        initial=state.round,
        desc=config.names.compressor,
        unit="round",
        disable=hidden,
        leave=False,
        position=1 if in_sweep() else 0,
    )
    try:
        for record in partial.record(records, state):
            tracker.log({key: record[key] for key in COLUMNS})
            bar.update()
    except Diverged as error:
        log.warning("run %s diverged: %s", folder.id, error)
        summary["diverged_in_round"] = state.round + 1
    bar.close()
    summary |= {
        "dim": federation.model.dim,
        "population": len(federation.shards),
        "bitrate": compressor.bitrate,
        "client_floats": federation.model.dim if isinstance(compressor, ClientMemory) else 0,
        "wall_seconds": partial.total("seconds"),
    }
    tracker.finish(summary)
    partial.finish({"summary": summary})
    log.info("run %s: %.1f s, in %s", folder.id, summary["wall_seconds"], folder.path)


def used_settings(config: DictConfig) -> dict[str, Any]:
    """The resolved config, without what this run does not use."""
    command = HydraConfig.get().job.config_name
    check_command(config, command, settings_of(command))
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    compressor = build(config.compressor)
    if getattr(compressor, "uses_failed", False):
        settings["resend"] = False
    if not isinstance(compressor, SideInformed):
        settings["side_information"] = {"_target_": "wzfl.side_information.Zero"}
        settings["names"]["side_information"] = "zero"
        settings["resend"] = False
    # Without these, a run is what it was before there were any.
    if settings["names"]["channel"] == "perfect":
        del settings["channel"], settings["names"]["channel"]
    if not settings["resend"]:
        del settings["resend"]
    if not in_sweep():
        settings["sweep"] = None
    return {str(key): value for key, value in settings.items()}


def build_federation(
    config: DictConfig, settings: dict[str, Any], compressor: Compressor, data: Dataset
) -> Federation:
    """The clients, their work and the codec that a config describes."""
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


def _announce(
    run: str, device: torch.device, data: Dataset, federation: Federation, config: DictConfig
) -> None:
    dim, bits = federation.model.dim, federation.compressor.bitrate
    payload = bits * dim / 8 + OVERHEAD_BYTES
    total = payload * config.rounds * config.clients_per_round
    log.info(
        "run %s on %s: %s, %d training and %d test examples, %d clients, %d per round",
        *(run, device, data.name, len(data.train_y), len(data.test_y)),
        *(len(federation.shards), config.clients_per_round),
    )
    log.info(
        "model %s: %d parameters; compressor %s: %g bits each, about %s per payload, %s in all",
        *(config.names.model, dim, config.names.compressor, bits, _bytes(payload), _bytes(total)),
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


if __name__ == "__main__":
    run_command(main)
