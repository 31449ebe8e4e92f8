"""Figures, tables and report from the finished runs of conf/reproduce.yaml; trains nothing.

python scripts/draw.py [--preset default] [--results-dir results]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rate_distortion_figures import TABLE, draw_rate_distortion

from wzfl.config import conf_dir
from wzfl.error_plots import errors_by_round
from wzfl.plots import against_bits, by_bitrate, save
from wzfl.rate_distortion import load_table
from wzfl.report import Sweep, report
from wzfl.summary import BASELINE, load_sweep, methods

ROUNDS = "rounds.csv.gz"
_COLUMNS = {"accuracy": ("test_accuracy", "test accuracy"), "loss": ("train_loss", "training loss")}


def draw(results_dir: Path, plan: list[dict[str, Any]], skipped: dict[str, str]) -> Path | None:
    """Writes figures, tables and report.md below `results_dir`; returns the report.

    None where no experiment is finished: then only measurements on vectors are drawn.
    """
    vectors = draw_rate_distortion(results_dir)
    sweeps = []
    for entry in plan:
        runs, rounds = load_sweep(results_dir, entry["name"])
        if runs.empty or "none" not in set(runs.compressor):
            skipped.setdefault(entry["name"], "has no finished float32 run to compare with")
            continue
        table = methods(runs, rounds)
        sweeps.append(Sweep(entry["name"], entry["title"], runs, rounds, table, entry["shows"]))
    if not sweeps:
        if not vectors:
            sys.exit(f"error: no finished experiments in {results_dir}; run `make reproduce` first")
        return None
    _tables(results_dir, sweeps)
    path = results_dir / "report.md"
    figures = _figures(results_dir, plan, sweeps) + vectors
    table = results_dir / TABLE
    measured = load_table(table) if table.is_file() else None
    path.write_text(report(sweeps, skipped, figures, measured))
    return path


def _tables(results_dir: Path, sweeps: list[Sweep]) -> None:
    runs = pd.concat([sweep.runs for sweep in sweeps])
    runs.drop(columns="wall_seconds").to_csv(results_dir / "runs.csv", index=False)
    tables = [sweep.methods.assign(sweep=sweep.name) for sweep in sweeps]
    pd.concat(tables).to_csv(results_dir / "methods.csv", index=False)
    # Without a time of its own, the same rounds are the same bytes.
    pd.concat([sweep.rounds.drop(columns="seconds") for sweep in sweeps]).to_csv(
        results_dir / ROUNDS, index=False, compression={"method": "gzip", "mtime": 0}
    )


def _figures(results_dir: Path, plan: list[dict[str, Any]], sweeps: list[Sweep]) -> list[str]:
    """The names of the figures drawn: two per data set and kind, one of all errors."""
    names = []
    errors = [
        (sweep.title, sweep.rounds)
        for sweep in sweeps
        if sweep.shows == "error" and set(sweep.runs.compressor) != {BASELINE}
    ]
    informed = [(title, _informed(rounds)) for title, rounds in errors]
    for name, shown, column in (
        ("errors_by_round", errors, "nmse"),
        ("history_by_round", informed, "side_information_error"),
    ):
        if any(len(rounds) for _, rounds in shown):
            save(errors_by_round(shown, column), results_dir / "figures", name)
            names.append(name)
    datasets = {entry["name"]: entry["dataset"] for entry in plan}
    for dataset in dict.fromkeys(datasets[sweep.name] for sweep in sweeps):
        for shows, (column, ylabel) in _COLUMNS.items():
            rows = [
                (sweep.title, sweep.rounds, sweep.methods)
                for sweep in sweeps
                if datasets[sweep.name] == dataset and sweep.shows == shows
            ]
            if not rows:
                continue
            final = "accuracy" if shows == "accuracy" else "excess_loss"
            drawn = {
                f"{shows}_vs_bits_{dataset}": against_bits(rows, column, ylabel),
                f"{shows}_vs_bitrate_{dataset}": by_bitrate(rows, final),
            }
            for name, figure in drawn.items():
                save(figure, results_dir / "figures", name)
                names.append(name)
    return names


def _informed(rounds: pd.DataFrame) -> pd.DataFrame:
    """Those of compressors with side information, whose error is not always that of none."""
    used = rounds.groupby("compressor").side_information_error.transform(lambda e: (e != 1).any())
    return rounds[used]


def load_plan(preset: str) -> list[dict[str, Any]]:
    """The experiments of a preset."""
    plan: list[dict[str, Any]] = yaml.safe_load((conf_dir() / "reproduce.yaml").read_text())[preset]
    return plan


def plan_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that say what is reproduced, and where."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--preset", default="default", choices=["default", "beyond", "accuracy", "smoke"]
    )
    parser.add_argument("--results-dir", default="results", help="where results are (results)")
    return parser


def main() -> None:
    arguments = plan_parser(__doc__).parse_args()
    results_dir = Path(arguments.results_dir)
    report_path = draw(results_dir, load_plan(arguments.preset), {})
    print(report_path or f"figures of vectors only: no finished experiments in {results_dir}")


if __name__ == "__main__":
    main()
