"""Speed of rounds and codecs, beside other simulators where they are installed.

python scripts/benchmark.py [--parts rounds compressed codecs] [--threads 2] [--results-dir results]

Writes results/benchmark/: one CSV per part with every repetition's seconds, and benchmark.md with medians
and ratios. Systems take turns on the same machine, each in a process and environment of its own;
`make benchmark-peers` installs the others below .venv-peers/. What is not installed is left out.
"""

import argparse
import json
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from run_command import run_command

from wzfl.environment import describe_environment
from wzfl.errors import InputError

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-peers"
PEERS = ("fedjax", "pfl", "flower")
WORKLOADS = {
    "w1_mlp": "FedAvg, MLP: 10 of 100 clients, 600 examples each, one epoch, batches of 20",
    "w1_cnn": "FedAvg, CNN: the same",
    "w2_mlp": "FedSGD, MLP: 20 clients, one gradient each on 64 examples",
    "w2_cnn": "FedSGD, CNN: the same",
}
COMPRESSORS = ["wyner_ziv", "eden", "qsgd", "signsgd", "topk"]
DIMS = {2**20: 16, 2**24: 8}  # clients by dimension
PARTS = ("rounds", "compressed", "codecs")


def main() -> None:
    arguments = parse()
    folder = Path(arguments.results_dir) / "benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    measure = {"rounds": rounds, "compressed": compressed, "codecs": codecs}
    for part in arguments.parts:
        table = pd.DataFrame(measure[part](arguments))
        table.to_csv(folder / f"{part}.csv", index=False)
    path = folder / "benchmark.md"
    path.write_text(summary(folder))
    print(path)


def rounds(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Rounds without compression, of each system in turn, and again."""
    rows = []
    for turn in range(arguments.turns):
        for workload in WORKLOADS:
            settings = [workload, *options(arguments, workload)]
            for command in systems().values():
                for done in run([*command, *settings]):
                    rows += [
                        {
                            "workload": workload,
                            "system": done["system"],
                            "version": done["version"],
                            "backend": done["backend"],
                            "turn": turn,
                            "seconds": seconds,
                        }
                        for seconds in done["seconds"]
                    ]
    return rows


def compressed(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Rounds of this system under each compressor, in turn."""
    rows = []
    for workload in ("w2_mlp", "w2_cnn"):
        names = ["--compressors", "none", *COMPRESSORS]
        command = [*systems()["wzfl"], workload, *options(arguments, workload), *names]
        for done in run(command):
            rows += [
                {"workload": workload, "compressor": done["compressor"], "seconds": seconds}
                for seconds in done["seconds"]
            ]
    return rows


def codecs(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Encoding and decoding alone."""
    rows = []
    script = str(ROOT / "scripts" / "benchmark_codecs.py")
    for dim, clients in DIMS.items():
        settings = [
            "--dims",
            str(dim),
            "--clients",
            str(clients),
            "--threads",
            str(arguments.threads),
        ]
        for done in run([sys.executable, script, *settings, "--compressors", *COMPRESSORS]):
            rows += [
                {
                    "dim": dim,
                    "clients": clients,
                    "compressor": done["compressor"],
                    "direction": direction,
                    "seconds": seconds,
                    "gb_per_second": 4e-9 * dim * clients / seconds,
                }
                for direction in ("encode", "decode")
                for seconds in done.get(direction, [])
            ]
    return rows


def systems() -> dict[str, list[str]]:
    """The command of this system and of every other that is installed."""
    scripts = ROOT / "scripts"
    commands = {"wzfl": [sys.executable, str(scripts / "benchmark_rounds.py")]}
    for name in PEERS:
        python = ENVIRONMENTS / name / "bin" / "python"
        if python.is_file():
            commands[name] = [str(python), str(scripts / "peers" / f"run_{name}.py")]
    return commands


def options(arguments: argparse.Namespace, workload: str) -> list[str]:
    slow = workload == "w1_cnn"  # seconds to tens of seconds per round
    count, warmup = (2, 1) if slow else (arguments.repetitions, 2)
    return ["--threads", str(arguments.threads), "--rounds", str(count), "--warmup", str(warmup)]


def run(command: list[str]) -> list[dict]:
    """The JSON objects that a command prints; none, with a word to the user, where it fails."""
    print(" ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"left out: exit status {done.returncode}: {done.stderr.strip()[-500:]}", flush=True)
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def summary(folder: Path) -> str:
    """Medians and ratios of what has been measured, as Markdown."""
    machine = describe_environment(torch.device("cpu"))
    parts = [
        "# Speed\n",
        f"{machine['processor']}, {machine['cores']} cores, Python {platform.python_version()},"
        f" torch {torch.__version__}, commit {machine['git_commit']}. Medians; seconds of every"
        " repetition are in the CSV files. Made by `make benchmark`.\n",
    ]
    tables = {"rounds": round_table, "compressed": compressed_table, "codecs": codec_table}
    for part, table in tables.items():
        path = folder / f"{part}.csv"
        if path.is_file():
            title, frame = table(pd.read_csv(path, keep_default_na=False))
            parts += [f"## {title}\n", frame.to_markdown(index=False, floatfmt=".4g"), ""]
    return "\n".join(parts)


def round_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    times = 1000 * table.pivot_table("seconds", "workload", "system", aggfunc="median")
    quartiles = [
        1000 * table.pivot_table("seconds", "workload", "system", aggfunc=partial(quantile, q))
        for q in (0.25, 0.75)
    ]
    frame = pd.DataFrame({"work": [WORKLOADS[name] for name in times.index]})
    for system in ("wzfl", *PEERS):
        if system in times:
            low, high = (table[system] for table in quartiles)
            frame[f"{system} ms"] = [
                f"{m:.0f} ({a:.0f}-{b:.0f})"
                for m, a, b in zip(times[system], low, high, strict=True)
            ]
    others = [system for system in PEERS if system in times]
    if others:
        fastest = times[others].min(axis=1)
        frame["wzfl / fastest other"] = (times["wzfl"] / fastest).round(2).tolist()
    return "A round without compression, median (quartiles)", frame


def quantile(q: float, values: pd.Series) -> float:
    return float(values.quantile(q))


def compressed_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    times = table.pivot_table("seconds", "compressor", "workload", aggfunc="median")
    times = times.loc[["none", *COMPRESSORS]]
    frame = pd.DataFrame({"compressor": times.index})
    for workload in times:
        frame[f"{workload} ms"] = (1000 * times[workload]).round().astype(int).tolist()
        frame[f"{workload} ratio"] = (times[workload] / times[workload]["none"]).round(2).tolist()
    return "A round at 2 bits per coordinate, real bytes both ways, and its ratio to float32", frame


def codec_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    speeds = table.pivot_table(
        "gb_per_second", "compressor", ["dim", "direction"], aggfunc="median"
    ).loc[["copy", *COMPRESSORS]]
    frame = pd.DataFrame({"compressor": speeds.index})
    for dim, clients in DIMS.items():
        for direction in ("encode", "decode"):
            if (dim, direction) in speeds:
                name = f"{direction}, {clients} clients x 2^{dim.bit_length() - 1}"
                frame[name] = speeds[(dim, direction)].tolist()
    return "Codecs at 2 bits per coordinate, GB of float32 per second", frame


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7, help="timed rounds in a turn")
    parser.add_argument("--turns", type=int, default=2, help="how often each system is started")
    parser.add_argument("--results-dir", default="results")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.repetitions, arguments.turns) < 1:
        raise InputError("threads, repetitions and turns must be at least 1")
    return arguments


if __name__ == "__main__":
    run_command(main)
