"""A sweep leaves the same results, whichever launcher carries it out."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from conftest import NO_NETWORK, SCRIPTS

LAUNCHERS = {"processes": "joblib", "slurm_local": "submitit", "ray_cluster": "ray"}
# Asks for a resolver of ours, which workers must know.
RATE = ["+lr_of.default=0.5", "server.optimizer.lr='${step_size:${lr_of},${names.compressor},1}'"]
QUICK = ["dataset=digits", "model=logistic", "tracking=none", "rounds=6", "threads=1"]


def need(plugin):
    if find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        pytest.skip(f"the launcher of {plugin} is not installed; `make launchers` does it")


def command(*arguments):
    return [
        sys.executable,
        str(SCRIPTS / "train.py"),
        "-m",
        *QUICK,
        *RATE,
        "sweep=mine",
        *arguments,
    ]


def for_ray():
    """An environment in which a cluster starts here: its parts talk by this machine's outward address."""
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    return {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "PYTHONPATH": os.pathsep.join(path for path in paths if path != str(NO_NETWORK)),
        "RAY_ADDRESS": "local",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # else it waits for all else on the machine
    }


def sweep(folder, launcher):
    """Exit status, what was printed, and the rounds of each run; the third of three can not run."""
    done = subprocess.run(
        command("compressor=wyner_ziv", "bitrate=1,2,99", f"hydra/launcher={launcher}"),
        cwd=folder, env=for_ray() if launcher == "ray_cluster" else None,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rounds = {
        path.parent.name: pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv()
        for path in folder.glob("results/runs/*/rounds.csv")
    }
    return done.returncode, done.stdout + done.stderr, rounds


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    status, _, rounds = sweep(tmp_path_factory.mktemp("basic"), "basic")
    assert (status, len(rounds)) == (2, 2)
    return rounds


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_is_the_same_with_every_launcher(launcher, one_by_one, tmp_path):
    need(LAUNCHERS[launcher])
    status, printed, rounds = sweep(tmp_path, launcher)
    assert status == 2
    assert "error: bitrate=99 is out of range for wyner_ziv" in printed
    assert "Traceback" not in printed
    assert rounds == one_by_one
    marks = sorted(path.name for path in Path(tmp_path, "results/sweeps/mine").glob("*.run"))
    assert marks == ["0.run", "1.run"]


def test_slurm_is_asked_for_what_a_run_needs(tmp_path):
    need("submitit")
    for name, text in {"sbatch": 'cp "$1" asked.sh; exit 1', "srun": ""}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    options = ["hydra.launcher.gpus_per_node=1", "hydra.launcher.partition=big"]
    subprocess.run(
        command("hydra/launcher=slurm", *options, "seed=0,1"),
        cwd=tmp_path, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    asked = (tmp_path / "asked.sh").read_text()
    for line in ("array=0-1%2", "cpus-per-task=1", "gpus-per-node=1", "mem=4GB", "partition=big"):
        assert f"#SBATCH --{line}\n" in asked
    assert str(tmp_path / "results/sweeps/mine/.submitit") in asked
