"""Speed of codecs and rounds on a CUDA device, and what of that time the device works.

python scripts/benchmark_gpu.py [--compressors wyner_ziv eden qsgd signsgd topk] [--turns 3] [--repetitions 5]

Writes results/benchmark/gpu.csv and gpu.md with medians and extremes, beside what a copy within the device
and over its link takes. All that is timed takes turns: some hosts are slow for a second now and then.
Payloads are `bytes` on the host, as in a run: to encode ends with them, to decode starts with them. Device
seconds are those of kernels and copies, by torch's profiler.
"""

import argparse
import gc
import platform
import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import wzfl  # isort: skip  # before torch: see wzfl.openmp

import pandas as pd
import torch
from benchmark import DIMS
from benchmark_codecs import COMPRESSORS, RESIDUAL, decode_all, encode_all
from benchmark_codecs import timed as seconds_of
from benchmark_rounds import MODELS, WORKLOADS, make_shards, start
from benchmark_tables import DESCRIPTIONS
from run_command import argument_parser, run_command
from torch.profiler import ProfilerActivity, profile

from wzfl.client import Shard
from wzfl.environment import compute_deterministically, describe_environment, keep_freed_memory
from wzfl.errors import InputError
from wzfl.federation import Federation, State
from wzfl.host import to_device
from wzfl.public import Public
from wzfl.reporting.markdown import generated_by
from wzfl.reporting.markdown import table as as_table
from wzfl.simulation import run_round

BITRATES = {"wyner_ziv": (1, 2, 4)}
LINK_BYTES = 2**28
PAYLOAD_BYTES = 2**22  # 2 bits of each of 2**24 coordinates

Case = tuple[dict[str, Any], Callable[[], object]]


def main() -> None:
    arguments = parse()
    if not torch.cuda.is_available():
        raise InputError("torch sees no CUDA device; `make benchmark` is for a CPU")
    compute_deterministically()
    keep_freed_memory()
    device = torch.device("cuda")
    folder = Path(arguments.results_dir) / "benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    cases = [*copies(device), *codecs(arguments, device), *rounds(arguments, device)]
    gc.freeze()  # what is there now stays, and is not to be looked through in the middle of a call
    seconds: list[list[float]] = [[] for _ in cases]
    for turn in range(arguments.turns):
        for mine, (setting, function) in zip(seconds, cases, strict=True):
            mine += timed(arguments, function)
            print(turn + 1, *setting.values(), f"{statistics.median(mine):.3g} s", flush=True)
        rows = [setting | spread(mine) for mine, (setting, _) in zip(seconds, cases, strict=True)]
        pd.DataFrame(rows).to_csv(folder / "gpu.csv", index=False)
    # Last: a process that has been profiled is slower ever after.
    table = pd.DataFrame(
        [row | worked(function) for row, (_, function) in zip(rows, cases, strict=True)]
    )
    table.to_csv(folder / "gpu.csv", index=False)
    (folder / "gpu.md").write_text(summary(table, device))
    print(folder / "gpu.md")


def copies(device: torch.device) -> list[Case]:
    """Copies within the device, to and from page-locked host memory, and from strings by way of it."""
    source, target = (torch.zeros(LINK_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    host = torch.empty(LINK_BYTES, dtype=torch.uint8, pin_memory=True)
    strings = [random.randbytes(PAYLOAD_BYTES) for _ in range(8)]
    return [
        (
            {"what": "copy within the device", "bytes": 2 * LINK_BYTES},
            partial(target.copy_, source),
        ),
        ({"what": "copy to the host", "bytes": LINK_BYTES}, partial(host.copy_, source)),
        ({"what": "copy from the host", "bytes": LINK_BYTES}, partial(target.copy_, host)),
        (
            {"what": "payloads, one after the other", "bytes": 8 * PAYLOAD_BYTES},
            partial(to_device, strings, device),
        ),
    ]


def codecs(arguments: argparse.Namespace, device: torch.device) -> list[Case]:
    """Encoding and decoding Gaussian vectors; side information is 10 dB from them."""
    cases: list[Case] = []
    for dim, clients in DIMS.items():
        torch.manual_seed(0)
        updates = torch.randn(clients, dim, device=device)
        side = updates + RESIDUAL * torch.randn(clients, dim, device=device)
        scale = torch.full((clients,), RESIDUAL, device=device)
        public = Public(0, 0, tuple(range(clients)), scale)
        for name in arguments.compressors:
            for bitrate in BITRATES.get(name, (2,)):
                compressor = wzfl.build_compressor(name, bitrate=bitrate)
                payloads = encode_all(compressor, updates, public)
                setting = {"compressor": name, "bitrate": bitrate, "clients": clients, "dim": dim}
                setting["bytes"] = 4 * updates.numel()
                encode = partial(encode_all, compressor, updates, public)
                decode = partial(decode_all, compressor, payloads, side, public)
                cases += [
                    ({"what": "encode"} | setting, encode),
                    ({"what": "decode"} | setting, decode),
                ]
    return cases


def rounds(arguments: argparse.Namespace, device: torch.device) -> list[Case]:
    """Rounds of FedSGD."""
    cases: list[Case] = []
    for name in ("w2_mlp", "w2_cnn"):
        work, network = name.split("_")
        workload = WORKLOADS[work]
        shards = [Shard(each.x.to(device), each.y.to(device)) for each in make_shards(workload)]
        for compressor in ("none", *arguments.compressors):
            federation, state = start(compressor, 2, MODELS[network], workload, shards)
            setting = {"what": name, "compressor": compressor, "bitrate": 2}
            cases.append((setting, partial(next_round, federation, state)))
    return cases


def next_round(federation: Federation, state: State) -> None:
    run_round(federation, state, state.round + 1)


def timed(arguments: argparse.Namespace, function: Callable[[], object]) -> list[float]:
    """Seconds of several calls after some to warm up, until the device has done its part."""

    def whole() -> None:
        function()
        torch.cuda.synchronize()

    return seconds_of(arguments.warmup, arguments.repetitions, whole)


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
    }


def worked(function: Callable[[], object]) -> dict[str, Any]:
    """The seconds of one call that the device worked, and the kernels that took most of them."""
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        function()
        torch.cuda.synchronize()
    kernels = [(event.self_device_time_total, event.key) for event in watched.key_averages()]
    most = sorted(kernels, reverse=True)[:4]
    return {
        "device_seconds": sum(microseconds for microseconds, _ in kernels) / 1e6,
        "most_of_it": "; ".join(f"{name[:40]} {spent:.0f} us" for spent, name in most),
    }


def summary(table: pd.DataFrame, device: torch.device) -> str:
    """Medians, rates and how much of the time the device works, as Markdown."""
    machine = describe_environment(device)
    middle, low, high = (
        (1000 * table[name]).map("{:.3g}".format) for name in ("seconds", "fastest", "slowest")
    )
    shown = table.assign(
        **{name: table[name].map("{:.0f}".format) for name in ("bitrate", "clients", "dim")},
        **{
            "ms": middle + " (" + low + "-" + high + ")",
            "GB/s": (table.bytes / table.seconds / 1e9).map("{:.3g}".format),
            "rounds per second": (1 / table.seconds).map("{:.3g}".format),
            "the device works": (1000 * table.device_seconds).map("{:.3g} ms".format),
            "work": table["what"].map(DESCRIPTIONS),
        },
    )
    columns = {
        "Copies": (table.compressor.isna(), ["what", "ms", "GB/s"]),
        "Codecs, GB of float32 per second": (
            table.dim.notna(),
            ["what", "compressor", "bitrate", "clients", "dim", "ms", "GB/s", "the device works"],
        ),
        "Rounds at 2 bits per coordinate": (
            shown.work.notna(),
            ["work", "compressor", "ms", "rounds per second", "the device works"],
        ),
    }
    parts = [
        "# Speed on a GPU\n",
        generated_by("make benchmark-gpu"),
        f"{machine['device']}, torch {torch.__version__}, Python {platform.python_version()}, commit"
        f" {machine['git_commit']}. Median (fastest-slowest) of calls, and of another one how long the"
        " device works.\n",
    ]
    for title, (rows, names) in columns.items():
        parts += [f"## {title}\n", as_table(shown[rows][names]), ""]
    return "\n".join(parts)


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--compressors", nargs="+", default=COMPRESSORS, help="of conf/compressor/")
    parser.add_argument("--turns", type=int, default=3, help="of all that is timed")
    parser.add_argument("--repetitions", type=int, default=5, help="timed calls in a turn")
    parser.add_argument("--warmup", type=int, default=2, help="calls before them")
    parser.add_argument("--results-dir", default="results")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
