"""What a process that Hydra started has to know of the sweep whose runs it carries out.

It is part of the package, since processes on Slurm can import from nowhere else what a command calls.
"""

import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from wzfl.environment import exit_with_parent
from wzfl.errors import InputError


def in_sweep() -> bool:
    """Tells whether this process carries out runs of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def side_by_side() -> bool:
    """Tells whether this process is one of several that carry out runs of a sweep at once."""
    return in_sweep() and "Basic" not in HydraConfig.get().launcher._target_


def check_sweep() -> None:
    """Checks that a sweep takes the values that its experiment asks for.

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
    """Lets one of several processes end with its parent, and work in the folder where that was started."""
    if side_by_side():
        exit_with_parent()
        os.chdir(HydraConfig.get().runtime.cwd)  # a cluster's processes may start elsewhere
