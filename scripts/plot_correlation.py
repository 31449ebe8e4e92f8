"""Draws how good side information was over rounds, by policy, from finished runs; trains nothing.

    python scripts/plot_correlation.py [--results-dir results/correlation] [--tracking wandb]

Reads the runs of `make correlation`; writes figures/history_by_policy, history.csv and report.md.
"""

import sys
from pathlib import Path

import pandas as pd
from plans import Plan, parse_plan

from wzfl.correlation import correlation_report, load_history, rounds_of
from wzfl.correlation_plots import history_by_policy
from wzfl.plots import save
from wzfl.summary import load_sweep

_FIGURE = "history_by_policy"


def draw_correlation(plan: Plan, skipped: dict[str, str]) -> Path | None:
    """The report; None where nothing has finished."""
    settings, runs = {}, []
    for entry in plan.experiments:
        history = load_history(plan.results_dir, entry["name"])
        if history.empty:
            skipped.setdefault(entry["name"], "has no finished run")
            continue
        settings[entry["title"]] = history
        runs.append(load_sweep(plan.results_dir, entry["name"])[0])
    if not settings:
        return None
    save(history_by_policy(settings), plan.results_dir / "figures", _FIGURE)
    tables = [rounds_of(history).assign(setting=title) for title, history in settings.items()]
    pd.concat(tables).to_csv(plan.results_dir / "history.csv", index=False)
    path = plan.results_dir / "report.md"
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
