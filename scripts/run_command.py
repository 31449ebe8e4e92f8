"""How a command ends when its input is bad: one message, no traceback, exit status 2.

1 where processes of a sweep were killed, whose work the next start takes up.
"""

import os
import sys
import traceback
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from wzfl.config_values import no_such_setting
from wzfl.errors import InputError

# What the launchers of joblib, submitit and Ray then raise, by name: not all of them are installed.
_KILLED = {
    *("BrokenProcessPool", "TerminatedWorkerError"),
    *("UncompletedJobError", "WorkerCrashedError"),
}

# Where libraries refuse by a ValueError what a command line asks of them, and what to ask instead.
_REFUSALS = {
    "hydra._internal.utils._run_hydra": "see --hydra-help",
    "hydra._internal.defaults_list.__init__": (
        "null is no choice of a group; --help lists those there are"
    ),
    "joblib._parallel_backends.effective_n_jobs": (
        "hydra.launcher.n_jobs must be at least 1, or -1 for all cores"
    ),
}


def run_command(main: Callable[[], object]) -> None:
    """Calls `main`; a bug keeps its traceback."""
    # Hydra would print a shortened traceback itself; with this it lets errors through to here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_told(error)}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if isinstance(error, ValueError) and (instead := _REFUSALS.get(_raised_in(error))):
            print(f"error: {error}; {instead}", file=sys.stderr)
            sys.exit(2)
        if type(error).__name__ not in _KILLED:
            raise
        print(
            "error: a process of this sweep was killed (memory?); what is finished stays, and the same"
            " command goes on with the rest",
            file=sys.stderr,
        )
        sys.exit(1)


def _raised_in(error: Exception) -> str:
    """Module and function."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"


def _told(error: Exception) -> str:
    """The error's message; of a key that is not there, Hydra's advises to add it, which nobody would read."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        parent = cause.parent_node
        if isinstance(parent, DictConfig):
            return no_such_setting(str(cause.key), parent)
    return str(error)
