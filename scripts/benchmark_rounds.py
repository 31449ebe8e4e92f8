"""Time federated rounds on synthetic data of MNIST's shape, compressed or not.

python scripts/benchmark_rounds.py w2_mlp --compressors none eden --threads 2 --rounds 5 --warmup 2

Prints one JSON object per compressor with the wall seconds of each round after the warm-up. A round is
all that a run does between two evaluations: sampling, local training, encoding and decoding real bytes,
aggregation, errors and bits for the record. With --evaluate each is followed by an evaluation on as many
images as MNIST has for tests, timed apart. Compressors take turns, so that a slow moment of the
machine hits them alike. Workloads are those of scripts/peers/.
"""

import argparse
import json
import resource
import time
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import wzfl  # isort: skip  # before torch: see wzfl.openmp

import torch
from run_command import argument_parser, run_command

from wzfl.client import ClientWork, FedAvg, FedSGD, Shard
from wzfl.environment import keep_freed_memory
from wzfl.federation import Federation, State
from wzfl.metrics import evaluate
from wzfl.models import Model, cnn, mlp
from wzfl.server import Server
from wzfl.side_information import Last, Zero
from wzfl.simulation import run_round

SHAPE, CLASSES, TESTS = (1, 28, 28), 10, 10_000
MODELS = {"mlp": mlp(SHAPE, CLASSES, [200, 200]), "cnn": cnn(SHAPE, CLASSES)}
PARAMETERS = {"mlp": 199_210, "cnn": 1_663_370}


class Workload(NamedTuple):
    """What is trained in a round."""

    population: int
    cohort: int
    examples: int
    work: ClientWork
    server_lr: float


WORKLOADS = {
    "w1": Workload(100, 10, 600, FedAvg(epochs=1, batch_size=20, lr=0.1), 1.0),
    "w2": Workload(20, 20, 64, FedSGD(batch_size=64), 0.1),
}


def main() -> None:
    arguments = parse()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    work, network = arguments.workload.split("_")
    model, workload = MODELS[network], WORKLOADS[work]
    assert model.dim == PARAMETERS[network]
    shards = make_shards(workload)
    runs = {
        name: start(name, arguments.bitrate, model, workload, shards)
        for name in arguments.compressors
    }
    tests = make_examples(TESTS if arguments.evaluate else 0)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    evaluations: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(1, arguments.warmup + arguments.rounds + 1):
        for name, (federation, state) in runs.items():
            begin = time.perf_counter()
            run_round(federation, state, number)
            seconds[name].append(time.perf_counter() - begin)
            if arguments.evaluate:
                begin = time.perf_counter()
                evaluate(model, state.server.weights.detach(), tests.x, tests.y)
                evaluations[name].append(time.perf_counter() - begin)
    for name, all_seconds in seconds.items():
        print(
            json.dumps(
                {
                    "system": "wzfl",
                    "version": version("wzfl"),
                    "backend": f"torch {torch.__version__}",
                    "workload": arguments.workload,
                    "threads": arguments.threads,
                    "compressor": name,
                    "seconds": all_seconds[arguments.warmup :],
                    "evaluation_seconds": evaluations[name][arguments.warmup :],
                    "peak_memory_bytes": peak_memory(),
                }
            )
        )


def make_shards(workload: Workload) -> list[Shard]:
    return [make_examples(workload.examples) for _ in range(workload.population)]


def make_examples(count: int) -> Shard:
    return Shard(torch.randn(count, *SHAPE), torch.randint(CLASSES, (count,)))


def start(
    name: str, bitrate: float, model: Model, workload: Workload, shards: list[Shard], **memory: Any
) -> tuple[Federation, State]:
    """A federation on the device of its shards, and its first state; `memory` is what `Last` takes."""
    compressor = wzfl.build_compressor(name, bitrate=bitrate)
    side = Last(**memory) if name.startswith("wyner_ziv") else Zero()
    federation = Federation(
        model, shards, workload.work, compressor, side, compressor.aggregation, workload.cohort, 0
    )
    optimizer = partial(torch.optim.SGD, lr=workload.server_lr)
    weights = model.init(0).to(shards[0].x.device)
    return federation, State.initial(federation, Server(weights, optimizer))


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "workload", choices=[f"{work}_{model}" for work in WORKLOADS for model in MODELS]
    )
    parser.add_argument(
        "--compressors", nargs="+", default=["none"], help="names of conf/compressor/"
    )
    for option, default in (("threads", 2), ("rounds", 5), ("warmup", 2)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--bitrate", type=float, default=2, help="bits per coordinate")
    parser.add_argument("--evaluate", action="store_true", help="and time evaluations")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
