"""Ends `make reproduce` by SIGKILL at random moments, goes on with it, and compares its tables.

    python scripts/interrupt_reproduce.py [--preset default] [--kills 3] [--seed 0] [--folder FOLDER]

They must be those in results/, of one that was left alone, but for times and the commit. With a folder of its
own it can itself be interrupted: kills that have been are kept there. Writes results/interrupted.md. Exit
status 1 if anything differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import joblib
import pandas as pd
from presets import command, results_dir
from run_command import argument_parser, run_command

from wzfl.environment import git_commit
from wzfl.errors import InputError
from wzfl.reporting.markdown import generated_by, table

TABLES = ("runs.csv", "methods.csv", "rounds.csv.gz")
_OF_THE_OCCASION = ["wall_seconds", "git_commit"]
_COMMAND = [sys.executable, str(Path(__file__).with_name("reproduce.py")), "--tracking=none"]


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--preset", default="default", help="what is run")
    parser.add_argument("--kills", type=int, default=3, help="how often it is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--folder", type=Path, help="where it trains; kept; else a temporary folder"
    )
    asked = parser.parse_args()
    alone = results_dir(asked.preset)
    if not (alone / "runs.csv").exists():
        raise InputError(f"there are no tables in {alone} to compare with; run the preset first")
    if asked.folder:
        return compare(alone, asked.folder, asked)
    with tempfile.TemporaryDirectory() as folder:
        return compare(alone, Path(folder), asked)


def compare(alone: Path, folder: Path, asked: argparse.Namespace) -> int:
    """Kills and goes on in `folder`, then writes what came of it; the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "kills.csv"
    kills: list[dict[str, float]] = []
    if kept.exists():
        kills = cast(list[dict[str, float]], pd.read_csv(kept).to_dict("records"))
    sweep = [*_COMMAND, f"--preset={asked.preset}", f"--results-dir={folder}"]
    chance = random.Random(asked.seed + len(kills))
    seconds = pd.read_csv(alone / "runs.csv").wall_seconds.sum() / joblib.cpu_count()
    while len(kills) < asked.kills:
        kill = interrupt(sweep, chance.uniform(0, seconds / asked.kills), folder)
        if kill is None:
            raise InputError(f"it ended before it was to be killed; {len(kills)} kills so far")
        kills.append(kill)
        pd.DataFrame(kills).to_csv(kept, index=False)
        print(kill, flush=True)
    subprocess.run(sweep, check=True)
    differing = {name: differing_rows(alone / name, folder / name) for name in TABLES}
    path = Path("results/interrupted.md")
    path.write_text(_report(asked.preset, kills, differing, alone))
    print(path)
    return int(any(differing.values()))


def interrupt(sweep: list[str], seconds: float, folder: Path) -> dict[str, float] | None:
    """Kills the sweep and all its processes after so many seconds; what there was by then.

    None if it had ended.
    """
    with (folder / "log").open("a") as log:
        # A session of its own has all processes in one group.
        process = subprocess.Popen(
            sweep, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            return None
    runs = list((folder / "runs").glob("*"))
    return {
        "seconds since it was started": round(seconds),
        "runs finished": sum(not path.suffix for path in runs),
        "runs half done": sum(path.suffix == ".partial" for path in runs),
    }


def differing_rows(alone: Path, killed: Path) -> int:
    """Rows of one table that the other does not have, digit by digit; times and commits apart."""
    one, other = (
        pd.read_csv(path, dtype=str).drop(columns=_OF_THE_OCCASION, errors="ignore")
        for path in (alone, killed)
    )
    if list(one.columns) != list(other.columns):
        return max(len(one), len(other))
    return len(pd.concat([one, other]).drop_duplicates(keep=False))


def _report(
    preset: str, kills: list[dict[str, float]], differing: dict[str, int], alone: Path
) -> str:
    commit = git_commit()
    rows = [{"table": name, "rows that differ": count} for name, count in differing.items()]
    return "\n".join(
        [
            "# Interrupted\n",
            generated_by("make interrupted"),
            f"`{command(preset)}`, of which SIGKILL ended all processes {len(kills)} times at random "
            f"moments, with commit {commit}:\n",
            table(pd.DataFrame(kills)),
            f"\nIts tables, against those in {alone}/ of one that was left alone, times and commits apart:\n",
            table(pd.DataFrame(rows)),
            "",
        ]
    )


if __name__ == "__main__":
    run_command(main)
