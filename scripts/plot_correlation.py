"""Draws how good side information was over rounds, by policy, from finished runs; trains nothing.

    python scripts/plot_correlation.py [--results-dir results/correlation] [--tracking wandb]

Reads the runs of `make correlation`; writes figures/history_by_policy, history.csv and report.md. Where runs
are not at hand, the figure is drawn from history.csv; the report stays, it is of clients one by one.
"""

import sys
from pathlib import Path

import pandas as pd
from finished import load_finished
from presets import Preset, parse_preset

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


def draw_correlation(preset: Preset, skipped: dict[str, str]) -> Path | None:
    """The report; None where nothing has finished and nothing was drawn before."""
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


def main() -> None:
    preset = parse_preset(__doc__, default="correlation")
    path = draw_correlation(preset, {})
    if path is None:
        sys.exit(
            f"error: no finished experiments in {preset.results_dir}; run `{preset.command}` first"
        )
    preset.track(path)
    print(path)


if __name__ == "__main__":
    main()
