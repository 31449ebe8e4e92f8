"""Keeps the updates of some rounds of a training run, and what the server then expected of them.

    python scripts/record_updates.py
    python scripts/record_updates.py experiment=digits_by_class record_rounds=[5,60]

Writes results/updates/<dataset>_<partition>_round_<r>.safetensors, which
`python scripts/rate_distortion.py source=gradients` reads. Trains with the settings of
conf/record_updates.yaml, which are those of scripts/train.py, up to the last of these rounds.
"""

import logging
from pathlib import Path

from wzfl.errors import InputError  # isort: skip  # before torch: see wzfl.openmp

import hydra
from omegaconf import DictConfig, OmegaConf
from run_command import run_command
from torch import Tensor

from wzfl.config import conf_dir
from wzfl.environment import compute_deterministically, resolve_device
from wzfl.exchange import Diverged
from wzfl.prepared import prepared, used_settings
from wzfl.simulation import simulate
from wzfl.sources import save_recording

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="record_updates")
def main(config: DictConfig) -> None:
    compute_deterministically()
    config = OmegaConf.create(used_settings(config, "record_updates"))
    for round, (updates, side) in _vectors(config).items():
        path = (
            Path(config.results_dir) / "updates" / f"{config.recording}_round_{round}.safetensors"
        )
        choices = {"seed": config.seed, "bitrate": config.bitrate, "round": round, **config.names}
        save_recording(path, updates, side, choices)
        log.info("updates of round %d: %s", round, path)


def _vectors(config: DictConfig) -> dict[int, tuple[Tensor, Tensor]]:
    """Trains, and returns by round the updates and side information, both `[clients, dim]`.

    Raises:
        InputError: training diverges before.
    """
    federation, state, data = prepared(config, resolve_device(config.device))
    kept = {}

    def keep(round: int, updates: Tensor, side: Tensor) -> None:
        if round in config.record_rounds:
            kept[round] = (updates.cpu().clone(), side.cpu().clone())

    rounds = max(config.record_rounds)
    try:
        for _ in simulate(federation, state, rounds, rounds, data.test_x, data.test_y, keep):
            pass
    except Diverged as error:
        raise InputError(f"{error}; lower server.optimizer.lr or record earlier rounds") from error
    return kept


if __name__ == "__main__":
    run_command(main)
