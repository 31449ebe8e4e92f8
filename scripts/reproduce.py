"""Runs the experiments of conf/reproduce.yaml whose data sets are there, then draws and reports.

    python scripts/reproduce.py [--preset default] [--results-dir results] [--tracking wandb] [--estimate]

What is finished already is not trained again. Exit status 1 if a run failed.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from draw import draw
from presets import Preset, overrides, parse_preset
from run_command import run_command
from sweep_size import format_sizes, measure_sweep

from wzfl.config import build, load_group
from wzfl.datasets import DataMissing
from wzfl.results import locked

SCRIPTS = Path(__file__).parent


def main() -> int:
    preset = parse_preset(__doc__, trains=True)
    busy = f"waiting for another process that runs {preset.command} in {preset.results_dir}"
    with locked(preset.results_dir / "runs" / "reproduce.lock", busy):
        return reproduce(preset)


def reproduce(preset: Preset) -> int:
    """The exit status: 1 where a run failed, or none is there."""
    missing = missing_datasets(preset.experiments)
    say_missing(missing)
    if preset.estimated:
        here = [entry for entry in preset.experiments if entry["dataset"] not in missing]
        print("timing a few rounds of each sweep", flush=True)
        sizes = {entry["name"]: measure_sweep(overrides(entry)) for entry in here}
        print(format_sizes(sizes), flush=True)

    skipped, failed = {}, []
    for place, entry in enumerate(preset.experiments, 1):
        if reason := missing.get(entry["dataset"]):
            skipped[entry["name"]] = reason
            continue
        print(f"[{place}/{len(preset.experiments)}] {entry['name']}: {entry['title']}", flush=True)
        if not _sweep(entry, preset):
            failed.append(entry["name"])
    done = [entry for entry in preset.experiments if entry["name"] not in skipped]
    skipped |= dict.fromkeys(failed, "some of its runs failed; see the output")
    report = draw(replace(preset, experiments=done), skipped)

    say_missing(missing)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if report is None:
        print(f"error: no finished experiments in {preset.results_dir}", file=sys.stderr)
        return 1
    print(f"report: {report}")
    return 1 if failed else 0


def missing_datasets(experiments: list[dict[str, Any]]) -> dict[str, str]:
    """Data sets that can not be had, with the reason; the others are ready in the cache."""
    missing = {}
    for name in dict.fromkeys(entry["dataset"] for entry in experiments):
        try:
            build(load_group("dataset", name))
        except DataMissing as error:
            missing[name] = str(error)
    return missing


def say_missing(missing: dict[str, str]) -> None:
    """What has to do without which data sets."""
    for reason in missing.values():
        print(f"going on without: {reason}", flush=True)


def _sweep(entry: dict[str, Any], preset: Preset) -> bool:
    """Whether all runs of an experiment are there in the end."""
    command = [sys.executable, str(SCRIPTS / "train.py"), "-m"]
    command += [*overrides(entry), f"results_dir={preset.results_dir}"]
    if preset.tracking == "none":  # else it is as the experiment says
        command.append("tracking=none")
    return subprocess.run(command, env=os.environ, check=False).returncode == 0


if __name__ == "__main__":
    run_command(main)
