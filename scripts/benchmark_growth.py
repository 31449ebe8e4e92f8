"""Time and peak memory of one point of a growing federation, in a process of its own.

    python scripts/benchmark_growth.py clients 1000 --compressor wyner_ziv
    python scripts/benchmark_growth.py cnn_clients 1000 --compressor none
    python scripts/benchmark_growth.py dimension 100000000 --compressor eden
    python scripts/benchmark_growth.py population 10000 --precision bfloat16 --capacity 5000

Prints one JSON object. What grows:
  clients      in a round of FedSGD of the MLP (199 210 parameters), 64 examples each
  cnn_clients  in a round of FedAvg of the CNN (1 663 370 parameters), 20 examples each
  dimension    of two clients' Gaussian vectors that are encoded and decoded
  population   of which 20 clients take part in a round of the first kind, all heard of before, each
               client's last update kept
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import wzfl  # isort: skip  # before torch: see wzfl.openmp

import torch
from benchmark_codecs import decode_all, encode_all
from benchmark_rounds import MODELS, Workload, make_examples, peak_memory, start
from run_command import argument_parser, run_command

from wzfl.client import ClientWork, FedAvg, FedSGD
from wzfl.environment import keep_freed_memory
from wzfl.federation import Federation, State
from wzfl.public import Public
from wzfl.side_information import Decoded
from wzfl.simulation import run_round

COHORT = 20
SETTLED, MOST = 3, 20  # repetitions
WORK: dict[str, tuple[int, ClientWork]] = {  # examples of a client, and what it does with them
    "mlp": (64, FedSGD(batch_size=64)),
    "cnn": (20, FedAvg(epochs=1, batch_size=20, lr=0.1)),
}


def main() -> None:
    arguments = parse()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    measure: dict[str, Callable[[argparse.Namespace], list[float]]] = {
        "clients": partial(rounds, "mlp"),
        "cnn_clients": partial(rounds, "cnn"),
        "dimension": codec,
        "population": population,
    }
    seconds = measure[arguments.what](arguments)
    print(json.dumps(vars(arguments) | {"seconds": seconds, "peak_memory_bytes": peak_memory()}))


def rounds(network: str, arguments: argparse.Namespace) -> list[float]:
    federation, state = grown(network, arguments, arguments.size, arguments.size)
    return timed(arguments, lambda number: run_round(federation, state, number))


def population(arguments: argparse.Namespace) -> list[float]:
    federation, state = grown("mlp", arguments, arguments.size, COHORT)
    side = federation.side_information
    estimates = torch.randn(COHORT, federation.model.dim)
    for clients in torch.arange(arguments.size).split(COHORT):
        side.plan(state.side, clients)
        expected = side.predict(state.side, clients)
        decoded = Decoded(clients, expected, estimates[: len(clients)], clients < 0, gain=1.0)
        side.learn(state.side, decoded)
    return timed(arguments, lambda number: run_round(federation, state, number))


def codec(arguments: argparse.Namespace) -> list[float]:
    compressor = wzfl.build_compressor(arguments.compressor, bitrate=arguments.bitrate)
    updates = torch.randn(2, arguments.size)
    side = updates + 0.1 * torch.randn(1, arguments.size)
    public = Public(0, 0, (0, 1), torch.full((2,), 0.1))

    def there_and_back(number: int) -> None:
        decode_all(compressor, encode_all(compressor, updates, public), side, public)

    return timed(arguments, there_and_back)


def grown(
    network: str, arguments: argparse.Namespace, clients: int, cohort: int
) -> tuple[Federation, State]:
    """A federation of so many clients, who share a few examples: memory is not to be that of the data."""
    workload = Workload(clients, cohort, *WORK[network], server_lr=0.1)
    several = [make_examples(workload.examples) for _ in range(COHORT)]
    shards = [several[client % COHORT] for client in range(clients)]
    memory = {"precision": arguments.precision, "capacity": arguments.capacity}
    asked = (arguments.compressor, arguments.bitrate, MODELS[network])
    return start(*asked, workload, shards, **memory)


def timed(arguments: argparse.Namespace, step: Callable[[int], object]) -> list[float]:
    """The seconds of each repetition: at least so many, and MOST unless they take a second before."""
    warmup = settle(step)
    seconds: list[float] = []
    while len(seconds) < arguments.repetitions or (sum(seconds) < 1 and len(seconds) < MOST):
        begin = time.perf_counter()
        step(warmup + len(seconds) + 1)
        seconds.append(time.perf_counter() - begin)
    return seconds


def settle(step: Callable[[int], object]) -> int:
    """Repeats until the process has its memory: SETTLED times, in which its peak hardly rose; or MOST.

    Threads ask for large blocks in another order each time, so that the heap grows now and then. Returns
    how often it repeated.
    """
    peaks = [peak_memory()]
    while len(peaks) <= MOST and (len(peaks) <= SETTLED or peaks[-1] > 1.01 * peaks[-1 - SETTLED]):
        step(len(peaks))
        peaks.append(peak_memory())
    return len(peaks) - 1


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("what", choices=["clients", "cnn_clients", "dimension", "population"])
    parser.add_argument("size", type=int)
    parser.add_argument("--compressor", default="wyner_ziv", help="a name of conf/compressor/")
    parser.add_argument("--bitrate", type=float, default=2, help="bits per coordinate")
    parser.add_argument("--precision", default="float32", help="of side information")
    parser.add_argument("--capacity", type=int, help="clients remembered; default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
