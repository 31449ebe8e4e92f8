"""The report of `make tune`: which step size suits which compressor and bitrate; trains nothing."""

from pathlib import Path

import pandas as pd
from finished import load_finished, save_finished
from presets import Preset

from wzfl.reporting.tuning import tuning_losses, tuning_report


def report_step_sizes(preset: Preset, skipped: dict[str, str]) -> Path | None:
    """The report, beside tables of runs and rounds; None where nothing has finished."""
    settings, shown = {}, {}
    for entry in preset.experiments:
        runs, rounds = load_finished(preset, entry, skipped)
        if runs.empty:
            skipped.setdefault(entry["name"], "has no finished run")
            continue
        settings[entry["title"]] = tuning_losses(runs, rounds)
        shown[entry["name"]] = (runs, rounds)
    if not shown:
        return None
    save_finished(preset.results_dir, shown, skipped)
    runs = pd.concat([runs for runs, _ in shown.values()])
    path = preset.results_dir / "report.md"
    path.write_text(tuning_report(settings, runs, skipped, preset.command))
    return path
