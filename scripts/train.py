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

from wzfl.config import build, conf_dir
from wzfl.environment import (
    code_digest,
    compute_deterministically,
    describe_environment,
    keep_freed_memory,
    resolve_device,
)
from wzfl.exchange import Diverged
from wzfl.feedback import ClientMemory
from wzfl.frame import OVERHEAD_BYTES
from wzfl.partial_run import COLUMNS, PartialRun
from wzfl.prepared import Prepared, prepared, used_settings
from wzfl.results import (
    RunFolder,
    SweepFolder,
    described,
    load_config,
    load_metadata,
    run_id,
)
from wzfl.simulation import simulate
from wzfl.sweep_process import check_sweep, in_sweep, side_by_side, stay_with_sweep
from wzfl.tracking import Tracker, unless_disabled

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def main(config: DictConfig) -> None:
    stay_with_sweep()
    compute_deterministically()
    try:
        check_sweep()
        folder = carry_out(config)
    except InputError as error:
        if in_sweep():
            log.error("error: run %s: %s", " ".join(HydraConfig.get().overrides.task), error)
        raise
    if in_sweep():
        SweepFolder(Path(HydraConfig.get().sweep.dir)).mark(HydraConfig.get().job.num, folder.id)


def carry_out(config: DictConfig) -> RunFolder:
    """Trains the run that a config describes, unless it is there; returns its folder."""
    settings = used_settings(config, "train")
    if not in_sweep():
        settings["sweep"] = None
    folder = RunFolder(Path(config.results_dir) / "runs", run_id(settings))
    with folder.claimed():
        if folder.finished:
            log.info("run %s is already in %s", folder.id, folder.path)
            if load_metadata(folder.path)["environment"]["code"] != code_digest():
                log.warning("it was trained by other code of wzfl; remove it to train it anew")
            if (before := load_config(folder.path)["data_dir"]) != config.data_dir:
                log.warning("its data came from %s, not from %s", before, config.data_dir)
        else:
            train(settings, folder)
    return folder


def train(settings: dict[str, Any], folder: RunFolder) -> None:
    """Carries out one run and writes its folder."""
    keep_freed_memory()
    config = OmegaConf.create(settings)
    device = resolve_device(config.device)
    run = prepared(config, device)
    tracker = unless_disabled(build(config.tracking))
    _announce(folder.id, device, run, config)

    partial = PartialRun(folder, describe_environment(device), config.checkpoint_every)
    partial.begin(described(settings), run.state)
    goes_on = run.state.round > 0
    if goes_on:
        log.info("run %s goes on after round %d", folder.id, run.state.round)
    tracker.start(folder.id, described(settings), Path(config.results_dir), goes_on)
    try:
        for record in partial.rounds():
            tracker.log(record)
        diverged = _simulate(config, run, partial, tracker)
        summary = {"diverged_in_round": diverged} | _summary(run, partial)
    except BaseException:  # of whoever stops it, too
        tracker.fail()
        raise
    tracker.finish(summary)
    partial.finish({"summary": summary})
    log.info("run %s: %.1f s, in %s", folder.id, summary["wall_seconds"], folder.path)


def _simulate(
    config: DictConfig, run: Prepared, partial: PartialRun, tracker: Tracker
) -> int | None:
    """Carries out what rounds are left; returns that in which the run diverged, or None."""
    records = simulate(
        run.federation,
        run.state,
        rounds=config.rounds,
        eval_every=config.eval_every,
        test_x=run.data.test_x,
        test_y=run.data.test_y,
    )
    with _bar(config, run.state.round) as bar:
        try:
            for record in partial.record(records, run.state):
                tracker.log({key: record[key] for key in COLUMNS})
                bar.update()
        except Diverged as error:
            log.warning("run %s diverged: %s", partial.folder.id, error)
            return run.state.round + 1
    return None


def _bar(config: DictConfig, done: int) -> tqdm:
    """Makes a progress bar of the run's rounds, `done` of which are done."""
    return tqdm(
        total=config.rounds,
        initial=done,
        desc=config.names.compressor,
        unit="round",
        # Bars of several processes would overwrite each other; None hides a bar off a terminal.
        disable=True if side_by_side() else None,
        leave=False,
        position=1 if in_sweep() else 0,
    )


def _summary(run: Prepared, partial: PartialRun) -> dict[str, Any]:
    """Sums up a run that came to its end, for metadata.json."""
    dim, compressor = run.federation.model.dim, run.federation.compressor
    return {
        "dim": dim,
        "population": len(run.federation.shards),
        "bitrate": compressor.bitrate,
        "client_floats": dim if isinstance(compressor, ClientMemory) else 0,
        "wall_seconds": partial.seconds(),
    }


def _announce(id: str, device: torch.device, run: Prepared, config: DictConfig) -> None:
    federation, data = run.federation, run.data
    dim, bits = federation.model.dim, federation.compressor.bitrate
    payload = bits * dim / 8 + OVERHEAD_BYTES
    total = payload * config.rounds * config.clients_per_round
    log.info(
        f"run {id} on {device}: {data.name}, {len(data.train_y)} training and {len(data.test_y)} test"
        f" examples, {len(federation.shards)} clients, {config.clients_per_round} per round"
    )
    log.info(
        f"model {config.names.model}: {dim} parameters; compressor {config.names.compressor}: {bits:g}"
        f" bits each, about {_bytes(payload)} per payload, {_bytes(total)} in all"
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


if __name__ == "__main__":
    run_command(main)
