"""What the peers' scripts time, what they are asked and what they print; needs nothing but Python."""

import argparse
import json
from collections import namedtuple

SEED = 0
CLASSES = 10
PARAMETERS = {"mlp": 199_210, "cnn": 1_663_370}

Workload = namedtuple("Workload", "population cohort examples batch client_lr server_lr")
WORKLOADS = {
    "w1": Workload(100, 10, 600, 20, 0.1, 1.0),  # FedAvg: one local epoch
    "w2": Workload(20, 20, 64, 64, 1.0, 0.1),  # FedSGD: the update of one unit step is a gradient
}


def parse(description: str | None, first_is_timed: bool) -> argparse.Namespace:
    """Parse a script's arguments; where the first round can not be timed, it must be warm-up."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workload", choices=[f"{w}_{n}" for w in WORKLOADS for n in PARAMETERS])
    for option, default in (("threads", 2), ("rounds", 5), ("warmup", 2)):
        parser.add_argument(f"--{option}", type=int, default=default)
    args = parser.parse_args()
    if not first_is_timed and args.warmup < 1:
        parser.error("the first round can not be timed, so --warmup must be at least 1")
    return args


def print_result(
    args: argparse.Namespace, system: str, version: str, backend: str, seconds: list[float]
) -> None:
    """Print the JSON object that scripts/benchmark.py reads."""
    print(
        json.dumps(
            {
                "system": system,
                "version": version,
                "backend": backend,
                "workload": args.workload,
                "threads": args.threads,
                "seconds": seconds,
            }
        )
    )
