"""Kills a small sweep at random moments, again and again, and compares what comes of it with one left alone.

    python scripts/kill_sweeps.py [--kills 500] [--seed 0]

Each attempt is a process of its own that goes on with the sweep of `make smoke`, with a checkpoint every
three rounds, and gets SIGKILL at a random moment of its work. After each, every run that counts as finished
must be what it is without kills, byte for byte but for times; so must the table in the end.
Writes results/kills.md. Exit status 1 if anything differed.
"""

import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import train
from hydra.plugins.sweeper import Sweeper
from run_command import argument_parser, run_command

from wzfl.environment import compute_deterministically, git_commit
from wzfl.reporting.markdown import generated_by
from wzfl.reporting.summary import load_sweep
from wzfl.results import ROUNDS, load_rounds

_SWEEP = ("experiment=smoke", "hydra/launcher=basic", "checkpoint_every=3")
_TIMES = ["wall_seconds"]


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how often it is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    path = Path("results/kills.md")
    path.parent.mkdir(exist_ok=True)
    compute_deterministically()  # what that imports takes a second, which no fork shall need again
    with tempfile.TemporaryDirectory() as folder:
        for found in kill_sweeps(Path(folder), asked.kills, random.Random(asked.seed)):
            path.write_text(_report(found))
            print(dict(found), flush=True)
    print(path)
    return 1 if found["differing runs"] + found["differing tables"] else 0


def kill_sweeps(folder: Path, kills: int, chance: random.Random) -> Iterator[Counter[str]]:
    """What has happened, counted: now and then, and in the end."""
    alone, killed = folder / "alone", folder / "killed"
    sweep = _start(killed)
    _wait_for_work(sweep, killed, set())
    begin = time.monotonic()
    _wait(sweep)
    longest = time.monotonic() - begin
    killed.rename(alone)  # configs tell their results' folder, so all are written to the same
    expected = _runs(alone)
    found = Counter({"runs in a sweep": len(expected)})
    while found["kills"] < kills:
        before = _files(killed)
        sweep = _start(killed)
        _wait_for_work(sweep, killed, before)
        time.sleep(chance.uniform(0, longest / 2))
        os.kill(sweep, signal.SIGKILL)
        if _wait(sweep) != signal.SIGKILL:
            _end(found, killed, alone)
            shutil.rmtree(killed)
            continue
        found["kills"] += 1
        written = _files(killed) - before
        half = [path for path, _ in written if path.parent.suffix == ".partial"]
        found["kills amid a run"] += any(half)
        found["kills after that run's first checkpoint"] += any(
            path.suffix == ".safetensors" for path in half
        )
        finished = _runs(killed)
        found["differing runs"] += sum(expected.get(id) != run for id, run in finished.items())
        if found["kills"] % 25 == 0:
            yield found
    _wait(_start(killed))
    _end(found, killed, alone)
    yield found


def _files(results_dir: Path) -> set[tuple[Path, int]]:
    """All files of runs, and when each was written."""
    found = set()
    for path in (results_dir / "runs").glob("*/*"):
        with suppress(FileNotFoundError):  # a sweep that is alive renames its folders
            found.add((path, path.stat().st_mtime_ns))
    return found


def _end(found: Counter[str], killed: Path, alone: Path) -> None:
    """Counts a sweep that came to its end."""
    found["sweeps that came to their end"] += 1
    found["differing tables"] += not _table(killed).equals(_table(alone))


def _start(results_dir: Path) -> int:
    """The process of a sweep that goes on in `results_dir`.

    A fork of this process, which has imported everything: so kills hit work, not imports. Nor Hydra's trial
    of all configs before the first run, which takes longer than the runs and writes nothing.
    """
    child = os.fork()
    if child:
        return child
    # SIGKILL ends it before it could say anything.
    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    sys.argv = ["train.py", "-m", *_SWEEP, f"results_dir={results_dir}"]
    with patch.object(Sweeper, "validate_batch_is_legal"):
        train.main()
    os._exit(0)


def _wait_for_work(sweep: int, results_dir: Path, before: set[tuple[Path, int]]) -> None:
    """Returns when it has begun to write, or has ended."""
    still = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, sweep, still) is None and _files(results_dir) == before:
        time.sleep(0.005)


def _wait(sweep: int) -> int:
    """The signal that ended the process; 0 if it came to its end."""
    _, status = os.waitpid(sweep, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _runs(results_dir: Path) -> dict[str, tuple[str, str]]:
    """The finished runs: their config and their rounds without times, as text."""
    runs = {}
    for path in (results_dir / "runs").glob("*"):
        if path.suffix:
            continue
        rounds = load_rounds(path).drop(columns="seconds").to_csv()
        runs[path.name] = ((path / "config.yaml").read_text(), rounds)
        assert (path / "metadata.json").stat().st_size, path
        assert (path / ROUNDS).stat().st_size, path
    return runs


def _table(results_dir: Path) -> pd.DataFrame:
    return load_sweep(results_dir, "smoke")[0].drop(columns=_TIMES)


def _report(found: Counter[str]) -> str:
    commit = git_commit()
    lines = [f"| {what} | {count} |" for what, count in found.items()]
    return "\n".join(
        [
            "# Kills\n",
            generated_by("make kills"),
            f"What came of sweeps that SIGKILL ended at random moments, with commit {commit}.\n",
            "| what | how many |",
            "|:--|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    logging.disable()
    run_command(main)
