"""The report of `make correlation`: how good side information was over rounds, by policy; trains nothing."""

from pathlib import Path

import pandas as pd
from finished import load_finished
from presets import Preset

from wzfl.reporting.correlation import (
    correlation_report,
    load_history,
    load_history_rounds,
    rounds_of,
    save_rounds,
)
from wzfl.reporting.correlation_plots import history_by_policy
from wzfl.reporting.figures import save

_FIGURE = "history_by_policy"


def report_correlation(preset: Preset, skipped: dict[str, str]) -> Path | None:
    """Writes report.md, figures/history_by_policy and history.csv; returns the report.

    Where runs are not at hand, the figure is drawn from history.csv; the report stays, it is of clients one
    by one. None where nothing has finished and nothing was drawn before.
    """
    settings, runs = {}, []
    for entry in preset.experiments:
        history = load_history(preset.results_dir, entry["name"])
        if history.empty:
            skipped.setdefault(entry["name"], "has no finished run")
            continue
        settings[entry["title"]] = history
        runs.append(load_finished(preset, entry, skipped)[0])
    path = preset.results_dir / "report.md"
    if settings:
        save_rounds(preset.results_dir, {title: rounds_of(own) for title, own in settings.items()})
    rounds = load_history_rounds(preset.results_dir)
    if rounds:
        save(history_by_policy(rounds), preset.results_dir / "figures", _FIGURE)
    if not settings:
        return path if rounds and path.is_file() else None
    path.write_text(
        correlation_report(settings, pd.concat(runs), skipped, [_FIGURE], preset.command)
    )
    return path
