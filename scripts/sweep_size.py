"""How many runs a sweep has, and how long a preset's may take on this machine."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from wzfl.config import conf_dir
from wzfl.results import ROUNDS

_PROBED = 3  # rounds


def choices(params: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, list[str]]:
    """The values that each key takes in a sweep: those of the command line, or an experiment's own.

    To be called while Hydra is initialized: glob(...) asks it which choices there are.
    """
    # The later one of two that name the same key counts.
    asked = [*(f"{key}={value}" for key, value in params.items()), *overrides]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    return {
        override.key_or_group: list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
        for override in parser.parse_overrides(asked)
    }


class Asked(NamedTuple):
    """A sweep before it starts.

    Attributes:
        config: of scripts/train.py, with what its experiment says.
        taken: the values that each key takes.
    """

    config: DictConfig
    taken: dict[str, list[str]]


def asked_of(overrides: Sequence[str]) -> Asked:
    """What `overrides`, those of `presets.overrides`, the experiment first, ask for."""
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        config = compose("train", [overrides[0]], return_hydra_config=True)
        return Asked(config, choices(config.hydra.sweeper.params, overrides))


def count(taken: Mapping[str, Sequence[str]]) -> int:
    """How many runs that spans; compressors of one bitrate are trained once for all of them."""
    return prod(len(values) for values in taken.values())


@dataclass(frozen=True)
class Size:
    """What a sweep takes.

    Attributes:
        runs: how many, at most.
        hours: of one process, if all runs of a compressor take as long as the one that was timed.
    """

    runs: int
    hours: float


def measure_sweep(overrides: Sequence[str]) -> Size:
    """Times some rounds of each of the sweep's compressors; the other keys take their values in turn.

    Args:
        overrides: those of `presets.overrides`, the experiment first.
    """
    config, taken = asked_of(overrides)
    rounds, every = (int(taken.get(key, [config[key]])[0]) for key in ("rounds", "eval_every"))
    turns = range(len(taken.get("compressor", [""])))
    times = [
        _times([f"{key}={values[turn % len(values)]}" for key, values in taken.items()])
        for turn in turns
    ]
    runs, seconds = count(taken), sum(plain + evaluation / every for plain, evaluation in times)
    return Size(runs, runs * rounds * seconds / len(times) / 3600)


def _times(run: Sequence[str]) -> tuple[float, float]:
    """Seconds of a round of this run, once it is warm, and of an evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).with_name("train.py")), *run]
        command += [f"rounds={_PROBED}", f"eval_every={_PROBED}"]
        command += ["tracking=none", f"results_dir={folder}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).glob(f"runs/*/{ROUNDS}")
        _cold, *warm, evaluated = pd.read_csv(path).seconds
        return min(warm), max(0.0, evaluated - min(warm))


def format_sizes(sizes: Mapping[str, Size]) -> str:
    """Lines of text: runs and hours by sweep, and in all with as many processes as there are cores."""
    lines = [
        f"{name}: {size.runs} runs, {size.hours:.2f} h of one process"
        for name, size in sizes.items()
    ]
    runs = sum(size.runs for size in sizes.values())
    hours, processes = sum(size.hours for size in sizes.values()), joblib.cpu_count()
    lines.append(
        f"in all at most {runs} runs, about {hours / processes:.1f} h with {processes} processes if these do"
        " not slow each other; what is finished already is not trained again"
    )
    return "\n".join(lines)
