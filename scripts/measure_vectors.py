"""Measures what conf/vectors.yaml lists, recordings of training runs first; draws and reports.

    python scripts/measure_vectors.py [--results-dir results]

Recordings whose data set is not there are left out. Exit status 1 if a command failed.
"""

import subprocess
import sys
from pathlib import Path

import yaml
from reproduce import missing_datasets, say_missing
from run_command import argument_parser, run_command

from wzfl.config import conf_dir

SCRIPTS = Path(__file__).parent


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--results-dir", default="results", help="where results are")
    results_dir = f"results_dir={parser.parse_args().results_dir}"
    plan = yaml.safe_load((conf_dir() / "vectors.yaml").read_text())
    missing = missing_datasets(plan["recordings"])
    say_missing(missing)

    done = [_run("rate_distortion.py", "-m", results_dir, *asked) for asked in plan["measure"]]
    for entry in plan["recordings"]:
        if entry["dataset"] in missing:
            continue
        name = f"recording={entry['name']}"
        done.append(_run("record_updates.py", results_dir, name, *entry["record"]))
        for recording in _recorded(entry["name"]):
            source = ("source=gradients", f"source.recording={recording}")
            done.append(_run("rate_distortion.py", "-m", results_dir, *source, *entry["measure"]))
    return 0 if all(done) else 1


def _recorded(name: str) -> list[str]:
    """The recordings that conf/record_updates.yaml makes of one run."""
    rounds = yaml.safe_load((conf_dir() / "record_updates.yaml").read_text())["record_rounds"]
    return [f"{name}_round_{round}" for round in rounds]


def _run(script: str, *arguments: str) -> bool:
    """Whether it succeeded."""
    print(f"{script} {' '.join(arguments)}", flush=True)
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    run_command(main)
