"""How a command ends when its input is bad: one message, no traceback, exit status 2.

1 where processes of a sweep were killed, whose work the next start takes up.
"""

import os
import sys
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
        if type(error).__name__ not in _KILLED:
            raise
        print(
            "error: a process of this sweep was killed (memory?); what is finished stays, and the same"
            " command goes on with the rest",
            file=sys.stderr,
        )
        sys.exit(1)


def _told(error: Exception) -> str:
    """The error's message; of a key that is not there, Hydra's advises to add it, which nobody would read."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        parent = cause.parent_node
        if isinstance(parent, DictConfig):
            return no_such_setting(str(cause.key), parent)
    return str(error)
