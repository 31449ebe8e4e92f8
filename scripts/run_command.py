"""How a command ends when its input is bad: one message, no traceback, exit status 2.

1 where processes of a sweep were killed, whose work the next start takes up.
"""

import os
import sys
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

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
        print(f"error: {error}", file=sys.stderr)
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
