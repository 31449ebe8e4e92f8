"""Whether a process that Hydra started carries out a run of a sweep, and beside others.

In this package, as processes on Slurm have no other folder to import from what a command's `main` calls.
"""

import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from wzfl.environment import exit_with_parent


def in_sweep() -> bool:
    """Whether this process carries out runs of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def side_by_side() -> bool:
    """Whether it is one of several that do."""
    return in_sweep() and "Basic" not in HydraConfig.get().launcher._target_


def stay_with_sweep() -> None:
    """Of one of several: it ends with the process that started it, and is in the sweep's folder."""
    if side_by_side():
        exit_with_parent()
        os.chdir(HydraConfig.get().runtime.cwd)  # a cluster's processes may start elsewhere
