"""Draws how good side information was over rounds, by policy, from finished runs; trains nothing.

    python scripts/plot_correlation.py [--results-dir results/correlation] [--tracking wandb]

Reads the runs of `make correlation`; writes figures/history_by_policy, history.csv and report.md. Where runs
are not at hand, the figure is drawn from history.csv; the report stays, it is of clients one by one.
"""

import sys
from pathlib import Path

import pandas as pd
from plans import Plan, parse_plan

from wzfl.correlation import (
    correlation_report,
    load_history,
    load_rounds,
    rounds_of,
    save_rounds,
)
from wzfl.correlation_plots import history_by_policy
from wzfl.plots import save
from wzfl.summary import load_sweep

_FIGURE = "history_by_policy"


def draw_correlation(plan: Plan, skipped: dict[str, str]) -> Path | None:
    """The report; None where nothing has finished and nothing was drawn before."""
    settings, runs = {}, []
    for entry in plan.experiments:
        history = load_history(plan.results_dir, entry["name"])
        if history.empty:
            skipped.setdefault(entry["name"], "has no finished run")
            continue
        settings[entry["title"]] = history
        runs.append(load_sweep(plan.results_dir, entry["name"])[0])
    path = plan.results_dir / "report.md"
    if settings:
        save_rounds(plan.results_dir, {title: rounds_of(own) for title, own in settings.items()})
    rounds = load_rounds(plan.results_dir)
    if rounds:
        save(history_by_policy(rounds), plan.results_dir / "figures", _FIGURE)
    if not settings:
        return path if rounds and path.is_file() else None
    path.write_text(correlation_report(settings, pd.concat(runs), skipped, [_FIGURE], plan.command))
    return path


def main() -> None:
    plan = parse_plan(__doc__, preset="correlation")
    path = draw_correlation(plan, {})
    if path is None:
        sys.exit(
            f"error: no finished experiments in {plan.results_dir}; run `{plan.command}` first"
        )
    plan.track(path)
    print(path)


if __name__ == "__main__":
    main()
