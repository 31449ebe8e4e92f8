"""What there is of a preset's experiments: their runs, or the tables of earlier ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from presets import Preset, overrides
from sweep_size import asked_of, count

from wzfl.config import conf_dir
from wzfl.reporting.summary import load_sweep, load_tables, save_tables
from wzfl.results import SweepFolder

Frames = tuple[pd.DataFrame, pd.DataFrame]  # of runs and rounds


def load_finished(preset: Preset, entry: dict[str, Any], skipped: dict[str, str]) -> Frames:
    """Runs and rounds as of `load_sweep`; of a sweep that is not at its end, `skipped` says so.

    Then, where the tables of the results folder know more of its runs, it is these that are shown.
    """
    name, results_dir = entry["name"], preset.results_dir
    folder = SweepFolder(results_dir / "sweeps" / name)
    done, asked = folder.count(), _asked(entry)
    if not 0 < done < asked:
        return load_sweep(results_dir, name)
    runs, rounds = load_tables(results_dir, name)
    earlier = len(runs) > len(folder.ids())
    shown = f"the {len(runs)} that runs.csv has of it are shown" if earlier else "these are shown"
    reasons = [skipped.get(name), f"{done} of its {asked} runs have finished; {shown}"]
    skipped[name] = "; ".join(filter(None, reasons))
    return (runs, rounds) if earlier else load_sweep(results_dir, name)


def _asked(entry: dict[str, Any]) -> int:
    """How many runs it has in the end; 0 of a sweep that the command line alone described."""
    experiment = entry.get("experiment", entry["name"])
    if not (conf_dir() / "experiment" / f"{experiment}.yaml").is_file():
        return 0
    return count(asked_of(overrides(entry)).taken)


def save_finished(
    results_dir: Path, shown: Mapping[str, Frames], skipped: Mapping[str, str]
) -> None:
    """Writes the tables of experiments that are shown; rows of others stay if these were skipped."""
    kept = [load_tables(results_dir, name) for name in sorted(skipped.keys() - shown.keys())]
    runs, rounds = (pd.concat(frames) for frames in zip(*shown.values(), *kept, strict=True))
    save_tables(results_dir, runs, rounds)
