"""Measures bits and errors of one compressor on vectors, or with -m of all; trains nothing.

    python scripts/rate_distortion.py compressor=qsgd bitrate=4 source=lognormal
    python scripts/rate_distortion.py -m source=gaussian,lognormal,sparse

A job is a row of results/rate_distortion.csv; a sweep ends with the figures. See
conf/rate_distortion.yaml.
"""

import logging
from pathlib import Path

from wzfl.errors import InputError  # isort: skip  # before torch: see wzfl.openmp

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rate_distortion_figures import TABLE
from run_command import run_command

from wzfl.config import build, conf_dir, settings_of
from wzfl.config_values import check_command
from wzfl.environment import compute_deterministically
from wzfl.rate_distortion import measure, merge_row
from wzfl.results import SweepFolder
from wzfl.sources import Source
from wzfl.sweep_process import in_sweep, stay_with_sweep

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="rate_distortion")
def main(config: DictConfig) -> None:
    stay_with_sweep()
    settings = HydraConfig.get()
    compute_deterministically()
    command = settings.job.config_name
    assert command is not None
    check_command(config, command, settings_of(command))
    torch.set_num_threads(config.threads)
    source: Source = build(config.source)
    # What is wrong with the source is no matter of the compressor, so it is asked first. Recordings
    # bring their own clients, over whom correlated spreads its thresholds.
    config.clients = len(source.draw(config.seed)[0])
    try:
        measured = measure(build(config.compressor), source, config.draws, config.seed)
    except InputError as error:
        if not in_sweep():
            raise
        log.info("left out %s: %s", config.names.compressor, error)
    else:
        row = measured | {"compressor": config.names.compressor}
        merge_row(Path(config.results_dir) / TABLE, row)
        log.info("%s", _line(row))
    if in_sweep():
        SweepFolder(Path(settings.sweep.dir)).mark(settings.job.num, config.names.compressor)


def _line(row: dict) -> str:
    return (
        f"{row['source']}: {row['compressor']} {row['bits_per_coordinate']:.4g} bits,"
        f" NMSE {row['nmse']:.4g}, {row['gap_db']:.2f} dB from the {row['limit']} limit"
    )


if __name__ == "__main__":
    run_command(main)
