"""The same 24 runs through every launcher: whether they leave the same, and how long they take.

python scripts/compare_launchers.py [--results-dir results]

Writes launchers.md. Runs in a temporary folder, which for `slurm` must be one that all nodes see (TMPDIR).
What is not installed is left out. Exit status 1 if a launcher fails, or if what its runs leave differs from
what they leave one after the other.
"""

import gzip
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from run_command import argument_parser, run_command

from wzfl.environment import describe_environment
from wzfl.errors import InputError
from wzfl.reporting.markdown import generated_by, table
from wzfl.results import CLIENTS, ROUNDS

TRAIN = Path(__file__).parent / "train.py"
RUN = ["dataset=digits", "model=mlp", "tracking=none", "threads=1", "rounds=20"]
SWEEP = ["compressor=wyner_ziv,eden,qsgd,topk", "bitrate=1,4", "seed=0,1,2"]


@dataclass(frozen=True)
class Launcher:
    """A choice of hydra/launcher.

    Attributes:
        name: the choice.
        package: what carries the runs out.
        module: Hydra's way to it.
        options: settings beyond those of conf/hydra/launcher/.
    """

    name: str
    package: str
    module: str
    options: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        if self.name == "slurm" and shutil.which("sbatch") is None:
            return False
        return find_spec(self.module) is not None


ONE_BY_ONE = Launcher("basic", "hydra-core", "hydra")
LAUNCHERS = [
    ONE_BY_ONE,
    Launcher("processes", "joblib", "hydra_plugins.hydra_joblib_launcher"),
    Launcher(
        "slurm_local",
        "submitit",
        "hydra_plugins.hydra_submitit_launcher",
        (f"hydra.sweeper.max_batch_size={os.cpu_count()}",),
    ),
    Launcher("slurm", "submitit", "hydra_plugins.hydra_submitit_launcher"),
    Launcher("ray_cluster", "ray", "hydra_plugins.hydra_ray_launcher"),
]


def main() -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--results-dir", type=Path, default=Path("results"))
    path = parser.parse_args().results_dir / "launchers.md"
    with tempfile.TemporaryDirectory() as temporary:
        frame = measured(Path(temporary))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(frame))
    print(path)
    return 0 if (frame.identical == "yes").all() else 1


def measured(folder: Path) -> pd.DataFrame:
    """A row per launcher that is installed."""
    # What is compiled at its first use is compiled here: it is no launcher's matter.
    sweep(ONE_BY_ONE, folder / "first", "rounds=1", "seed=0")
    rows: list[dict[str, object]] = []
    expected: dict[str, tuple[str, bytes]] = {}
    for launcher in LAUNCHERS:
        if not launcher.installed:
            print(f"left out: {launcher.name} is not installed", flush=True)
            continue
        seconds = sweep(launcher, folder / launcher.name)
        found = left_behind(folder / launcher.name)
        expected = expected or found
        rows.append(
            {
                "hydra/launcher": launcher.name,
                "carried out by": f"{launcher.package} {version(launcher.package)}",
                "runs": len(found),
                "wall seconds": round(seconds),
                "identical": "yes" if found == expected else "no",
            }
        )
    return pd.DataFrame(rows)


def sweep(launcher: Launcher, folder: Path, *changes: str) -> float:
    """Seconds that the sweep takes, from its command to its end.

    Raises:
        InputError: it failed.
    """
    command = [sys.executable, str(TRAIN), "-m", *RUN, *SWEEP, *changes]
    command += [f"results_dir={folder}", f"hydra/launcher={launcher.name}", *launcher.options]
    print(" ".join(command), flush=True)
    # A cluster of this sweep's own, whose processes would otherwise give way to all else on the machine.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["RAY_worker_niceness"] = "0"
    start = time.perf_counter()
    status = subprocess.run(command, env=environment, check=False).returncode
    if status:
        raise InputError(f"the sweep of {launcher.name} ended with exit status {status}; see above")
    return time.perf_counter() - start


def left_behind(results_dir: Path) -> dict[str, tuple[str, bytes]]:
    """Each run's rounds but for their seconds, and its clients."""
    return {
        run.name: (
            pd.read_csv(run / ROUNDS, dtype=str).drop(columns="seconds").to_csv(),
            gzip.decompress((run / CLIENTS).read_bytes()),
        )
        for run in sorted((results_dir / "runs").iterdir())
    }


def report(frame: pd.DataFrame) -> str:
    machine = describe_environment(torch.device("cpu"))
    lines = [
        "# The same sweep through every launcher\n",
        generated_by("make launchers"),
        f"`scripts/train.py -m {' '.join([*RUN, *SWEEP])}`\n",
        table(frame.astype(str)),
        "\nIdentical: the same runs, and of each the same `rounds.csv` but for `seconds` and the same"
        " `clients.csv.gz`, as where `basic` carries out one after the other. Seconds are from the command to"
        " its end, once, and what else the machine does shows in them; processes start and import torch in"
        " them. `slurm` is in the table where there is a Slurm.\n",
        f"{machine['processor']}, {machine['cores']} cores, Python {platform.python_version()},"
        f" torch {torch.__version__}, hydra-core {version('hydra-core')}, commit"
        f" {machine['git_commit']}.\n",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
