"""Whether a process that Hydra started carries out a run of a sweep, and beside others.

In this package, as processes on Slurm have no other folder to import from what a command's `main` calls.
"""

import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from wzfl.environment import exit_with_parent
from wzfl.errors import InputError


def in_sweep() -> bool:
    """Whether this process carries out runs of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def side_by_side() -> bool:
    """Whether it is one of several that do."""
    return in_sweep() and "Basic" not in HydraConfig.get().launcher._target_


def check_sweep() -> None:
    """Of a run of a sweep: that it is one of those its experiment asks for.

    Raises:
        InputError: several experiments were named, whose own sweeps Hydra then leaves out.
    """
    config = HydraConfig.get()
    named = {override.partition("=")[0].lstrip("+~") for override in config.overrides.task}
    if in_sweep() and (left_out := sorted(set(config.sweeper.params or {}) - named)):
        raise InputError(
            f"experiment={config.runtime.choices['experiment']} sweeps {', '.join(left_out)}, which is"
            " left out where one command names several experiments; start a command for each"
        )


def stay_with_sweep() -> None:
    """Of one of several: it ends with the process that started it, and works where that was started."""
    if side_by_side():
        exit_with_parent()
        os.chdir(HydraConfig.get().runtime.cwd)  # a cluster's processes may start elsewhere
