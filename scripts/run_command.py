"""How commands begin and end: with help from their docstring, and on bad input with one message.

No traceback then, and exit status 2. Exit status 1 where a process of a sweep was killed; the next start
resumes it.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

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


class _HelpWithDefaults(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and after an option's help its default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default is not None and action.nargs != 0  # a flag takes no value
        return f"{action.help} (%(default)s)" if shown else action.help


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a script's docstring, and its options with their defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=_HelpWithDefaults)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Ends the process with the exit status that `main` returns; a bug keeps its traceback."""
    # Hydra would print a shortened traceback itself; with this it lets errors through to here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        sys.exit(main())
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_message(error)}", file=sys.stderr)
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


def _message(error: Exception) -> str:
    """The error's message; of a key that is not there, Hydra's advises to add it, which nobody would read."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        parent = cause.parent_node
        if isinstance(parent, DictConfig):
            return no_such_setting(str(cause.key), parent)
    return str(error)
