"""Speed and growth of rounds and codecs, beside other simulators where they are installed.

python scripts/benchmark.py [--parts rounds evaluation compressed codecs rates growth memory] [--threads 2]

Writes results/benchmark/: one CSV per part with every repetition's seconds, benchmark.md with medians and
ratios, and a figure of growth. Systems take turns on the same machine, each in a process and environment
of its own; `make benchmark-peers` installs the others below .venv-peers/. What is not installed is left
out. Until a part is done, its rows are in <part>.unfinished.csv, beside those of the last time.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from benchmark_codecs import COMPRESSORS
from benchmark_tables import DESCRIPTIONS, PEERS, growth_figure, summary
from run_command import argument_parser, run_command

import wzfl
from wzfl.config import compressor_names
from wzfl.environment import describe_environment
from wzfl.errors import InputError
from wzfl.history import PRECISIONS
from wzfl.products import library
from wzfl.reporting.figures import save

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-peers"
ALL = ["none", *COMPRESSORS]
DIMS = {2**20: 16, 2**24: 8}  # clients by dimension
RATES, MLP = (0.5, 1, 1.5, 2, 4, 8, 16), 199_210  # bits per coordinate, of so many
DIMENSIONS = (10**4, 10**5, 10**6, 10**7, 3 * 10**7, 10**8)
GROWTH: list[list[Any]] = [
    *(["clients", n, "--compressor", c] for c in ALL for n in (10, 30, 100, 300, 1000)),
    *(["cnn_clients", n, "--compressor", c] for c in ALL[:2] for n in (10, 100, 1000)),
    *(["cnn_clients", n, "--precision", "int8"] for n in (10, 100, 1000)),
    # In turns: memory is shared with other machines, whose work would bend a line drawn in one.
    *(
        ["dimension", n, "--compressor", c]
        for c in COMPRESSORS
        for _ in range(3)
        for n in DIMENSIONS
    ),
    *(["population", 10**n, "--precision", p] for p in PRECISIONS for n in (2, 3, 4)),
    ["population", 10**5, "--precision", "int8", "--capacity", 10**4],
]
MEMORY = [
    *(["--precision", precision] for precision in PRECISIONS),
    *(["--capacity", str(capacity)] for capacity in (30, 20, 10)),
]

Rows = Iterator[list[dict[str, object]]]  # of one command each


def main() -> None:
    arguments = parse()
    folder = Path(arguments.results_dir) / "benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        of_what = commit_and_machine()  # before, as the tree may change meanwhile
        rows, unfinished = [], folder / f"{part}.unfinished.csv"
        for more in PARTS[part](arguments):
            rows += more
            table = pd.DataFrame(rows).assign(**of_what)
            table.to_csv(unfinished, index=False)
        if not rows:
            print(f"{part}: nothing was measured; what {folder} has of it stays", flush=True)
            continue
        unfinished.replace(folder / f"{part}.csv")
        if part == "growth":
            save(growth_figure(table), folder, "growth")
    path = folder / "benchmark.md"
    path.write_text(summary(folder))
    print(path)


def commit_and_machine() -> dict[str, str | None]:
    """Columns of every row, as parts may be measured at several commits, and on several machines."""
    here = describe_environment(torch.device("cpu"))
    machine = (
        f"{here['processor']}, {here['cores']} cores, Python {here['python']}, torch {torch.__version__},"
        f" products of matrices by {library()}"
    )
    return {"commit": here["git_commit"], "machine": machine}


def rounds(arguments: argparse.Namespace) -> Rows:
    """Rounds without compression, of each system in turn, and again."""
    for turn in range(arguments.turns):
        for workload in DESCRIPTIONS:
            settings = [workload, *options(arguments, workload)]
            for command in systems().values():
                yield [
                    {
                        "workload": workload,
                        "system": done["system"],
                        "version": done["version"],
                        "backend": done["backend"],
                        "turn": turn,
                        "seconds": seconds,
                    }
                    for done in run([*command, *settings])
                    for seconds in done["seconds"]
                ]


def evaluation(arguments: argparse.Namespace) -> Rows:
    """Rounds of this system without compression, and an evaluation after each."""
    for workload in DESCRIPTIONS:
        command = [*systems()["wzfl"], workload, *options(arguments, workload), "--evaluate"]
        yield [
            {"workload": workload, "what": what, "seconds": seconds}
            for done in run(command)
            for what in ("round", "evaluation")
            for seconds in done["seconds" if what == "round" else "evaluation_seconds"]
        ]


def compressed(arguments: argparse.Namespace) -> Rows:
    """Rounds of this system under each compressor, in turn."""
    for workload in ("w2_mlp", "w2_cnn"):
        names = ["--compressors", "none", *COMPRESSORS]
        command = [*systems()["wzfl"], workload, *options(arguments, workload), *names]
        yield [
            {"workload": workload, "compressor": done["compressor"], "seconds": seconds}
            for done in run(command)
            for seconds in done["seconds"]
        ]


def codecs(arguments: argparse.Namespace) -> Rows:
    """Encoding and decoding alone, and by the code of EDEN's authors where there is a clone of it."""
    commands = [[*script("benchmark_codecs"), "--compressors", *COMPRESSORS]]
    if (ENVIRONMENTS / "eden").is_dir():
        commands.append([*script("peers/run_eden"), str(ENVIRONMENTS / "eden")])
    for dim, clients in DIMS.items():
        for command in commands:
            yield coded(command, dim, clients, arguments.threads, 2)


def rates(arguments: argparse.Namespace) -> Rows:
    """The same of every compressor at several bitrates, for a few clients of the MLP on one core."""
    for bitrate in RATES:
        names = [name for name in compressor_names() if takes(name, bitrate)]
        command = [*script("benchmark_codecs"), "--compressors", *names]
        yield [row | {"bitrate": bitrate} for row in coded(command, MLP, 4, 1, bitrate)]


def takes(name: str, bitrate: float) -> bool:
    try:
        return wzfl.build_compressor(name, bitrate=bitrate).bitrate == bitrate
    except InputError:
        return False


def coded(
    command: list[str], dim: int, clients: int, threads: int, bitrate: float
) -> list[dict[str, object]]:
    numbers = {"dims": dim, "clients": clients, "threads": threads, "bitrate": bitrate}
    settings = [text for option, number in numbers.items() for text in (f"--{option}", str(number))]
    return [
        {
            "dim": dim,
            "clients": clients,
            "compressor": done["compressor"],
            "version": done.get("version", ""),
            "direction": direction,
            "seconds": seconds,
            "gb_per_second": 4e-9 * dim * clients / seconds,
        }
        for done in run([*command, *settings])
        for direction in ("encode", "decode")
        for seconds in done.get(direction, [])
    ]


def growth(arguments: argparse.Namespace) -> Rows:
    """Time and peak memory against clients, dimension and population, a process for each point."""
    for what, size, *options in GROWTH:
        count = {"cnn_clients": 3}.get(what, 5)
        common = ["--threads", str(arguments.threads), "--repetitions", str(count)]
        point = [*script("benchmark_growth"), what, str(size), *map(str, options), *common]
        yield [done | {"seconds": each} for done in run(point) for each in done["seconds"]]


def memory(arguments: argparse.Namespace) -> Rows:
    """Accuracy when the server remembers its clients less well."""
    commands = [
        [*script("benchmark_memory"), *options, "--seed", str(seed)]
        for seed in range(3)
        for options in MEMORY
    ]
    with ThreadPoolExecutor(arguments.threads) as pool:
        yield from pool.map(run, commands)


PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "rounds": rounds,
    "evaluation": evaluation,
    "compressed": compressed,
    "codecs": codecs,
    "rates": rates,
    "growth": growth,
    "memory": memory,
}


def script(name: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py")]


def systems() -> dict[str, list[str]]:
    """The command of this system and of every other that is installed."""
    commands = {"wzfl": script("benchmark_rounds")}
    for name in PEERS:
        python = ENVIRONMENTS / name / "bin" / "python"
        if python.is_file():
            commands[name] = [str(python), str(ROOT / "scripts" / "peers" / f"run_{name}.py")]
    return commands


def options(arguments: argparse.Namespace, workload: str) -> list[str]:
    """Rounds and warm-up: an MLP's round takes milliseconds, FedAvg of the CNN seconds."""
    count, warmup = {
        "w1_cnn": (4, 1),
        "w2_cnn": (arguments.repetitions, 2),
    }.get(workload, (5 * arguments.repetitions, 5))
    return ["--threads", str(arguments.threads), "--rounds", str(count), "--warmup", str(warmup)]


def run(command: list[str]) -> list[dict]:
    """The JSON objects that a command prints; none, with a word to the user, where it fails."""
    print(" ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"left out: exit status {done.returncode}: {done.stderr.strip()[-500:]}", flush=True)
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--repetitions",
        type=int,
        default=7,
        help="timed rounds in a turn; five times as many of an MLP, four of FedAvg of the CNN",
    )
    parser.add_argument("--turns", type=int, default=5, help="how often each system is started")
    parser.add_argument("--results-dir", default="results")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.repetitions, arguments.turns) < 1:
        raise InputError("threads, repetitions and turns must be at least 1")
    return arguments


if __name__ == "__main__":
    run_command(main)
