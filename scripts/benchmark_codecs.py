"""Time encoding and decoding of Gaussian vectors for several clients.

python scripts/benchmark_codecs.py --dims 1048576 --clients 16 --compressors eden --repetitions 5

Prints one JSON object per compressor and dimension, seconds of every repetition; `copy` is a copy of
the vectors into memory that is already there, the ceiling. Side information is 10 dB from the update.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import wzfl  # isort: skip  # before torch: see wzfl.openmp

import torch
from run_command import argument_parser, run_command
from torch import Tensor

from wzfl.compressors import Compressor
from wzfl.decoding import decode
from wzfl.environment import keep_freed_memory
from wzfl.exchange import in_chunks
from wzfl.public import Public

RESIDUAL = 10**-0.5  # RMS per coordinate of update less side information
COMPRESSORS = ["wyner_ziv", "eden", "qsgd", "signsgd", "topk"]


def main() -> None:
    arguments = parse()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    for dim in arguments.dims:
        measure(arguments, dim)


def measure(arguments: argparse.Namespace, dim: int) -> None:
    clients = arguments.clients
    torch.manual_seed(0)
    updates = torch.randn(clients, dim)
    side = updates + RESIDUAL * torch.randn(clients, dim)
    public = Public(0, 0, tuple(range(clients)), torch.full((clients,), RESIDUAL))
    time_it = partial(timed, arguments.warmup, arguments.repetitions)
    report(arguments, dim, "copy", encode=time_it(torch.empty_like(updates).copy_, updates))
    for name in arguments.compressors:
        compressor = wzfl.build_compressor(name, bitrate=arguments.bitrate)
        payloads = encode_all(compressor, updates, public)
        report(
            arguments,
            dim,
            name,
            encode=time_it(encode_all, compressor, updates, public),
            decode=time_it(decode_all, compressor, payloads, side, public),
            bits_per_coordinate=8 * len(payloads[0]) / dim,
        )


def encode_all(compressor: Compressor, updates: Tensor, public: Public) -> list[bytes]:
    """Encodes as a round does: a few clients at a time, on all cores."""

    def some(rows: slice) -> list[bytes]:
        return compressor.encode(updates[rows], public.rows(rows))

    return [payload for payloads in in_chunks(some, updates) for payload in payloads]


def decode_all(compressor: Compressor, payloads: list[bytes], side: Tensor, public: Public) -> None:
    """Decodes as a round does, which has no use for all estimates at once."""

    def some(rows: slice) -> None:
        decode(compressor, payloads[rows], side[rows], public.rows(rows))

    in_chunks(some, side)


def timed(
    warmup: int, repetitions: int, function: Callable[..., object], *operands: object
) -> list[float]:
    """The seconds of each call after the first `warmup`."""
    seconds = []
    for _ in range(warmup + repetitions):
        begin = time.perf_counter()
        function(*operands)
        seconds.append(time.perf_counter() - begin)
    return seconds[warmup:]


def report(arguments: argparse.Namespace, dim: int, name: str, **measured: object) -> None:
    settings = {"clients": arguments.clients, "dim": dim, "threads": arguments.threads}
    print(json.dumps({"compressor": name, **settings, **measured}), flush=True)


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--dims", nargs="+", type=int, default=[2**20])
    parser.add_argument(
        "--compressors", nargs="+", default=COMPRESSORS, help="names of conf/compressor/"
    )
    for option, default in (("clients", 16), ("threads", 2), ("repetitions", 5), ("warmup", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--bitrate", type=float, default=2, help="bits per coordinate")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
