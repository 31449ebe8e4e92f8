"""The report of `make tune`: which step size suits which compressor and bitrate; trains nothing."""

from pathlib import Path

import pandas as pd
from presets import Preset

from wzfl.summary import load_sweep, save_tables
from wzfl.tuning import tuning_losses, tuning_report


def report_step_sizes(preset: Preset, skipped: dict[str, str]) -> Path | None:
    """The report, beside tables of runs and rounds; None where nothing has finished."""
    settings, sweeps = {}, []
    for entry in preset.experiments:
        runs, rounds = load_sweep(preset.results_dir, entry["name"])
        if runs.empty:
            skipped.setdefault(entry["name"], "has no finished run")
            continue
        settings[entry["title"]] = tuning_losses(runs, rounds)
        sweeps.append((runs, rounds))
    if not sweeps:
        return None
    runs, rounds = (pd.concat(frames) for frames in zip(*sweeps, strict=True))
    save_tables(preset.results_dir, runs, rounds)
    path = preset.results_dir / "report.md"
    path.write_text(tuning_report(settings, runs, skipped, preset.command))
    return path
