"""Figures, tables and report from the finished runs of conf/reproduce.yaml; trains nothing.

Without the runs, from the tables that were made of them.

python scripts/draw.py [--preset default] [--results-dir results] [--tracking wandb]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from correlation_report import report_correlation
from finished import load_finished, save_finished
from presets import Preset, parse_preset
from rate_distortion_figures import draw_rate_distortion
from run_command import run_command
from step_sizes import report_step_sizes

from wzfl.reporting.bits_plots import against_bits, by_bitrate
from wzfl.reporting.condition_plots import accuracy_by_condition
from wzfl.reporting.error_plots import errors_by_round
from wzfl.reporting.figures import save
from wzfl.reporting.intervals import BASELINE
from wzfl.reporting.report import report
from wzfl.reporting.summary import Sweep, ambiguity, methods
from wzfl.tables import read_table, save_table

_COLUMNS = {"accuracy": ("test_accuracy", "test accuracy"), "loss": ("train_loss", "training loss")}


def draw(preset: Preset, skipped: dict[str, str]) -> Path | None:
    """Writes figures, tables and report.md of what has finished; returns the report.

    None where no experiment is finished: then only measurements on vectors are drawn.
    """
    vectors = draw_rate_distortion(preset.results_dir)
    shown = {entry["shows"] for entry in preset.experiments}
    if "correlation" in shown:
        report_path = report_correlation(preset, skipped)
    elif "step sizes" in shown:
        report_path = report_step_sizes(preset, skipped)
    else:
        report_path = _draw_sweeps(preset, skipped)
    if not report_path and not vectors:
        reasons = "".join(f"\n{name}: {reason}" for name, reason in skipped.items())
        sys.exit(
            f"error: no finished experiments in {preset.results_dir}; run `{preset.command}` first"
            f"{reasons}"
        )
    if report_path:
        preset.track(report_path)
    return report_path


def _draw_sweeps(preset: Preset, skipped: dict[str, str]) -> Path | None:
    sweeps = []
    for entry in preset.experiments:
        runs, rounds = load_finished(preset, entry, skipped)
        if runs.empty or BASELINE not in set(runs.compressor):
            skipped.setdefault(entry["name"], "has no finished float32 run to compare with")
            continue
        varies = entry.get("varies", "")
        conditions = {"conditions": [varies], "reference": ["partition"]}.get(entry["shows"], [])
        if reason := ambiguity(runs, conditions):
            skipped[entry["name"]] = reason
            continue
        table = pd.DataFrame() if varies else methods(runs, rounds)
        frames = (runs, rounds, table)
        sweeps.append(Sweep(entry["name"], entry["title"], *frames, entry["shows"], varies))
    if not sweeps:
        return None
    _tables(preset.results_dir, sweeps, skipped)
    path = preset.results_dir / "report.md"
    figures = _figures(preset.results_dir, preset.experiments, sweeps)
    path.write_text(report(sweeps, skipped, figures, preset.command))
    return path


def _tables(results_dir: Path, sweeps: list[Sweep], skipped: Mapping[str, str]) -> None:
    shown = {sweep.name: (sweep.runs, sweep.rounds) for sweep in sweeps}
    save_finished(results_dir, shown, skipped)
    path = results_dir / "methods.csv"
    tables = [s.methods.assign(sweep=s.name) for s in sweeps if not s.methods.empty]
    if path.is_file():
        before = read_table(path)
        tables.append(before[before.sweep.isin(skipped.keys() - shown.keys())])
    if tables:
        save_table(pd.concat(tables), path)


def _figures(
    results_dir: Path, experiments: list[dict[str, Any]], sweeps: list[Sweep]
) -> list[str]:
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
    varied = [(sweep.title, sweep.varies, sweep.runs) for sweep in sweeps if sweep.varies]
    if varied:
        save(accuracy_by_condition(varied), results_dir / "figures", "accuracy_by_condition")
        names.append("accuracy_by_condition")
    datasets = {entry["name"]: entry["dataset"] for entry in experiments}
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


def main() -> None:
    preset = parse_preset(__doc__)
    report_path = draw(preset, {})
    print(
        report_path or f"figures of vectors only: no finished experiments in {preset.results_dir}"
    )


if __name__ == "__main__":
    run_command(main)
